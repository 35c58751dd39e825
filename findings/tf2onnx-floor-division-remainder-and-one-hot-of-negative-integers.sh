#!/usr/bin/env bash
# tf2onnx 1.17.0: of negative integers, FloorDiv is written as a Div that rounds toward zero, FloorMod gets the sign of
# the dividend, and OneHot counts from the end: -1, which is how labels are padded and gives a row of zeros in
# TensorFlow, becomes the last class. Floats are right.
#
# Seen: -7 // 2 is -3 in place of -4, -7 % 3 is -1 in place of 2, one_hot(-1, 3) is [0, 0, 1] in place of zeros.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow-cpu==2.21.0 tf2onnx==1.17.0 onnx==1.20.1 onnxruntime==1.26.0 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON' 2>/dev/null
import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import onnxruntime as ort
import tensorflow as tf
import tf2onnx

functions = {"//": lambda x: x // 2, "%": lambda x: x % 3, "one_hot": lambda x: tf.one_hot(tf.maximum(x, -1), 3)}
expected = {"//": ([-4], [-3]), "%": ([2], [-1]), "one_hot": ([[0, 0, 0]], [[0, 0, 1]])}
x = np.array([-7], np.int32)
for name, function in functions.items():
    signature = [tf.TensorSpec([None], tf.int32, name="x")]
    model, _ = tf2onnx.convert.from_function(tf.function(function), input_signature=signature, opset=17)
    found = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0].tolist()
    right = function(tf.constant(x)).numpy().tolist()
    print("tf2onnx", tf2onnx.__version__, name, "TensorFlow:", right, "exported:", found)
    assert right == expected[name][0], "TensorFlow's answer has changed"
    assert found == expected[name][1], "the export has changed"
PYTHON
