"""Make the export table's SavedModels: `PYTHON savedmodel.py FOLDER`, in the runtime's environment."""

import sys
from pathlib import Path

import tensorflow as tf
from tensorflow import keras
from tensorflow.keras import layers


def dense(module, name, rows, columns):
    """Return a dense layer. The module keeps its variables."""
    weight = tf.Variable(tf.random.stateless_normal([rows, columns], [len(name), rows]) / rows**0.5)
    bias = tf.Variable(tf.random.stateless_normal([columns], [columns, rows]))
    setattr(module, name, (weight, bias))
    return lambda x: x @ weight + bias


def main(root):
    def write(name, served, specs):
        """Write a SavedModel. served: a function that accepts the specs by name and returns a dict."""
        holder = tf.Module()
        holder.served = tf.function(served, input_signature=specs, autograph=False)
        holder.kept = getattr(served, "kept", None)
        folder = Path(root, name, "1", "model.savedmodel")
        tf.saved_model.save(holder, str(folder), signatures=holder.served)

    def of_keras(name, model, shape, output):
        def served(x):
            return {output: model(x, training=False)}

        served.kept = model  # type: ignore[attr-defined]
        write(name, served, [tf.TensorSpec([None, *shape], tf.float32, "x")])

    def of_module(name, module, served, *specs):
        served.kept = module
        write(name, served, [tf.TensorSpec([None, *shape], dtype, key) for key, dtype, shape in specs])

    keras.utils.set_random_seed(0)
    of_keras("mlp", keras.Sequential([layers.Dense(16, "relu"), layers.Dense(4, "softmax")]), [12], "scores")
    norm = layers.BatchNormalization(moving_mean_initializer="random_normal", beta_initializer="random_normal")
    grouped = layers.Conv2D(8, 3, padding="same", groups=2)
    cnn = [grouped, norm, layers.ReLU(), layers.MaxPool2D(), layers.Flatten(), layers.Dense(5)]
    of_keras("cnn", keras.Sequential(cnn), [12, 10, 4], "scores")
    down = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu")
    up = layers.Conv2DTranspose(6, 2, strides=2, activation="relu")
    of_keras("fcn", keras.Sequential([down, up, layers.Conv2D(5, 1)]), [8, 12, 3], "mask")
    of_keras("lstm", keras.Sequential([layers.LSTM(5), layers.Dense(3)]), [7, 6], "scores")
    both = [layers.Bidirectional(layers.LSTM(5, return_sequences=True)), layers.Dense(3)]
    of_keras("bilstm", keras.Sequential(both), [7, 6], "steps")

    x = layers.Input([6, 16])
    y = x + layers.MultiHeadAttention(2, 8)(*[layers.LayerNormalization()(x)] * 2)
    y = y + layers.Dense(16)(layers.Dense(32, "gelu")(layers.LayerNormalization()(y)))
    of_keras("attention", keras.Model(x, y), [6, 16], "y")

    branch = tf.Module()
    one, two = dense(branch, "one", 4, 3), dense(branch, "other", 4, 3)

    def branching(x):
        return {"y": tf.cond(tf.reduce_sum(x) > 0, lambda: one(x), lambda: -two(x))}

    of_module("branch", branch, branching, ("x", tf.float32, [4]))

    loop = tf.Module()
    again = dense(loop, "again", 4, 4)

    def looping(x):
        def more(rounds, x):
            return (tf.reduce_max(tf.abs(x)) > 1) & (rounds < 5)

        def turn(rounds, x):
            return rounds + 1, tf.tanh(again(x)) * 1.5

        return {"y": tf.while_loop(more, turn, [tf.constant(0), x])[1]}

    of_module("loop", loop, looping, ("x", tf.float32, [4]))

    multi = tf.Module()
    multi.table = tf.Variable(tf.random.stateless_normal([10, 4], [1, 2]))
    numbers = dense(multi, "numbers", 3, 4)

    def several(tokens, features):
        words = tf.reduce_mean(tf.gather(multi.table, tokens), axis=1)
        return {"onset": tf.sigmoid(words + numbers(features)), "note": words - numbers(features)}

    of_module("multi", multi, several, ("tokens", tf.int64, [5]), ("features", tf.float32, [3]))

    def passing(x):
        return {"same": x, "other": x * 2 + 1}

    of_module("passing", tf.Module(), passing, ("x", tf.float32, [3]))

    # Characters that names in a SavedModel may contain: TensorFlow itself refuses a colon.
    names = tf.Module()
    subtracted = dense(names, "d", 4, 3)

    def named(**arrays):
        return {"out/y": subtracted(arrays["in_b"] - arrays["in_a"])}

    named.kept = names  # type: ignore[attr-defined]
    specs = {key: tf.TensorSpec([None, 4], tf.float32, key) for key in ("in_b", "in_a")}
    holder = tf.Module()
    holder.served, holder.kept = tf.function(named, autograph=False), names
    folder = Path(root, "names", "1", "model.savedmodel")
    tf.saved_model.save(holder, str(folder), signatures=holder.served.get_concrete_function(**specs))

    long = tf.Module()
    long.filter = tf.Variable(tf.random.stateless_normal([3, 3, 5], [5, 6]))

    def lengthy(x):
        y = tf.nn.relu(tf.nn.conv1d(tf.transpose(x, [0, 2, 1]), long.filter, 1, "SAME"))
        return {"y": tf.transpose(y, [0, 2, 1])}

    of_module("long", long, lengthy, ("x", tf.float32, [3, 320]))

    nchw = tf.Module()
    nchw.filter = tf.Variable(tf.random.stateless_normal([3, 3, 3, 5], [7, 8]))

    def channels_first(image):
        y = tf.nn.relu(tf.nn.conv2d(tf.transpose(image, [0, 2, 3, 1]), nchw.filter, 1, "SAME"))
        return {"mask": tf.transpose(y, [0, 3, 1, 2])}

    of_module("nchw", nchw, channels_first, ("image", tf.float32, [3, 8, 12]))


if __name__ == "__main__":
    main(sys.argv[1])
