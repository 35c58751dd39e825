"""Write a file of Keras as a SavedModel, as an export does: `PYTHON convert_keras_script.py FILE BACKEND NPZ OUT`.

Saves what the SavedModel computes from the inputs of NPZ to OUT. What the step refuses is printed.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).parents[2]))
from runtimes.contract import TensorSpec
from runtimes.conversion import Refused, Step
from runtimes.savedmodel.convert import keras_to_savedmodel


def main(file, backend, arrays, out):
    with np.load(arrays) as found:
        given = {name[3:]: found[name] for name in found.files if name.startswith("in:")}
        outputs = tuple(TensorSpec(name[4:]) for name in found.files if name.startswith("out:"))
    inputs = tuple(TensorSpec(name) for name in given)
    parameters = {"backend": backend} if backend else {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            keras_to_savedmodel(Step(file, folder, inputs, outputs, "s", {}, [], [], {}, parameters))
        except Refused as error:
            return print(f"refused: {error}")
        named = {f"input_{number}": tf.constant(array) for number, array in enumerate(given.values())}
        results = tf.saved_model.load(folder).signatures["s"](**named)
        np.savez(out, **{spec.name: results[f"output_{number}"] for number, spec in enumerate(outputs)})


main(*sys.argv[1:])
