#!/usr/bin/env bash
# onnx2tf 2.6.9 with keep_shape_absolutely_input_names: where the result of a Transpose of three dimensions is an output
# of the model and also the input of a Relu, the TFLite file has the output but not the Transpose, so that no operator
# writes it. The conversion, allocation and inference succeed; reading the output fails.
#
# Seen: get_tensor of that output raises "Tensor data is null". Without the Relu it is right, and so is the output of a
# Transpose of two dimensions with one.
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


def found_and_right(folder, order, outputs, kept):
    """The first output of the TFLite file, or the error of reading it, and what it should be."""
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=order), helper.make_node("Relu", ["t"], ["y"])]
    sizes = [1, 3, 3][-len(order) :]
    infos = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name in "xty"}
    graph = helper.make_graph(nodes[: len(outputs)], "g", [infos["x"]], [infos[name] for name in outputs])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        onnx2tf.convert(
            input_onnx_file_path="model.onnx", output_folder_path=folder, keep_shape_absolutely_input_names=kept
        )
    interpreter = Interpreter(folder + "/model_float32.tflite")
    interpreter.allocate_tensors()
    x = np.arange(9, dtype=np.float32).reshape(sizes)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    (index,) = (each["index"] for each in interpreter.get_output_details() if each["name"] == "t")
    try:
        found = interpreter.get_tensor(index).tolist()
    except ValueError as error:
        found = str(error)
    return found, ort.InferenceSession("model.onnx").run(["t"], {"x": x})[0].tolist()


print("onnx2tf", importlib.metadata.version("onnx2tf"))
read, _ = found_and_right("read", [0, 2, 1], "ty", ["x"])
print("an output that a Relu reads:", read)
assert "Tensor data is null" in read, "the output is now written"
for folder, order, outputs in (("unread", [0, 2, 1], "t"), ("matrix", [1, 0], "ty")):
    found, right = found_and_right(folder, order, outputs, ["x"])
    print(folder, "right:", right, "found:", found)
    assert found == right, folder + " has changed"
PYTHON
