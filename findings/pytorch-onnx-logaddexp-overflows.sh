#!/usr/bin/env bash
# PyTorch 2.13.0 with onnxscript 0.7.2: torch.logaddexp is exported (dynamo=True) as log(exp(a) + exp(b)), without the
# shift that the function is there for. logsumexp in the same model stays finite.
#
# Seen: logaddexp(100, 0) is 100 in PyTorch and inf in the exported file; logsumexp of the same two is 100 in both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.31.1
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import onnxruntime as ort
import torch

warnings.simplefilter("ignore")


class Sums(torch.nn.Module):
    def forward(self, x):
        return torch.logaddexp(x[0], x[1]), torch.logsumexp(x, 0)


x = torch.tensor([100.0, 0.0])
right = [each.item() for each in Sums()(x)]
model = torch.onnx.export(Sums(), (x,), dynamo=True, verbose=False).model_proto.SerializeToString()
session = ort.InferenceSession(model)
found = [each.item() for each in session.run(None, {session.get_inputs()[0].name: x.numpy()})]
print("PyTorch", torch.__version__, "logaddexp, logsumexp:", right, "exported:", found)
assert right == [100, 100]
assert found == [float("inf"), 100], "the export has changed"
PYTHON
