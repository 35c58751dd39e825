"""Random TensorFlow Lite graphs whose rows are independent, or meet, by construction.

PYTHON tflite_graphs.py FOLDER COUNT, in an environment with TensorFlow: writes COUNT files and graphs.json, which has
for each the step that lets rows meet, "" for none.
"""

import json
import random
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf


class Builder:
    """All choices come from a seed. Tensors are [n, features], [n, time, features] or [n, height, width, channels]."""

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
    """Large enough for dynamic range quantisation."""
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
    """A slice of everything, beside the rows themselves."""
    rank = len(x.shape)
    return tf.ensure_shape(x + tf.slice(x, [0] * rank, [-1] * rank)[: tf.shape(x)[0]], x.shape)


def turned(b, x):
    order = [1, 0, *range(2, len(x.shape))]
    return tf.transpose(tf.nn.relu(tf.transpose(x, order)), order) if len(x.shape) > 2 else x + 1.0


def turned_softmax(b, x):
    """Along the first dimension, which is not the batch's then."""
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
    """A product of matrices with constants on the left, which has kernels of its own."""
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


ANY = [dense, dense, wide, activation, activation, softmax, normalised, l2, folded, by_shape, doubled, cut, strided,
       sliced_added, turned, turned_softmax, tiled, padded, best, running, chosen, hot, reduced, zeros, repeated_row,
       class_token, attention, attention, product, weighted, where, parts, unstacked, reversed_, picked, looped,
       kept_branch, recurrent, flattened, sequence]  # fmt: skip
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


# Steps that let rows meet.


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
    """The number of rows carried through a loop."""
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
    """Two rows in one."""
    size = int(np.prod(x.shape[1:]))
    y = tf.reshape(tf.concat([flat(x), flat(x)], 0), [-1, 2 * size])
    return tf.nn.softmax(y)


def segments(b, x):
    label = tf.cast(flat(x)[:, 0] > 0, tf.int32)
    return flat(x) + tf.gather(tf.math.unsorted_segment_sum(flat(x), label, 2), label)


STEPS = [batch_mean, whole_maximum, batch_softmax, running_rows, neighbour, first_row, gram, counted, branch,
         to_the_largest, counted_loop, noise, sorted_rows, batch_norm, backwards, as_one, rank_among, pairs,
         segments]  # fmt: skip


def hits(b, x):
    return tf.where(x > 0.7)


def kept(b, x):
    return tf.boolean_mask(x, tf.reduce_max(flat(x), 1) > 0.3)


def boxes(b, x):
    corners = tf.matmul(flat(x), b.weight(int(np.prod(x.shape[1:])), 4))
    return tf.image.non_max_suppression(corners, corners[:, 0], 10)


ENDINGS = [hits, kept, boxes]


def chain(b, x, count):
    for _ in range(count):
        step = b.random.choice(PICTURE if len(x.shape) == 4 and b.random.random() < 0.7 else ANY)
        if (len(x.shape) == 4 and step is wide) or int(np.prod(x.shape[1:])) > 4096:
            step = global_pool if len(x.shape) == 4 else flattened
        b.steps.append(step.__name__)
        x = step(b, x)
    return x


def built(seed):
    """A graph's function, its input's shape and what lets rows meet in it."""
    b = Builder(seed)
    shape = b.random.choice([[None, 10], [None, 5, 8], [None, 8, 8, 3]])
    mixing = [""]

    def function(x):
        b.random, b.numpy, b.steps, b.kept = random.Random(seed + 1), np.random.default_rng(seed), [], []
        x = chain(b, x, b.random.randint(1, 3))
        if seed % 2:
            step = b.random.choice(ENDINGS if b.random.random() < 0.15 else STEPS)
            mixing[0] = step.__name__
            b.steps.append(step.__name__)
            x = step(b, x)
            if step in ENDINGS:
                return x
        return chain(b, x, b.random.randint(0, 2))

    module = tf.Module()
    module.function = tf.function(
        function, input_signature=[tf.TensorSpec(shape, tf.float32, name="x")], autograph=False
    )
    return b, module, shape, mixing


def converted(seed):
    b, module, shape, mixing = built(seed)
    concrete = module.function.get_concrete_function()
    module.kept = b.kept
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    kind = b.random.choice(["float", "float", "dynamic", "dynamic", "half", "whole"])
    if kind != "float":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "half":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "whole":
        samples = [b.numpy.normal(size=[1, *shape[1:]]).astype(np.float32) for _ in range(4)]
        converter.representative_dataset = lambda: ([sample] for sample in samples)
    return converter.convert(), mixing[0], [kind, *b.steps]


def main():
    folder, count, first = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0
    found = {}
    seed = first
    while len(found) < count:
        name = f"graph{seed}"
        try:
            content, mixing, steps = converted(seed)
            (folder / f"{name}.tflite").write_bytes(content)
            found[name] = {"artifact": f"{name}.tflite", "mixing": mixing, "steps": steps}
        except Exception as error:
            print(name, type(error).__name__, str(error)[:200], file=sys.stderr)
        seed += 1
    (folder / "graphs.json").write_text(json.dumps(found))


main()
