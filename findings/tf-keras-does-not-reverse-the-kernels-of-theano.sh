#!/usr/bin/env bash
# tf-keras 2.21.0 on TensorFlow 2.21.0, with a model that Keras 2.0.9 on Theano 1.0.5 has saved as HDF5. Theano convolves
# with the reversed kernel, TensorFlow with the kernel as it is. The file records its backend, and Keras 2.0.9 on another
# backend reverses such kernels when it loads them. tf-keras loads them as they are, without a warning, and the model
# answers differently. Reversing them gives the original answers.
#
# Seen: the file's backend: theano; largest difference as loaded: 1.06e+01; with reversed kernels: 9.54e-07
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.6 -m venv "$folder/old" # Theano's last release is for Pythons of its time
python3 -m venv "$folder/new"
{
  "$folder/old/bin/pip" install --quiet keras==2.0.9 theano==1.0.5 h5py==2.10.0 numpy==1.19.5 scipy==1.5.4 \
    pyyaml==5.4.1 six==1.17.0 &&
    "$folder/new/bin/pip" install --quiet tensorflow-cpu==2.21.0 h5py==3.14.0 numpy==2.4.6 &&
    "$folder/new/bin/pip" install --quiet --no-deps tf-keras==2.21.0
} >"$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }
cat >"$folder/save.py" <<'PYTHON'
import os
import sys

folder = sys.argv[1]
os.environ.update(HOME=folder, KERAS_BACKEND="theano")
os.environ["THEANO_FLAGS"] = "device=cpu,floatX=float32,cxx=,optimizer=None,base_compiledir=" + folder
import numpy as np
import theano.ifelse  # noqa: F401 - Keras uses it without importing it
from keras.layers import Conv2D
from keras.models import Sequential

random = np.random.RandomState(0)
model = Sequential([Conv2D(2, 3, input_shape=(6, 6, 1), data_format="channels_last")])
model.set_weights([random.normal(size=each.shape).astype("float32") for each in model.get_weights()])
x = random.normal(size=(2, 6, 6, 1)).astype("float32")
model.save(folder + "/model.h5")
np.savez(folder + "/values.npz", x=x, y=model.predict(x))
PYTHON
cat >"$folder/load.py" <<'PYTHON'
import os
import sys
import warnings

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import h5py
import numpy as np
import tf_keras

folder = sys.argv[1]
with h5py.File(folder + "/model.h5") as file:
    backend = file.attrs["backend"]
backend = backend.decode() if isinstance(backend, bytes) else backend
values = np.load(folder + "/values.npz")
with warnings.catch_warnings():
    warnings.simplefilter("error")
    model = tf_keras.models.load_model(folder + "/model.h5")
loaded = np.abs(model.predict(values["x"], verbose=0) - values["y"]).max()
kernel, bias = model.get_weights()
model.set_weights([kernel[::-1, ::-1], bias])
reversed_ = np.abs(model.predict(values["x"], verbose=0) - values["y"]).max()
print(
    f"the file's backend: {backend}; largest difference as loaded: {loaded:.2e}; with reversed kernels: {reversed_:.2e}"
)
assert backend == "theano", "the file records another backend"
assert loaded > 0.1, "kernels are reversed when they are loaded"
assert reversed_ < 1e-5, "something else differs"
PYTHON
"$folder/old/bin/python" "$folder/save.py" "$folder" >"$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }
"$folder/new/bin/python" "$folder/load.py" "$folder" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
