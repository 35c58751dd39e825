#!/usr/bin/env bash
# ONNX Runtime 1.31.1: ConstantSharing merges equal initializers. A BatchNormalization in training mode writes its running
# statistics in place, and where scale and variance (both ones) or shift and mean (both zeros) were equal, it then
# overwrites its own scale or shift: the same request, asked twice, gets two answers.
#
# Seen: with the defaults the second answer differs from the first; without ConstantSharing both are the same.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

ones, zeros = np.ones(2, np.float32), np.zeros(2, np.float32)
constants = [numpy_helper.from_array(each, name) for each, name in
             ((ones, "scale"), (zeros, "shift"), (zeros, "mean"), (ones, "variance"))]
node = helper.make_node("BatchNormalization", ["x", "scale", "shift", "mean", "variance"], ["y", "m", "v"],
                        training_mode=1)
infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2, 2]) for name in "xy"]
graph = helper.make_graph([node], "g", infos[:1], infos[1:], constants)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
x = np.array([[[2, 6], [10, 20]]], np.float32)


def twice(disabled):
    session = ort.InferenceSession(model, disabled_optimizers=disabled)
    return [session.run(["y"], {"x": x})[0] for _ in range(2)]


default, without = twice([]), twice(["ConstantSharing"])
print("ONNX Runtime", ort.__version__, "default:", *(each.ravel() for each in default))
print("without ConstantSharing:", *(each.ravel() for each in without))
assert not np.allclose(default[0], default[1], atol=1e-2), "the defaults now answer alike"
assert np.allclose(without[0], without[1], atol=1e-6)
PYTHON
