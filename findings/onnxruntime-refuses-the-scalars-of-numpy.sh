#!/usr/bin/env bash
# ONNX Runtime 1.31.1: InferenceSession.run() takes an array without dimensions for a scalar input but no NumPy scalar
# of the same type, although arithmetic and indexing of arrays return those: x is accepted and x + x is refused. A list of
# one number is accepted where a scalar is declared, and the answer then has another shape than the model says.
#
# Seen: np.array(3) is negated; np.array(3) + 0, np.arange(4)[3] and 3 raise "Unable to handle object of type"; [3] is
# answered with an array of shape (1,).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

ort.set_default_logger_severity(3)
infos = [helper.make_tensor_value_info(name, TensorProto.INT64, []) for name in "xy"]
graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", infos[:1], infos[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
session = ort.InferenceSession(model.SerializeToString())
x = np.array(3)
for text, given in {"x": x, "x + 0": x + 0, "arange(4)[3]": np.arange(4)[3], "3": 3, "[3]": [3]}.items():
    try:
        found = session.run(None, {"x": given})[0]
        answer, shape = str(found), np.shape(found)
    except RuntimeError as error:
        answer, shape = str(error), None
    print("ONNX Runtime", ort.__version__, text, type(given).__name__, "->", answer)
    if text in ("x", "[3]"):
        assert shape == np.shape(given) and found == -3, "what was accepted is no longer"
    else:
        assert "Unable to handle object of type" in answer, "scalars are accepted"
PYTHON
