#!/usr/bin/env bash
# PyTorch 2.13.0, torch.onnx.export with dynamo=False: index_put(accumulate=True) becomes a ScatterND without a
# reduction onto zeros and an Add, so that of values for the same index the last one stays. The same holds for opsets 16
# and up, whose ScatterND has the reduction "add". The exporter with dynamo=True is right.
#
# Seen: 1, 2 and 3 put at 0, 0 and 2 give [3, 0, 3] in PyTorch, and [2, 0, 3] in the exported file.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.31.1
"$folder/venv/bin/python" - <<'PYTHON'
import io
import warnings

import onnxruntime as ort
import torch

warnings.simplefilter("ignore")


class Scatter(torch.nn.Module):
    def forward(self, values, at):
        return torch.zeros(3).index_put((at,), values, accumulate=True)


given = torch.tensor([1.0, 2, 3]), torch.tensor([0, 0, 2])
right = Scatter()(*given).tolist()
files = {}
for opset in (16, 18):
    file = io.BytesIO()
    torch.onnx.export(Scatter(), given, file, dynamo=False, opset_version=opset)
    files[f"opset {opset}"] = file.getvalue()
files["dynamo"] = torch.onnx.export(Scatter(), given, dynamo=True, verbose=False).model_proto.SerializeToString()
found = {}
for name, model in files.items():
    session = ort.InferenceSession(model)
    inputs = {each.name: value.numpy() for each, value in zip(session.get_inputs(), given)}
    found[name] = session.run(None, inputs)[0].tolist()
print("PyTorch", torch.__version__, right, "exported:", found)
assert right == [3, 0, 3]
assert found["opset 16"] == found["opset 18"] == [2, 0, 3], "the exporter without dynamo has changed"
assert found["dynamo"] == right, "the exporter with dynamo has changed"
PYTHON
