#!/usr/bin/env bash
# OpenVINO 2026.4.1 on a CPU with one thread: infer() returns as if it had succeeded when an operator refuses its input.
# The outputs are those of the run before. With two threads, and with start_async() and wait(), it raises.
#
# Seen: infer(): no error, [3, 2]; start_async(): RuntimeError.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openvino==2026.4.1 numpy==2.4.6 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cat >"$folder/threads.py" <<'PYTHON'
import numpy as np
import openvino as ov
from openvino import opset13 as ops

x, k = ops.parameter([-1, 3], np.float32), ops.parameter([], np.int64)
largest = ops.topk(x, k, 1, "max", "value").output(0)
model = ov.Model([largest], [x, k], "largest")
compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1})


def after_a_good_run(run):
    """Return what a run with k = 4 answers, for a tensor with three columns, after one with k = 2."""
    request = compiled.create_infer_request()
    row = np.array([[1, 2, 3]], np.float32)
    request.infer({0: row, 1: np.array(2)})
    try:
        run(request, {0: row, 1: np.array(4)})
    except RuntimeError:
        return "RuntimeError"
    return request.get_output_tensor(0).data.tolist()


def asynchronously(request, inputs):
    request.start_async(inputs)
    request.wait()


dropped = after_a_good_run(lambda request, inputs: request.infer(inputs))
raised = after_a_good_run(asynchronously)
print("OpenVINO", ov.__version__, "infer():", dropped, "start_async():", raised)
assert dropped == [[3, 2]], "infer() has changed"
assert raised == "RuntimeError", "start_async() has changed"
PYTHON
"$folder/venv/bin/python" "$folder/threads.py"
