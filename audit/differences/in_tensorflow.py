"""Computes TensorFlow's answers. If the third argument names a folder, also writes .tflite files to it."""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from asked import answer_all
from tensorflow_functions import FUNCTIONS


def graph_of(function):
    """Return the function as a graph, as served models run it. Eager calls would check more."""
    return lambda *arrays: tf.function(function)(*[tf.constant(array) for array in arrays]).numpy()


def convert(folder):
    """Write one .tflite file for each question. Skip those that cannot be converted, and write the reasons."""
    refused = {}
    for question in json.loads(Path(sys.argv[1]).read_text()):
        function = FUNCTIONS.get(question["id"])
        if function is None:
            continue
        arrays = [np.array(values, dtype) for _, (dtype, values) in sorted(question["inputs"].items())]
        specs = [tf.TensorSpec(array.shape, array.dtype) for array in arrays]
        try:
            concrete = tf.function(function).get_concrete_function(*specs)
            converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
            (folder / (question["id"] + ".tflite")).write_bytes(converter.convert())
        except Exception as error:
            refused[question["id"]] = str(error).splitlines()[0] if str(error) else type(error).__name__
    (folder / "refused.json").write_text(json.dumps(refused))


if __name__ == "__main__":
    answer_all("TensorFlow " + tf.__version__, {key: graph_of(each) for key, each in FUNCTIONS.items()})
    if len(sys.argv) > 3:
        convert(Path(sys.argv[3]))
