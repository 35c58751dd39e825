#!/usr/bin/env bash
# PyTorch 2.13.0: torch.export.export is wrong about which sizes are fixed, both ways, where a guard is not linear in the
# size. Thirds takes any number of rows, but a named Dim refuses it and reports the size of the example as the only one
# that is possible. Gram's layer of 9 weights takes three rows only, but Dim.DYNAMIC, which is meant to fail for such a
# model, exports it with the range [2, inf], and the exported module then refuses every size but three.
#
# Seen: Thirds with Dim("n", min=1) "resulted in a specialized value of 3" for an example of three rows, "of 6" for one of
# six; with Dim.DYNAMIC, it is right for 1 to 100 rows. Gram's range is [2, inf]; four rows fail with
# "Guard failed: x.size()[0] * x.size()[0] == 9".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import logging
import warnings

import torch
from torch.export import Dim, export

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)


class Gram(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(9, 1)

    def forward(self, x):
        return self.linear((x @ x.T).flatten())


class Thirds(torch.nn.Module):
    def forward(self, x):
        return torch.cat([x, x + 1, x + 2]).chunk(3)[1]


def exported(module, rows, size):
    return export(module, (torch.ones(rows, 2),), dynamic_shapes=({0: size},))


def refusal(call):
    try:
        call()
    except Exception as error:
        return str(error)
    return "none"


gram = exported(Gram(), 3, Dim.DYNAMIC)
(span,) = gram.range_constraints.values()
four = refusal(lambda: gram.module()(torch.ones(4, 2)))
print("PyTorch", torch.__version__, "Gram's range:", span, "three rows:", gram.module()(torch.ones(3, 2)).shape)
print("four rows:", four)
assert (span.lower, str(span.upper)) == (2, "int_oo"), "the range has changed"
assert "x.size()[0] * x.size()[0] == 9" in four, "four rows have changed"

thirds = exported(Thirds(), 3, Dim.DYNAMIC).module()
for rows in range(1, 101):
    x = torch.randn(rows, 2)
    assert torch.equal(thirds(x), Thirds()(x)), "Thirds has changed"
for rows in (3, 6):
    text = refusal(lambda: exported(Thirds(), rows, Dim("n", min=1)))
    print("Thirds, example of", rows, "rows:", *(line.strip() for line in text.splitlines() if "specialized" in line))
    assert f"specialized value of {rows}" in text, "a named Dim has changed"
PYTHON
