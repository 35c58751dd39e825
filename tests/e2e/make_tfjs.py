"""Make models with the converter of TensorFlow.js: `PYTHON make_tfjs.py FOLDER`, in the environment export-tf.

Each is a folder with model.json, and with inputs in given.json: name → [datatype, array]. The SavedModel that the
graph models are made of is in "original" beside FOLDER.
"""

import json
import sys
import types
from pathlib import Path

import numpy as np
import tensorflow_hub  # noqa: F401
import tf_keras

layers = tf_keras.layers
rng = np.random.default_rng(5)


def main(folder):
    # The converter imports these, but only uses them for other kinds of models.
    for name in ("tensorflow_decision_forests", "jax", "jax.experimental", "jax.experimental.jax2tf"):
        sys.modules.setdefault(name, types.ModuleType(name))
    from tensorflowjs.converters import save_keras_model
    from tensorflowjs.converters.tf_saved_model_conversion_v2 import convert_tf_saved_model

    tf_keras.utils.set_random_seed(5)
    steps = tf_keras.Input((5, 6), name="steps")
    x = layers.BatchNormalization()(layers.Bidirectional(layers.LSTM(4))(steps))
    outputs = [layers.Dense(3, name="second")(x), layers.Dense(2, activation="softmax", name="first")(x)]
    recurrent = changed(tf_keras.Model(steps, outputs))
    given = {"steps": rng.normal(size=(3, 5, 6)).astype(np.float32)}
    for quantized in (None, "uint8", "uint16", "float16"):
        where = folder / f"layers_{quantized or 'float32'}"
        save_keras_model(recurrent, str(where), quantization_dtype_map={quantized: True} if quantized else None)
        write(where, given)

    # The converter fuses these layers with what follows them.
    image = tf_keras.Input((6, 6, 3), name="image")
    x = layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(4, 3)(image))
    x = layers.DepthwiseConv2D(2, activation="relu6")(x)
    x = layers.LeakyReLU(0.2)(layers.Conv2D(4, 1)(x))
    x = layers.Dense(3, activation="elu")(layers.Flatten()(x))
    fused = changed(tf_keras.Model(image, {"scores": layers.Dense(2)(x)}))
    given = {"image": rng.uniform(-1, 1, (3, 6, 6, 3)).astype(np.float32)}
    saved = str(folder.parent / "original" / "model.savedmodel")
    fused.save(saved)
    for quantized in (None, "uint8"):
        where = folder / f"graph_{quantized or 'float32'}"
        convert_tf_saved_model(saved, str(where), quantization_dtype_map={quantized: True} if quantized else None)
        write(where, given)


def changed(model):
    """Give the layers' weights other values than those they start with."""
    model.set_weights([each + rng.uniform(0.05, 0.2, each.shape).astype(each.dtype) for each in model.get_weights()])
    return model


def write(folder, given):
    content = {name: [str(array.dtype), array.tolist()] for name, array in given.items()}
    (folder / "given.json").write_text(json.dumps(content))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
