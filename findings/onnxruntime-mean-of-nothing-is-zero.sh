#!/usr/bin/env bash
# ONNX Runtime 1.31.1: ReduceMean along an axis without elements is 0, where NumPy, PyTorch, TensorFlow and LiteRT answer
# NaN. A pooled answer over an empty sequence looks like a real one.
#
# Seen: ReduceMean of shape [2, 0] along axis 1 is [0, 0].
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0)
infos = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "t"])]
infos.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"]))
graph = helper.make_graph([node], "g", infos[:1], infos[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
x = np.zeros((2, 0), np.float32)
found = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    numpys = x.mean(1)
print("ONNX Runtime", ort.__version__, found, "NumPy", numpys)
assert (found == 0).all(), "the mean of nothing has changed"
assert np.isnan(numpys).all()
PYTHON
