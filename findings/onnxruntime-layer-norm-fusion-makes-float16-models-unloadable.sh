#!/usr/bin/env bash
# ONNX Runtime 1.31.1: a layer normalization of FP16 that is computed in FP32, as mixed precision does, makes a valid
# model unloadable. LayerNormFusionL1 reads the FP16 input past the Cast to FP32 but keeps the FP32 scale and shift, and
# loading fails with a type error about a node that the file does not have. With a Cast back to FP16 before an FP16 scale
# and shift, the model loads.
#
# Seen: "Type parameter (T) of Optype (LayerNormalization) bound to different types (tensor(float16) and tensor(float)"
# with the defaults; without LayerNormFusionL1 the model loads and is right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, checker, helper, numpy_helper


def model(cast_back):
    kind = np.float16 if cast_back else np.float32
    constants = [numpy_helper.from_array(np.array(value, dtype), name) for name, value, dtype in
                 (("two", 2, np.float32), ("epsilon", 1e-3, np.float32), ("scale", [3] * 4, kind), ("shift", [1] * 4, kind))]
    nodes = [
        helper.make_node("Cast", ["x"], ["single"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["single"], ["mean"], axes=[-1]),
        helper.make_node("Sub", ["single", "mean"], ["less"]),
        helper.make_node("Pow", ["less", "two"], ["square"]),
        helper.make_node("ReduceMean", ["square"], ["variance"], axes=[-1]),
        helper.make_node("Add", ["variance", "epsilon"], ["sum"]),
        helper.make_node("Sqrt", ["sum"], ["deviation"]),
        helper.make_node("Div", ["less", "deviation"], ["divided"]),
        helper.make_node("Cast", ["divided"], ["normal"], to=helper.np_dtype_to_tensor_dtype(np.dtype(kind))),
        helper.make_node("Mul", ["normal", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["y"]),
    ]
    infos = [helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["n", 4])]
    infos.append(helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(np.dtype(kind)), ["n", 4]))
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(made, full_check=True)
    return made.SerializeToString()


def answer(file, disabled):
    session = ort.InferenceSession(file, disabled_optimizers=disabled)
    return session.run(None, {"x": np.array([[1, 2, 3, 6]], np.float16)})[0]


x = np.array([1, 2, 3, 6])
right = (x - x.mean()) / np.sqrt(x.var() + 1e-3) * 3 + 1
for cast_back in (False, True):
    without = answer(model(cast_back), ["LayerNormFusionL1"])
    assert np.allclose(without, right, atol=1e-2), "the right answer has changed"
try:
    answer(model(False), [])
except Exception as error:
    message = str(error)
else:
    raise SystemExit("the defaults now load the model")
print("ONNX Runtime", ort.__version__, "without LayerNormFusionL1:", without.ravel(), "default:", message)
assert "LayerNormalization" in message and "bound to different types" in message
assert np.allclose(answer(model(True), []), right, atol=1e-2), "a cast back no longer loads"
PYTHON
