"""Steps for images [n, height, width, channels] that keep rows independent; see `tflite_graphs.py`."""

import tensorflow as tf
from tflite_steps import activation, last


def convolution(b, x):
    filters = b.weight(3, 3, last(x), b.random.choice([8, 128]))
    return tf.nn.conv2d(x, filters, b.random.choice([1, 2]), b.random.choice(["SAME", "VALID"]))


def depthwise(b, x):
    return tf.nn.depthwise_conv2d(x, b.weight(3, 3, last(x), b.random.choice([1, 2])), [1] * 4, "SAME")


def dilated(b, x):
    filters = b.weight(3, 3, last(x), 6)
    y = tf.space_to_batch(x, [2, 2], [[2, 2], [2, 2]])
    return tf.batch_to_space(tf.nn.conv2d(y, filters, 1, "VALID"), [2, 2], [[0, 0], [0, 0]])


def pooled(b, x):
    return b.random.choice([tf.nn.max_pool2d, tf.nn.avg_pool2d])(x, 2, b.random.choice([1, 2]), "SAME")


def resized(b, x):
    return tf.image.resize(x, [6, 6], b.random.choice(["bilinear", "nearest"]))


def to_blocks(b, x):
    return tf.nn.depth_to_space(tf.nn.conv2d(x, b.weight(1, 1, last(x), 8), 1, "SAME"), 2)


def transposed(b, x):
    size = tf.shape(x)
    shape = tf.stack([size[0], x.shape[1] * 2, x.shape[2] * 2, 4])
    y = tf.nn.conv2d_transpose(x, b.weight(3, 3, 4, last(x)), shape, 2)
    return tf.ensure_shape(y, [None, x.shape[1] * 2, x.shape[2] * 2, 4])


def global_pool(b, x):
    return tf.reduce_mean(x, [1, 2])


PICTURE = [
    convolution,
    convolution,
    depthwise,
    dilated,
    pooled,
    resized,
    to_blocks,
    transposed,
    activation,
    global_pool,
]
