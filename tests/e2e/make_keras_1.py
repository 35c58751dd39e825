"""Make .h5 files with Keras 1.2.2 on Theano: `PYTHON make_keras_1.py FOLDER`. They are as those of make_keras.py.

Theano computes in Python here, without its C compiler, which would take half a minute.
"""

import os
import sys
from pathlib import Path

folder = Path(sys.argv[1])
os.environ.update(
    KERAS_BACKEND="theano",
    HOME=str(folder),
    THEANO_FLAGS=f"device=cpu,floatX=float32,cxx=,optimizer=None,base_compiledir={folder}",
)

import numpy as np  # noqa: E402
import theano.ifelse  # noqa: E402, F401  which Keras uses without importing it
from keras import layers  # noqa: E402
from keras.models import Model, Sequential  # noqa: E402

random = np.random.RandomState(3)


def save(model, name, given, output):
    model.set_weights([random.uniform(0.1, 0.5, each.shape).astype(each.dtype) for each in model.get_weights()])
    model.compile("sgd", "mse")
    model.save(str(folder / (name + ".h5")))
    stored = {"in:" + key: array for key, array in given.items()}
    stored["out:" + output] = model.predict(list(given.values()))
    np.savez(str(folder / name), **stored)


def image():
    """Convolutions with channels first, of which not every layer records that they are first."""
    model = Sequential()
    model.add(layers.ZeroPadding2D((1, 1), input_shape=(3, 6, 6), dim_ordering="th"))
    model.add(layers.Convolution2D(4, 3, 3, subsample=(2, 1), activation="relu", dim_ordering="th"))
    model.add(layers.BatchNormalization(axis=1))
    model.add(layers.Dropout(0.5))
    model.add(layers.Flatten())
    model.add(layers.Dense(2, activation="softmax", name="scores"))
    save(model, "image", {"zeropadding2d_1_input": random.uniform(0, 1, (3, 3, 6, 6)).astype("f4")}, "scores")


def even():
    """Theano pads such a convolution at the other end."""
    model = Sequential()
    model.add(layers.Convolution2D(1, 2, 2, border_mode="same", input_shape=(3, 3, 1), dim_ordering="tf"))
    model.save(str(folder / "even.h5"))


def mixed():
    ids, more = layers.Input((5,), dtype="int32", name="ids"), layers.Input((3,), name="more")
    x = layers.Embedding(10, 4)(ids)
    x = layers.merge([layers.LSTM(3)(x), layers.GRU(2)(x), more], mode="concat")
    x = layers.Dense(4, activation="tanh")(x)
    given = {
        "ids": random.randint(0, 10, (3, 5)).astype("i4"),
        "more": random.normal(size=(3, 3)).astype("f4"),
    }
    save(Model([ids, more], layers.Dense(2, name="o")(x)), "mixed", given, "o")


image()
even()
mixed()
