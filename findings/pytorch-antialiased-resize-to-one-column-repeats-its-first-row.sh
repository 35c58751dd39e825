#!/usr/bin/env bash
# PyTorch 2.13.0 on CPU: interpolate with antialias=True to a width of one column gives every output row the first row's
# value, for FP32 and FP64, with any number of channels. Two columns are right, and so is resizing one axis after the
# other.
#
# Seen: six rows of 0 to 35, resized to three rows and one column: [6.79, 6.79, 6.79] in one step; [6.79, 17.5, 28.21],
# which the mean of the two columns of a width of two is as well, in two steps.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch.nn.functional import interpolate


def resize(x, *size):
    return interpolate(x, size=size, mode="bilinear", antialias=True)


x = torch.arange(36.0, dtype=torch.float64).reshape(1, 1, 6, 6)
once, twice = resize(x, 3, 1).flatten(), resize(resize(x, 3, 6), 3, 1).flatten()
single = resize(x.float(), 3, 1).flatten()
print("PyTorch", torch.__version__, "in one step:", once.tolist(), "in two:", twice.tolist())
assert torch.allclose(resize(x, 3, 2).mean(-1).flatten(), twice), "the right answer has changed"
assert torch.allclose(twice, torch.tensor([6.785714, 17.5, 28.214286], dtype=torch.float64))
assert torch.allclose(once, twice[0].expand(3)), "one column is now answered otherwise"
assert torch.allclose(single, twice[0].float().expand(3)), "FP32 is now answered otherwise"
PYTHON
