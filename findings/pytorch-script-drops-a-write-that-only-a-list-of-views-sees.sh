#!/usr/bin/env bash
# PyTorch 2.13.0: torch.jit.script removes an in-place write to a tensor whose views are in a list, where the result is
# computed from the list as a whole. The write is missing from the script's graph already, so optimization settings do
# not matter. Listing the views after the write, or returning the written tensor too, keeps it, and so does tracing.
#
# Seen: rows of zeros, listed, filled by copy_(x) and concatenated are x in Python and zeros in the script; the graph has
# no copy_.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cat > "$folder/check.py" <<'PYTHON'
import warnings

import torch

warnings.simplefilter("ignore")


def listed_first(x):
    buffer = torch.zeros_like(x)
    rows = [buffer[0], buffer[1]]
    buffer.copy_(x)
    return torch.cat(rows)


def listed_after(x):
    buffer = torch.zeros_like(x)
    first, second = buffer[0], buffer[1]
    buffer.copy_(x)
    return torch.cat([first, second])


def buffer_returned(x):
    buffer = torch.zeros_like(x)
    rows = [buffer[0], buffer[1]]
    buffer.copy_(x)
    return torch.cat(rows), buffer


x = torch.tensor([[1.0, 2], [3, 4]])
script = torch.jit.script(listed_first)
right, found = listed_first(x).tolist(), script(x).tolist()
print("PyTorch", torch.__version__, "Python:", right, "script:", found)
assert right == [1, 2, 3, 4]
assert found == [0, 0, 0, 0], "the script is now answered otherwise"
assert "copy_" not in str(script.graph), "the write is now in the graph"
assert torch.jit.script(listed_after)(x).tolist() == right
assert torch.jit.script(buffer_returned)(x)[0].tolist() == right
assert torch.jit.trace(listed_first, (x,), check_trace=False)(x).tolist() == right
PYTHON
"$folder/venv/bin/python" "$folder/check.py"
