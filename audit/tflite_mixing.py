"""Steps that mix the rows of a batch; see `tflite_graphs.py`."""

import numpy as np
import tensorflow as tf
from tflite_steps import flat


def batch_mean(b, x):
    return x - tf.reduce_mean(x, 0, keepdims=True)


def whole_maximum(b, x):
    return x / (tf.reduce_max(tf.abs(x)) + 0.1)


def batch_softmax(b, x):
    return tf.transpose(tf.nn.softmax(tf.transpose(flat(x), [1, 0])), [1, 0])


def running_rows(b, x):
    return tf.cumsum(x, 0)


def neighbour(b, x):
    return x + tf.concat([x[-1:], x[:-1]], 0)


def first_row(b, x):
    return x - b.random.choice([lambda: x[:1], lambda: tf.expand_dims(x[0], 0), lambda: tf.gather(x, [0])])()


def gram(b, x):
    rows = flat(x)
    return tf.matmul(tf.nn.softmax(tf.matmul(rows, rows, transpose_b=True)), rows)


def counted(b, x):
    return x / tf.cast(tf.shape(x)[0], tf.float32)


def branch(b, x):
    return tf.cond(tf.reduce_max(x) > 1.0, lambda: -x, lambda: tf.tanh(x))


def to_the_largest(b, x):
    most = tf.minimum(tf.reduce_max(tf.abs(x)) * 2.0, 6.0)
    return tf.while_loop(lambda i, y: i < most, lambda i, y: (i + 1.0, y * 0.5), [tf.constant(0.0), x])[1]


def counted_loop(b, x):
    """Divide by the number of rows after carrying it through a loop."""
    size = tf.cast(tf.shape(x)[0], tf.float32)
    found = tf.while_loop(lambda i, n, y: i < 3, lambda i, n, y: (i + 1, n, tf.tanh(y)), [tf.constant(0), size, x])
    return found[2] / found[1]


def noise(b, x):
    return x + tf.random.uniform(tf.shape(x))


def sorted_rows(b, x):
    order = tf.math.top_k(flat(x)[:, 0], tf.shape(x)[0])[1]
    return tf.gather(x, order)


def batch_norm(b, x):
    return x * tf.math.rsqrt(tf.reduce_sum(x * x, 0, keepdims=True) + 1.0)


def backwards(b, x):
    return x + tf.reverse(x, [0])


def as_one(b, x):
    return tf.reshape(tf.nn.softmax(tf.reshape(x, [1, -1])), tf.shape(x))


def rank_among(b, x):
    score = tf.reduce_mean(flat(x), 1, keepdims=True)
    below = tf.reduce_sum(tf.cast(score > tf.transpose(score), tf.float32), 1, keepdims=True)
    return flat(x) + below


def pairs(b, x):
    """Join pairs of rows into one."""
    size = int(np.prod(x.shape[1:]))
    y = tf.reshape(tf.concat([flat(x), flat(x)], 0), [-1, 2 * size])
    return tf.nn.softmax(y)


def segments(b, x):
    label = tf.cast(flat(x)[:, 0] > 0, tf.int32)
    return flat(x) + tf.gather(tf.math.unsorted_segment_sum(flat(x), label, 2), label)


STEPS = [batch_mean, whole_maximum, batch_softmax, running_rows, neighbour, first_row, gram, counted, branch,
         to_the_largest, counted_loop, noise, sorted_rows, batch_norm, backwards, as_one, rank_among, pairs,
         segments]  # fmt: skip


# Endings after which the number of rows in an output depends on values.


def hits(b, x):
    return tf.where(x > 0.7)


def kept(b, x):
    return tf.boolean_mask(x, tf.reduce_max(flat(x), 1) > 0.3)


def boxes(b, x):
    corners = tf.matmul(flat(x), b.weight(int(np.prod(x.shape[1:])), 4))
    return tf.image.non_max_suppression(corners, corners[:, 0], 10)


ENDINGS = [hits, kept, boxes]
