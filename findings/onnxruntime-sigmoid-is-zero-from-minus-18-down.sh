#!/usr/bin/env bash
# ONNX Runtime 1.31.1 on x86-64: Sigmoid of FP32 is exactly 0 from -18 down, where e^-18 = 1.5e-8 is far within FP32
# (PyTorch, TensorFlow, LiteRT and MXNet answer 1.523e-08). Log(Sigmoid(x)), which is how logsigmoid is often exported,
# is therefore -inf for ordinary logits.
#
# Seen: Sigmoid(-17) > 0, Sigmoid(-18) = 0, Log(Sigmoid(-18)) = -inf; in FP64 Sigmoid(-18) = 1.523e-08.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper


def run(nodes, x, kind):
    infos = [helper.make_tensor_value_info(name, kind, ["n"]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]


sigmoid = helper.make_node("Sigmoid", ["x"], ["y"])
log = [helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Log", ["s"], ["y"])]
x = np.array([-17, -18, -40], np.float32)
single, logs = run([sigmoid], x, TensorProto.FLOAT), run(log, x, TensorProto.FLOAT)
double = run([sigmoid], x.astype(np.float64), TensorProto.DOUBLE)
print("ONNX Runtime", ort.__version__, "Sigmoid:", single, "its Log:", logs, "FP64:", double)
assert single[0] > 0 and single[1] == single[2] == 0, "Sigmoid's tail has changed"
assert np.isneginf(logs[1:]).all()
assert abs(double[1] - 1.523e-8) < 1e-11, "FP64 has changed"
PYTHON
