#!/usr/bin/env bash
# PyTorch 2.13.0: a module that returns a text next to a tensor is exported and saved without a warning, and
# torch.export.load refuses the file. A constant number or None in the same place is loaded.
#
# Seen: export and save succeed; load raises "We ran into an error when deserializing the saved file", and logs "Unable
# to deserialize output node Argument(as_string='text')".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import torch


class Returns(torch.nn.Module):
    def __init__(self, constant):
        super().__init__()
        self.constant = constant

    def forward(self, x):
        return x + 1, self.constant


def reloaded(constant):
    program = torch.export.export(Returns(constant), (torch.zeros(2),))
    assert program.module()(torch.zeros(2))[1] == constant
    torch.export.save(program, "model.pt2")
    return torch.export.load("model.pt2").module()(torch.zeros(2))[1]


for constant in (5, None):
    assert reloaded(constant) == constant
try:
    found = reloaded("text")
except Exception as error:
    print("PyTorch", torch.__version__, "saves a text and cannot load it:", str(error).strip())
else:
    raise SystemExit("a text is loaded now: %r" % found)
PYTHON
