#!/usr/bin/env bash
# TensorFlow 2.21.0's converter writes softplus as log(exp(x) + 1), and LiteRT 2.3.0 (and its XNNPACK) compute it as
# written: inf from 89 up, where TensorFlow itself answers x. log_sigmoid(x), which is -softplus(-x), is -inf from -89
# down. Losses, uncertainties and rates at such sizes are ordinary; the float conversion reports nothing.
#
# Seen: softplus(89) and log_sigmoid(-100) are inf and -inf in LiteRT, 89 and -100 in TensorFlow.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow-cpu==2.21.0 ai-edge-litert==2.3.0
"$folder/venv/bin/python" - <<'PYTHON'
import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

x = np.array([-100, 40, 89], np.float32)
for function, wrong in ((tf.math.softplus, 2), (tf.math.log_sigmoid, 0)):
    concrete = tf.function(function).get_concrete_function(tf.TensorSpec([3], tf.float32))
    interpreter = Interpreter(model_content=tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert())
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    right = concrete(tf.constant(x)).numpy()
    print("TensorFlow", tf.__version__, function.__name__, "TensorFlow:", right, "LiteRT:", found)
    assert np.isfinite(right).all(), "TensorFlow's answer has changed"
    assert np.isinf(found[wrong]), "LiteRT no longer overflows"
    assert np.isfinite(np.delete(found, wrong)).all()
PYTHON
