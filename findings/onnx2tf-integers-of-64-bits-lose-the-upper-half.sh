#!/usr/bin/env bash
# onnx2tf 2.6.9: arithmetic on INT64 is written to TFLite as INT32 (Add, Mul, Max; the type of the output changes, that
# of the input does not) or as FP32 (Div, whose output is INT64 again), and the conversion reports nothing. TensorFlow's
# own converter keeps INT64 in the first three, for which LiteRT has kernels. Times in milliseconds, hashed ids and large
# counts come out wrong.
#
# Seen: of 2^33 + 5, x + 3 is 8, x * 3 is 15 and max(x, 3) is 5, all as INT32; x / 3 is 2863311616 in place of 2863311532.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for python in python3 python3.13 python3.12; do # onnx2tf needs 3.12 or 3.13
  "$python" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 12), (3, 13)))' 2>/dev/null && break
done
"$python" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx2tf==2.6.9 ai-edge-litert==2.1.2 onnx==1.20.1 onnxruntime==1.26.0 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { tail -n 1 "$folder/log" >&2; exit 1; }
import contextlib
import importlib.metadata
import os

import numpy as np
import onnx
import onnx2tf
import onnxruntime as ort
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper

x = np.array([7, 2**33 + 5], np.int64)
expected = {"Add": (np.int32, 8), "Mul": (np.int32, 15), "Max": (np.int32, 5), "Div": (np.int64, 2863311616)}
for kind, wrong in expected.items():
    infos = [helper.make_tensor_value_info(name, TensorProto.INT64, [2]) for name in "xy"]
    three = helper.make_tensor("c", TensorProto.INT64, [], [3])
    graph = helper.make_graph([helper.make_node(kind, ["x", "c"], ["y"])], "g", infos[:1], infos[1:], [three])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        onnx2tf.convert(input_onnx_file_path="model.onnx", output_folder_path=kind, non_verbose=True)
    interpreter = Interpreter(kind + "/model_float32.tflite")
    interpreter.allocate_tensors()
    given, answered = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.set_tensor(given["index"], x)
    interpreter.invoke()
    found = interpreter.get_tensor(answered["index"])
    right = ort.InferenceSession("model.onnx").run(None, {"x": x})[0]
    print("onnx2tf", importlib.metadata.version("onnx2tf"), kind, "ONNX:", right, "TFLite:", found, found.dtype)
    assert given["dtype"] == np.int64 == right.dtype
    assert found[0] == right[0], "small numbers have changed"
    assert (found.dtype, found[1]) == wrong, "the conversion has changed"
PYTHON
