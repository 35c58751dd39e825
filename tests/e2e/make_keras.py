"""Make files of Keras, each with inputs and the answers of Keras: `PYTHON make_keras.py KERAS FOLDER [PATH …]`.

KERAS: keras, tf_keras, or torch or jax for Keras 3 on PyTorch or JAX. PATH: further folders of packages.
FOLDER/NAME.keras or FOLDER/NAME.h5 is a model, and FOLDER/NAME.npz has its arrays, "in:INPUT" and "out:OUTPUT".
"""

import importlib
import os
import sys
from pathlib import Path

import numpy as np

BACKENDS = ("torch", "jax")


def main(which, folder):
    if which in BACKENDS:
        os.environ["KERAS_BACKEND"] = which
    keras = importlib.import_module("tf_keras" if which == "tf_keras" else "keras")
    keras.utils.set_random_seed(7)
    maker = Maker(keras, Path(folder))
    maker.mixed("mixed.keras")
    if which not in BACKENDS:
        maker.image("image.h5")
        maker.several("several.h5")
        maker.text("text.keras")
        maker.stateful("stateful.h5")
        maker.refused()
    if which == "tf_keras":
        maker.calls("calls.h5")


class Maker:
    def __init__(self, keras, folder):
        self.keras, self.layers, self.folder = keras, keras.layers, folder
        self.random = np.random.default_rng(3)

    def save(self, model, file, given, names):
        """names: of the outputs, if the model does not return a dict."""
        weights = [self.random.uniform(0.1, 0.5, each.shape).astype(each.dtype) for each in model.get_weights()]
        if all(each.dtype.kind == "f" for each in weights):
            model.set_weights(weights)
        model.save(str(self.folder / file))
        arrays = given if isinstance(given, dict) else {model.inputs[0].name: given}
        results = model.predict(given, verbose=0)
        if isinstance(results, (list, tuple)):
            results = dict(zip(names, results, strict=False))
        elif not isinstance(results, dict):
            results = {names[0]: results}
        stored = {f"in:{name}": array for name, array in arrays.items()}
        stored.update({f"out:{name}": np.asarray(array) for name, array in results.items()})
        np.savez(str(self.folder / file.partition(".")[0]), **stored)

    def image(self, file):
        """A Sequential whose layers compute something else in training."""
        layers = self.layers
        model = self.keras.Sequential(
            [
                self.keras.Input((6, 6, 3), name="picture"),
                layers.Conv2D(4, 3, padding="same", activation="relu"),
                layers.BatchNormalization(),
                layers.Dropout(0.5),
                layers.GlobalAveragePooling2D(),
                layers.Dense(2, activation="softmax", name="scores"),
            ]
        )
        self.save(model, file, self.random.uniform(0, 1, (3, 6, 6, 3)).astype(np.float32), ["scores"])

    def _mixed(self):
        keras, layers = self.keras, self.layers
        a, b = keras.Input((4,), name="a"), keras.Input((3,), dtype="int32", name="b")
        x = layers.Concatenate()([layers.Dense(5, activation="tanh")(a), layers.Flatten()(layers.Embedding(10, 2)(b))])
        given = {
            "a": self.random.normal(size=(3, 4)).astype(np.float32),
            "b": self.random.integers(0, 10, (3, 3)).astype(np.int32),
        }
        return a, b, x, given

    def mixed(self, file):
        """Inputs and outputs in dicts, trained with a custom loss, which nothing needs any more."""
        a, b, x, given = self._mixed()
        outputs = {"score": self.layers.Dense(1)(x), "class": self.layers.Softmax()(self.layers.Dense(3)(x))}
        model = self.keras.Model({"a": a, "b": b}, outputs)
        loss = type("Mine", (self.keras.losses.Loss,), {"call": lambda self, wanted, found: found})
        model.compile("adam", {"score": self.keras.utils.register_keras_serializable("My")(loss)(), "class": "mse"})
        self.save(model, file, given, [])

    def several(self, file):
        """Outputs in a list, which have the names of their layers."""
        a, b, x, given = self._mixed()
        outputs = [self.layers.Dense(1, name="second")(x), self.layers.Dense(3, name="first")(x)]
        self.save(self.keras.Model([a, b], outputs), file, given, ["second", "first"])

    def text(self, file):
        """Strings, with a vocabulary that is an asset in the file."""
        vectorization = self.layers.TextVectorization(max_tokens=10, output_sequence_length=4)
        vectorization.adapt(["red green blue", "green grey"])
        text = self.keras.Input((1,), dtype="string", name="text")
        embedded = self.layers.Flatten()(self.layers.Embedding(10, 2)(vectorization(text)))
        model = self.keras.Model(text, self.layers.Dense(2, name="mood")(embedded))
        words = np.array([["green red"], ["unknown blue grey"], [""]])
        model.save(str(self.folder / file))
        answers = np.concatenate([model(np.array([row], dtype=object)).numpy() for row in words])
        np.savez(str(self.folder / "text"), **{"in:text": words, "out:mood": answers})

    def stateful(self, file):
        """A recurrent layer that would go on where the request before has ended, with nested states."""
        steps = self.keras.Input(batch_shape=(1, 3, 2), name="steps")
        cells = [self.layers.LSTMCell(2), self.layers.GRUCell(2)]
        model = self.keras.Model(steps, self.layers.RNN(cells, stateful=True, name="state")(steps))
        self.save(model, file, self.random.normal(size=(1, 3, 2)).astype(np.float32), ["state"])

    def calls(self, file):
        """Functions of TensorFlow, which Keras 2 records under the names of what they call."""
        import tensorflow as tf

        a = self.keras.Input((4, 3), name="a")
        x = tf.gather(tf.pad(tf.transpose(a, [0, 2, 1]), [[0, 0], [1, 0], [0, 0]]), [0, 2], axis=1)
        flat = self.layers.Dense(2, name="flat")(tf.reshape(x, [tf.shape(x)[0], 8]))
        self.save(self.keras.Model(a, flat), file, self.random.normal(size=(3, 4, 3)).astype(np.float32), ["flat"])

    def refused(self):
        import h5py  # which PyTorch's environment lacks

        keras, layers, folder = self.keras, self.layers, self.folder
        marker = str(folder / "executed")

        def note(x):
            with open(marker, "w"):
                return x * 2.0

        code = keras.Sequential([keras.Input((2,)), layers.Lambda(note, output_shape=(2,))])
        code.save(str(folder / "lambda.keras"))
        code.save(str(folder / "lambda_h5.h5"))
        code(np.zeros((1, 2), np.float32))
        os.remove(marker)  # which fails if running the model does not leave it

        mine = type("Mine", (layers.Layer,), {"call": lambda self, x: x * 2.0})
        custom = keras.Sequential([keras.Input((2,)), mine()])
        custom.save(str(folder / "custom.keras"))
        custom.save(str(folder / "custom_h5.h5"))
        if keras.__name__ == "keras":
            # Keras 2 fails when such a model is made, Keras 3 when it runs.
            keras.Sequential([keras.Input((2,)), layers.Dense(2, name="\u00e9")]).save(str(folder / "named.keras"))
        words = keras.Input((4,), dtype="int32", name="words")
        masked = keras.Model(words, layers.LSTM(2)(layers.Embedding(9, 3, mask_zero=True)(words)))
        masked.save(str(folder / "masked.h5"))
        rows = keras.Input((4,), sparse=True, name="rows")
        keras.Model(rows, layers.Dense(2)(rows)).save(str(folder / "sparse.keras"))
        plain = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
        plain.save_weights(str(folder / "alone.weights.h5"))

        def damaged(name, change):
            plain.save(str(folder / name))
            with h5py.File(folder / name, "r+") as file:
                change(file)

        def link(file):
            file["model_weights"]["more"] = h5py.ExternalLink("other.h5", "/")

        def outside(file):
            file.create_dataset("more", (8,), "u1", external=[(str(folder / "other.bin"), 0, 8)])

        damaged("link.h5", link)
        damaged("external.h5", outside)
        damaged("bomb.h5", lambda file: file.create_dataset("more", (1 << 40,), "u1", chunks=(1 << 20,)))


if __name__ == "__main__":
    sys.path.extend(sys.argv[3:])
    main(*sys.argv[1:3])
