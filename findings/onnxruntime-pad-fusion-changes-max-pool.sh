#!/usr/bin/env bash
# ONNX Runtime 1.31.1: with its default optimisation, a Pad of zeros before a MaxPool is fused into the pool, whose own
# padding never wins. Where all values of a window are negative, zero should win, and the answer changes.
#
# Seen: [0, 0, 0, 0, -5, 0, 0, 0, 0] with optimisation off or without Pad_Fusion, nine times -5 with the defaults.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

pads = helper.make_tensor("pads", TensorProto.INT64, [8], [0, 0, 1, 1, 0, 0, 1, 1])
nodes = [
    helper.make_node("Pad", ["x", "pads"], ["p"]),
    helper.make_node("MaxPool", ["p"], ["y"], kernel_shape=[2, 2]),
]
infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, None, None]) for name in "xy"]
graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], [pads])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
x = np.full((1, 1, 2, 2), -5, np.float32)


def answer(level, disabled=()):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    session = ort.InferenceSession(model, options, disabled_optimizers=list(disabled))
    return session.run(None, {"x": x})[0].ravel().astype(int).tolist()


levels = ort.GraphOptimizationLevel
off, without = answer(levels.ORT_DISABLE_ALL), answer(levels.ORT_ENABLE_ALL, ["Pad_Fusion"])
default = answer(levels.ORT_ENABLE_ALL)
print("ONNX Runtime", ort.__version__, "off:", off, "without Pad_Fusion:", without, "default:", default)
assert off == without == [0, 0, 0, 0, -5, 0, 0, 0, 0], "the right answer has changed"
assert default == [-5] * 9, "the default now answers differently"
PYTHON
