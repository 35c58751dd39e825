#!/usr/bin/env bash
# PyTorch 2.13.0, torch.onnx.export with dynamo=False (the only way for a loaded TorchScript archive): `//` and `>>`
# round toward zero in the exported file, floats included, while torch.div(rounding_mode="floor") of the same numbers is
# exported with its correction. Indices and grid cells of negative offsets are then off by one.
#
# Seen: -7 // 2, -7 >> 1 and -6.5 // 2 are -4 in PyTorch, and -3 in the exported file; div with "floor" is -4 in both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 onnx==1.23.2 onnxruntime==1.31.1
"$folder/venv/bin/python" - <<'PYTHON'
import io
import warnings

import onnxruntime as ort
import torch

warnings.simplefilter("ignore")


class Halves(torch.nn.Module):
    def forward(self, i, x):
        return i // 2, i >> 1, x // 2, torch.div(i, 2, rounding_mode="floor")


given = torch.tensor([-7]), torch.tensor([-6.5])
right = [each.item() for each in Halves()(*given)]
file = io.BytesIO()
torch.onnx.export(Halves(), given, file, dynamo=False)
session = ort.InferenceSession(file.getvalue())
inputs = {each.name: value.numpy() for each, value in zip(session.get_inputs(), given)}
found = [each.item() for each in session.run(None, inputs)]
print("PyTorch", torch.__version__, "//, >>, // of floats, div:", right, "exported:", found)
assert right == [-4, -4, -4, -4]
assert found == [-3, -3, -3, -4], "the export has changed"
PYTHON
