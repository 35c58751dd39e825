#!/usr/bin/env bash
# ONNX Runtime 1.31.1: WeightBiasQuantization turns the float weights of a Gemm between two QuantizeLinear and
# DequantizeLinear pairs into int8 with one scale for all. One large weight then zeroes the small ones, and the answer is
# off by far more than the output's quantisation step, though nobody asked for these weights to be quantised.
#
# Seen: [100, 0.5] is right (and comes without that optimizer); the second number is 0 with the defaults.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

weights = np.array([[100, 0.25], [0, 0.25]], np.float32)
constants = [numpy_helper.from_array(weights, "w")]
for name, scale in (("in", 0.01), ("out", 0.5)):
    constants.append(numpy_helper.from_array(np.array(scale, np.float32), name + "_scale"))
    constants.append(numpy_helper.from_array(np.array(0, np.uint8), name + "_zero"))


def pair(source, target, name):
    given = [name + "_scale", name + "_zero"]
    return [helper.make_node("QuantizeLinear", [source, *given], [target + "_q"]),
            helper.make_node("DequantizeLinear", [target + "_q", *given], [target])]


nodes = [*pair("x", "a", "in"), helper.make_node("Gemm", ["a", "w"], ["b"]), *pair("b", "y", "out")]
infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy"]
graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], constants)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def answer(disabled):
    session = ort.InferenceSession(model, disabled_optimizers=disabled)
    return session.run(None, {"x": np.ones((1, 2), np.float32)})[0].ravel().tolist()


default, without = answer([]), answer(["WeightBiasQuantization"])
print("ONNX Runtime", ort.__version__, "default:", default, "without WeightBiasQuantization:", without)
assert without == [100, 0.5], "the right answer has changed"
assert default != without, "the defaults now answer alike"
PYTHON
