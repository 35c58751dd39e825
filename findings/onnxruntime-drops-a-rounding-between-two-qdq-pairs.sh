#!/usr/bin/env bash
# ONNX Runtime 1.31.1: of two QuantizeLinear and DequantizeLinear pairs in a row, DoubleQDQPairsRemover keeps one, and with
# it one rounding. A model that quantises finely and then coarsely no longer answers multiples of the coarse step.
#
# Seen: 0.3 through steps of 0.02 and then of 0.5 is 0.5 without that optimizer, and no multiple of 0.5 with the defaults.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

constants, nodes, at = [], [], "x"
for name, scale, target in (("fine", 0.02, "a"), ("coarse", 0.5, "y")):
    constants.append(numpy_helper.from_array(np.array(scale, np.float32), name + "_scale"))
    constants.append(numpy_helper.from_array(np.array(3, np.uint8), name + "_zero"))
    given = [name + "_scale", name + "_zero"]
    nodes.append(helper.make_node("QuantizeLinear", [at, *given], [name]))
    nodes.append(helper.make_node("DequantizeLinear", [name, *given], [target]))
    at = target
infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], constants)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def answer(disabled):
    session = ort.InferenceSession(model, disabled_optimizers=disabled)
    return session.run(None, {"x": np.array([0.3, -6], np.float32)})[0]


default, without = answer([]), answer(["DoubleQDQPairsRemover"])
print("ONNX Runtime", ort.__version__, "default:", default, "without DoubleQDQPairsRemover:", without)
assert without.tolist() == [0.5, 0], "the right answer has changed"
assert not np.allclose(default, without, atol=1e-3), "the defaults now answer alike"
PYTHON
