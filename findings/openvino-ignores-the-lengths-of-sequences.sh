#!/usr/bin/env bash
# OpenVINO 2026.4.1 on a CPU: an LSTM whose number of rows is open ignores the lengths of its sequences, and runs over
# all steps. With a fixed number of rows it stops where each sequence ends.
#
# Seen: last state of a sequence of one step, open: the one after three steps; fixed: the one after one step.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openvino==2026.4.1 numpy==2.4.6 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cat >"$folder/lengths.py" <<'PYTHON'
import numpy as np
import openvino as ov
from openvino import opset13 as ops

ONES = np.ones((1, 8, 2), np.float32)


def last_state(rows, length):
    """Return the last state of a sequence of this length in a tensor of three steps. rows: -1 if they are open."""
    x, lengths = ops.parameter([rows, 3, 2], np.float32), ops.parameter([rows], np.int32)
    start = ops.parameter([rows, 1, 2], np.float32)
    made = ops.lstm_sequence(x, start, start, lengths, ONES, ONES, np.zeros((1, 8), np.float32), 2, "forward")
    model = ov.Model([made.output(1)], [x, lengths, start], "lstm")
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    given = [np.ones((1, 3, 2), np.float32), np.array([length], np.int32), np.zeros((1, 1, 2), np.float32)]
    return float(compiled(given)[0].flat[0])


open_rows, fixed_rows, whole = last_state(-1, 1), last_state(1, 1), last_state(1, 3)
print("OpenVINO", ov.__version__, "open:", open_rows, "fixed:", fixed_rows, "three steps:", whole)
assert abs(open_rows - whole) < 1e-5, "lengths are no longer ignored"
assert abs(fixed_rows - whole) > 0.1, "a fixed number of rows ignores lengths as well"
PYTHON
"$folder/venv/bin/python" "$folder/lengths.py"
