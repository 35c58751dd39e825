#!/usr/bin/env bash
# ONNX Runtime 1.31.1: an input that the file declares as a scalar is an input of unknown rank for it. Its shape is [] in
# both cases, so nothing in its interface tells them apart, and a scalar accepts a matrix, while an input of shape [2]
# refuses one. In the file, the field `shape` is empty for a scalar, and absent for an unknown rank.
#
# Seen: the shape [] twice, each of which accepts a matrix; the shape [2], which does not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cd "$folder"
cat >ranks.py <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper


def asked(shape):
    """Return the shape that ONNX Runtime reports, and whether a matrix is accepted."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    try:
        session.run(None, {"x": np.ones((2, 3), np.float32)})
        accepted = True
    except Exception:
        accepted = False
    return session.get_inputs()[0].shape, accepted


scalar, unknown, vector = asked([]), asked(None), asked([2])
print("ONNX Runtime", onnxruntime.__version__, "scalar:", scalar, "unknown rank:", unknown, "vector:", vector)
assert scalar == unknown == ([], True), "a scalar has changed"
assert vector == ([2], False), "a vector has changed"
PYTHON
"$folder/venv/bin/python" ranks.py 2>/dev/null
