"""Steps that keep rows independent, for tensors of any rank; see `tflite_graphs.py`."""

import random

import numpy as np
import tensorflow as tf


class Builder:
    """Makes all choices of one graph from its seed.

    Tensors are [n, features], [n, time, features] or [n, height, width, channels].
    """

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.numpy = np.random.default_rng(seed)
        self.steps = []

    def weight(self, *sizes):
        scale = 1.0 / max(1.0, float(np.prod(sizes[:-1]))) ** 0.5
        return tf.constant((self.numpy.normal(size=sizes) * scale).astype(np.float32))


def last(x):
    return int(x.shape[-1])


def flat(x):
    return tf.reshape(x, [-1, int(np.prod(x.shape[1:]))])


def dense(b, x):
    return tf.tensordot(x, b.weight(last(x), b.random.choice([8, 160])), 1) + 0.1


def wide(b, x):
    """Multiply by weights that are large enough for dynamic range quantization."""
    return tf.tanh(tf.matmul(tf.nn.relu(tf.matmul(flat(x), b.weight(int(np.prod(x.shape[1:])), 96))), b.weight(96, 24)))


def activation(b, x):
    return b.random.choice([tf.nn.relu, tf.nn.relu6, tf.tanh, tf.sigmoid, tf.nn.elu, tf.nn.gelu, tf.abs, tf.nn.swish])(
        x
    )


def softmax(b, x):
    return b.random.choice([tf.nn.softmax, tf.nn.log_softmax])(x)


def normalised(b, x):
    mean = tf.reduce_mean(x, -1, keepdims=True)
    return (x - mean) * tf.math.rsqrt(tf.reduce_mean(tf.square(x - mean), -1, keepdims=True) + 0.1)


def l2(b, x):
    return tf.math.l2_normalize(x, -1, epsilon=0.1)


def folded(b, x):
    y = tf.nn.relu(tf.matmul(tf.reshape(x, [-1, last(x)]), b.weight(last(x), last(x))))
    return tf.reshape(y, [-1, *x.shape[1:]])


def by_shape(b, x):
    size = tf.shape(x)[0]
    return tf.reshape(tf.reshape(x, [size, -1]) * 2.0, tf.stack([size, *x.shape[1:]]))


def doubled(b, x):
    return tf.concat([x, x * 0.5], -1)


