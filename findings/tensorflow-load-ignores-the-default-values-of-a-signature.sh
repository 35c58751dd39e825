#!/usr/bin/env bash
# TensorFlow 2.21: tf.saved_model.save writes the default value of a signature's argument to the file
# (SignatureDef.defaults), and TensorFlow Serving uses it. tf.saved_model.load does not: without the argument, the loaded
# signature raises a TypeError, although the function that was saved can be called without it.
#
# Seen: [[3. 6.]] before, and "missing a required argument: 'scale'" after; the file has the default value 3.0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow-cpu==2.21.0 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cd "$folder"
cat >defaults.py <<'PYTHON'
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2


class Model(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x"), tf.TensorSpec([], tf.float32, "scale")])
    def serve(self, x, scale=tf.constant(3.0)):
        return {"y": x * scale}


model, x = Model(), tf.constant([[1.0, 2.0]])
before = model.serve(x)["y"].numpy().tolist()
tf.saved_model.save(model, "saved", signatures=model.serve)
with open("saved/saved_model.pb", "rb") as file:
    graphs = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs
saved = {key: float(tf.make_ndarray(value)) for key, value in graphs[0].signature_def["serving_default"].defaults.items()}
try:
    error = "none: " + str(tf.saved_model.load("saved").signatures["serving_default"](x=x))
except TypeError as raised:
    error = str(raised).splitlines()[0]
print("TensorFlow", tf.__version__, "before:", before, "in the file:", saved, "after:", error)
assert before == [[3.0, 6.0]] and saved == {"scale": 3.0}, "saving has changed"
assert "missing a required argument: 'scale'" in error, "loading has changed"
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" defaults.py 2>/dev/null
