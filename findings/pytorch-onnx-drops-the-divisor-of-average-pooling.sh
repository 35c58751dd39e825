#!/usr/bin/env bash
# PyTorch 2.13.0: both exporters to ONNX (with dynamo and without) leave out avg_pool2d's divisor_override. The file is
# valid, nothing warns, and every number is off by the same factor.
#
# Seen: sums of 2 x 2 divided by 3 come out divided by 4.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.31.1
"$folder/venv/bin/python" - <<'PYTHON'
import io
import warnings

import numpy as np
import onnxruntime as ort
import torch

warnings.simplefilter("ignore")


class Pool(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.avg_pool2d(x, 2, divisor_override=3)


x = torch.arange(16.0).reshape(1, 1, 4, 4)
right = Pool()(x).numpy()
file = io.BytesIO()
torch.onnx.export(Pool(), (x,), file, dynamo=False)
files = {"without dynamo": file.getvalue()}
files["with dynamo"] = torch.onnx.export(Pool(), (x,), dynamo=True, verbose=False).model_proto.SerializeToString()
for name, model in files.items():
    session = ort.InferenceSession(model)
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    print("PyTorch", torch.__version__, name, "right:", right.ravel(), "exported:", found.ravel())
    assert np.allclose(found, right * 3 / 4), "the export has changed"
PYTHON
