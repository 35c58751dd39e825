"""The questions as TensorFlow functions, from which the TensorFlow Lite models are converted."""

import tensorflow as tf


def resize(size, method):
    def run(x):
        pixels = tf.transpose(x, [0, 2, 1])[:, None]  # [1, 1, width, 1]
        return tf.transpose(tf.image.resize(pixels, [1, size], method=method)[:, 0], [0, 2, 1])

    return run


def max_pool(x):
    return tf.transpose(tf.nn.max_pool1d(tf.transpose(x, [0, 2, 1]), 2, 2, "VALID"), [0, 2, 1])


def average_pool(x):
    # TensorFlow offers "SAME" instead of a padding of one on each side, so its windows for a stride of 2 over four
    # values are [x0..x2] and [x2..x3]. The question is what users of TensorFlow get.
    return tf.transpose(tf.nn.avg_pool1d(tf.transpose(x, [0, 2, 1]), 3, 2, "SAME"), [0, 2, 1])


FUNCTIONS = {
    "nan-maximum": tf.maximum,
    "nan-relu": tf.nn.relu,
    "nan-clip": lambda x: tf.clip_by_value(x, 0.0, 6.0),
    "nan-reduce-max": lambda x: tf.reduce_max(x, 1),
    "nan-argmax": lambda x: tf.argmax(x, 1),
    "nan-top-k": lambda x: tf.math.top_k(x, 2).values,
    "nan-max-pool": max_pool,
    "denormal-product": lambda x, y: (x * y)[:1],
    "sigmoid-tail": tf.sigmoid,
    "softplus-tail": tf.nn.softplus,
    "integer-division": lambda x, y: x // y,
    "integer-remainder": lambda x, y: x % y,
    "float-remainder": lambda x, y: x % y,
    "right-shift": tf.bitwise.right_shift,
    "sum-beyond-2-53": tf.reduce_sum,
    "float-sum": tf.reduce_sum,
    "integer-overflow": lambda x, y: x + y,
    "mean-of-nothing": lambda x: tf.reduce_mean(x, 1),
    "max-of-nothing": lambda x: tf.reduce_max(x, 1),
    "cast-nan-int32": lambda x: tf.cast(x, tf.int32),
    "cast-uint8": lambda x: tf.cast(x, tf.uint8),
    "masked-row": lambda x: tf.nn.softmax(x),
    "round-half": tf.round,
    "argmax-tie": lambda x: tf.argmax(x, 1),
    "top-k-tie": lambda x: tf.math.top_k(x, 2).indices,
    "average-pool-edge": average_pool,
    "resize-nearest-up": resize(6, "nearest"),
    "resize-nearest-down": resize(2, "nearest"),
    "resize-linear": resize(6, "bilinear"),
    "negative-index": tf.gather,
    "index-too-large": tf.gather,
    "power": tf.pow,
    "gelu-default": lambda x: tf.nn.gelu(x, approximate=False),
    "sign-of-nan": tf.sign,
    "logarithm-below-zero": tf.math.log,
    "normalised-constant": lambda x: tf.nn.batch_normalization(
        x, *(m for m in tf.nn.moments(x, [1], keepdims=True)), None, None, 1e-5
    ),
}
