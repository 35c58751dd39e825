"""Generates SavedModels or TFLite models, in the savedmodel environment: `PYTHON … RUNTIME FOLDER FIRST COUNT`."""

import json
import os
import random
import sys

import numpy as np
import tensorflow as tf

runtime, folder, first, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


def steps(r, n):
    """Return steps from [batch, 8, 8, 4] to the same shape, which grappler rewrites or XNNPACK replaces."""

    def weight(*shape):
        return tf.constant(n.normal(size=shape).astype(np.float32) / 3)

    def conv(x):
        return tf.nn.conv2d(x, weight(3, 3, 4, 4), 1, r.choice(["SAME", "SAME"]))

    def padded_pool(x):
        value = r.choice([0.0, -1.0, 0.5])
        padded = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=value)
        return r.choice([tf.nn.max_pool2d, tf.nn.avg_pool2d])(padded, 3, 1, "VALID")

    def padded_conv(x):
        padded = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], mode=r.choice(["CONSTANT", "REFLECT"]))
        return tf.nn.conv2d(padded, weight(3, 3, 4, 4), 1, "VALID") + weight(4)

    def depthwise(x):
        return tf.nn.relu6(tf.nn.depthwise_conv2d(x, weight(3, 3, 4, 1), [1, 1, 1, 1], "SAME"))

    def norm(x):
        return tf.nn.batch_normalization(x, weight(4), tf.exp(weight(4)), weight(4), weight(4), 1e-3)

    def arithmetic(x):
        return r.choice([
            lambda: x * 1.0 + 0.0, lambda: x * -2.0 / 4.0, lambda: x - x * 0.5, lambda: (x + 1.5) - 1.5,
            lambda: x * 2.0 + x * 3.0, lambda: tf.negative(tf.negative(x)), lambda: tf.pow(x, 2.0),
            lambda: tf.sqrt(tf.square(x)), lambda: tf.math.divide_no_nan(x, tf.nn.relu(x)), lambda: x / 0.3,
        ])()  # fmt: skip

    def activation(x):
        kinds = [tf.nn.relu, tf.nn.relu6, tf.nn.elu, tf.nn.leaky_relu, tf.nn.silu, tf.nn.gelu, tf.tanh, tf.nn.softmax]
        return r.choice(kinds)(x)

    def moved(x):
        return r.choice([
            lambda: tf.transpose(tf.nn.relu(tf.transpose(x, [0, 3, 1, 2])), [0, 2, 3, 1]),
            lambda: tf.reshape(tf.reshape(x, [-1, 256]), [-1, 8, 8, 4]), lambda: tf.reverse(tf.reverse(x, [1]), [2]),
            lambda: tf.concat([x[..., :2], x[..., 2:]], -1), lambda: tf.squeeze(tf.expand_dims(x, 1), 1),
        ])()  # fmt: skip

    def cast(x):
        return tf.cast(tf.cast(x, r.choice([tf.int32, tf.float16, tf.bool])), tf.float32)

    def chosen(x):
        return tf.where(tf.logical_not(x > 0), x * 0.3, x)

    def less_mean(x):
        return x - tf.reduce_mean(x, r.choice([[1, 2], [3]]), keepdims=True)

    def product(x):
        return tf.nn.bias_add(tf.matmul(x, weight(4, 4)), weight(4))

    return [conv, padded_pool, padded_conv, depthwise, norm, arithmetic, arithmetic, activation, moved, cast, chosen,
            less_mean, product]  # fmt: skip


def serving(chain):
    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 4], tf.float32, name="x")])
    def serve(x):
        for step in chain:
            x = step(x)
        return {"y": tf.identity(x)}

    return serve


jobs = []
for seed in range(first, first + count):
    r, n = random.Random(seed), np.random.default_rng(seed)
    chain = [r.choice(steps(r, n)) for _ in range(r.randint(2, 6))]

    serve = serving(chain)
    module = tf.Module()
    module.serve = serve
    artifact = os.path.join(folder, str(seed))
    tf.saved_model.save(module, artifact, {"serving_default": serve})
    if runtime == "tflite":
        content = tf.lite.TFLiteConverter.from_saved_model(artifact).convert()
        artifact += ".tflite"
        with open(artifact, "wb") as file:
            file.write(content)
    jobs.append({"name": " ".join([*(step.__name__ for step in chain), str(seed)]), "artifact": artifact})
with open(os.path.join(folder, "models.json"), "w") as file:
    json.dump(jobs, file)
