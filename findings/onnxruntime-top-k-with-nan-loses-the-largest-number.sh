#!/usr/bin/env bash
# ONNX Runtime 1.31.1 on CPU: a NaN within a row makes TopK drop numbers larger than those it answers, depending on where
# the NaN stands. PyTorch, TensorFlow and NumPy have a place for NaN in their order and find the largest number. ReduceMax
# is no guide either: whether NaN comes out depends on the axis, and along the last one on NaN's position.
#
# Seen: the two largest of [1, NaN, 3, 2] are [1, NaN], those of [1, 2, NaN, 3] are [3, 2]. ReduceMax of
# [[1, NaN], [3, 2], [NaN, 5]] is [3, NaN] along axis 0, [1, 3, NaN] along axis 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper


def run(node, x, number):
    infos = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)]
    infos.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    constant = numpy_helper.from_array(np.array([number], np.int64), "c")
    graph = helper.make_graph([node], "g", infos[:1], infos[1:], [constant])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return ort.InferenceSession(model.SerializeToString()).run(["y"], {"x": x})[0]


def top_2(*row):
    return run(helper.make_node("TopK", ["x", "c"], ["y", "i"]), np.array([row], np.float32), 2)[0]


early, late = top_2(1, np.nan, 3, 2), top_2(1, 2, np.nan, 3)
rows = np.array([[1, np.nan], [3, 2], [np.nan, 5]], np.float32)
reduce_max = helper.make_node("ReduceMax", ["x", "c"], ["y"], keepdims=0)
down, across = run(reduce_max, rows, 0), run(reduce_max, rows, 1)
print("ONNX Runtime", ort.__version__, "TopK:", early, late, "ReduceMax along 0:", down, "along 1:", across)
np.testing.assert_array_equal(early, [1, np.nan], "TopK has changed")
np.testing.assert_array_equal(late, [3, 2], "TopK has changed")
np.testing.assert_array_equal(down, [3, np.nan], "ReduceMax along 0 has changed")
np.testing.assert_array_equal(across, [1, 3, np.nan], "ReduceMax along 1 has changed")
PYTHON