def cut(b, x):
    return tf.slice(x, [0] * len(x.shape), [-1] * (len(x.shape) - 1) + [max(last(x) // 2, 1)])


def strided(b, x):
    return x[..., ::2] if last(x) > 1 else x[:, ..., tf.newaxis][..., 0]


def sliced_added(b, x):
    """Add a slice that covers the whole tensor to the tensor itself."""
    rank = len(x.shape)
    return tf.ensure_shape(x + tf.slice(x, [0] * rank, [-1] * rank)[: tf.shape(x)[0]], x.shape)


def turned(b, x):
    order = [1, 0, *range(2, len(x.shape))]
    return tf.transpose(tf.nn.relu(tf.transpose(x, order)), order) if len(x.shape) > 2 else x + 1.0


def turned_softmax(b, x):
    """Apply a softmax along the features, after a transpose that moves the batch to the end."""
    if len(x.shape) != 3:
        return x
    return tf.transpose(tf.nn.softmax(tf.transpose(x, [1, 2, 0]), 1), [2, 0, 1])


def tiled(b, x):
    return tf.tile(x, [1] * (len(x.shape) - 1) + [2])


def padded(b, x):
    kind = b.random.choice(["CONSTANT", "REFLECT"]) if last(x) > 2 else "CONSTANT"
    return tf.pad(x, [[0, 0]] * (len(x.shape) - 1) + [[1, 1]], kind)


def best(b, x):
    return tf.math.top_k(x, min(last(x), 4))[0]


def running(b, x):
    return tf.cumsum(x, b.random.choice([-1, len(x.shape) - 1]))


def chosen(b, x):
    return tf.gather(x, b.numpy.integers(0, last(x), 5).astype(np.int32), axis=-1)


def hot(b, x):
    return tf.one_hot(tf.argmax(x, -1), last(x)) + x


def reduced(b, x):
    return b.random.choice([tf.reduce_sum, tf.reduce_max, tf.reduce_min])(x, -1, keepdims=True) * 0.5 + x


def zeros(b, x):
    return x + tf.zeros(tf.shape(x)) + tf.fill([tf.shape(x)[0]] + [1] * (len(x.shape) - 1), 0.25)


def repeated_row(b, x):
    row = b.weight(1, *[1] * (len(x.shape) - 2), last(x))
    return x * tf.broadcast_to(row, tf.shape(x))


def class_token(b, x):
    if len(x.shape) != 3:
        return x
    token = tf.tile(b.weight(1, 1, last(x)), [tf.shape(x)[0], 1, 1])
    return tf.concat([token, x], 1)


def attention(b, x):
    if len(x.shape) != 3:
        return x
    wide = b.random.choice([16, 128])
    q, k, v = (tf.tensordot(x, b.weight(last(x), wide), 1) for _ in range(3))
    q, k, v = (tf.transpose(tf.reshape(y, [-1, int(x.shape[1]), 2, wide // 2]), [0, 2, 1, 3]) for y in (q, k, v))
    mixed = tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True)), v)
    return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [-1, int(x.shape[1]), wide])


def product(b, x):
    return tf.einsum("nij,nkj->nik", x, x) if len(x.shape) == 3 else x * x


def weighted(b, x):
    """Multiply with constants on the left, for which TensorFlow Lite has separate kernels."""
    return tf.matmul(b.weight(64, int(x.shape[1])), x) if len(x.shape) == 3 else x


def where(b, x):
    return tf.where(x > 0.2, x, -x)


def parts(b, x):
    halves = tf.split(x, [1, last(x) - 1], -1) if last(x) > 1 else [x, x]
    return tf.concat(halves[::-1], -1)


def unstacked(b, x):
    return tf.stack(tf.unstack(x, axis=-1)[::-1], -1)


def reversed_(b, x):
    return tf.reverse(x, [-1])


def picked(b, x):
    if len(x.shape) != 3:
        return x
    return tf.gather(x, tf.argsort(x[:, :, 0], axis=1), axis=1, batch_dims=1)


def looped(b, x):
    return tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, tf.tanh(y + 0.1)), [tf.constant(0), x])[1]


def kept_branch(b, x):
    return tf.cond(tf.shape(x)[-1] > 2, lambda: x * 2.0, lambda: x)


def recurrent(b, x):
    if len(x.shape) != 3:
        return x
    kind = b.random.choice([tf.keras.layers.LSTM, tf.keras.layers.GRU, tf.keras.layers.SimpleRNN])
    layer = kind(b.random.choice([6, 32]), return_sequences=True, unroll=b.random.random() < 0.5)
    layer.build((None, *x.shape[1:]))
    layer.set_weights([b.numpy.normal(size=w.shape).astype(np.float32) * 0.3 for w in layer.get_weights()])
    b.kept.append(layer)
    return layer(x)


def flattened(b, x):
    return flat(x)


def sequence(b, x):
    size = int(np.prod(x.shape[1:]))
    return tf.reshape(x, [-1, 2, size // 2]) if len(x.shape) == 2 and size % 2 == 0 else x


ANY = [dense, dense, wide, activation, activation, softmax, normalised, l2, folded, by_shape, doubled, cut, strided,
       sliced_added, turned, turned_softmax, tiled, padded, best, running, chosen, hot, reduced, zeros, repeated_row,
       class_token, attention, attention, product, weighted, where, parts, unstacked, reversed_, picked, looped,
       kept_branch, recurrent, flattened, sequence]  # fmt: skip
