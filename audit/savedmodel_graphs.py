"""Generates random TensorFlow functions of vectors, token ids, sequences and images; half of them mix rows.

`PYTHON savedmodel_graphs.py FOLDER COUNT`, in the environment of the runtime savedmodel, writes the functions as
SavedModels, and the step that mixes rows in each of them to graphs.json.
"""

import json
import os
import random
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

Tensor = Any
Step = Callable[["Made", Tensor], Tensor]


class Made:
    """The state from which a function is built: random numbers, weights, and the names of its steps."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.numpy = np.random.default_rng(seed)
        self.steps: list[str] = []
        self.variables: list[Any] = []
        self._place = 0

    def weight(self, *shape: int) -> Tensor:
        """Return a variable with random values, the same one each time the function is traced."""
        if self._place == len(self.variables):
            scale = 1.0 / np.sqrt(max(shape[-2] if len(shape) > 1 else 4, 1))
            self.variables.append(tf.Variable((self.numpy.normal(size=shape) * scale).astype(np.float32)))
        self._place += 1
        return tf.convert_to_tensor(self.variables[self._place - 1])


class Graph(NamedTuple):
    seed: int
    mixing: str
    steps: list[str]
    module: tf.Module
    function: Any


def last(x: Tensor) -> int:
    return int(x.shape[-1])


def dense(m: Made, x: Tensor) -> Tensor:
    return tf.nn.relu(tf.tensordot(x, m.weight(last(x), 6), 1) + m.weight(6))


def product(m: Made, x: Tensor) -> Tensor:
    return tf.einsum("...i,ij->...j", x, m.weight(last(x), 4))


def softmax(m: Made, x: Tensor) -> Tensor:
    return tf.nn.softmax(x) if m.random.random() < 0.5 else tf.nn.log_softmax(x)


def layer_norm(m: Made, x: Tensor) -> Tensor:
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, m.weight(last(x)), m.weight(last(x)), 1e-3)


def unit_length(m: Made, x: Tensor) -> Tensor:
    return tf.math.l2_normalize(x, axis=-1, epsilon=1e-3)


def columns(m: Made, x: Tensor) -> Tensor:
    chosen = [m.random.randrange(last(x)) for _ in range(4)]
    return tf.concat([tf.gather(x, chosen, axis=-1), x[..., ::-1], x[..., :1] * 2.0], -1)


def largest(m: Made, x: Tensor) -> Tensor:
    return tf.concat([tf.math.top_k(x, min(3, last(x))).values, tf.cumsum(x, -1)], -1)


def embedded(m: Made, x: Tensor) -> Tensor:
    return tf.gather(m.weight(last(x), 5), tf.argmax(x, -1)) + tf.reduce_max(x, -1, keepdims=True)


def one_hot(m: Made, x: Tensor) -> Tensor:
    return tf.one_hot(tf.argmin(x, -1), last(x)) - x


def with_zeros(m: Made, x: Tensor) -> Tensor:
    """Append zeros whose shape depends on the batch size, like initial states of recurrent layers."""
    return tf.concat([x, tf.zeros(tf.concat([tf.shape(x)[:-1], [2]], 0))], -1)


def folded(m: Made, x: Tensor) -> Tensor:
    """Flatten each row, add its reverse, and restore the shape."""
    shape = tf.shape(x)
    flat = tf.reshape(x, [shape[0], -1])
    return tf.reshape(tf.reverse(flat, [1]) * 0.5 + flat, shape)


def several(m: Made, x: Tensor) -> Tensor:
    """Join the rows and all inner dimensions for a product, and separate them again."""
    flat = tf.reshape(x, [-1, last(x)])
    return tf.reshape(tf.matmul(flat, m.weight(last(x), 4)), tf.concat([tf.shape(x)[:-1], [4]], 0))


def branch_on_weights(m: Made, x: Tensor) -> Tensor:
    return tf.cond(tf.reduce_sum(m.weight(3)) > 0.0, lambda: x * 2.0, lambda: tf.tanh(x))


def repeated(m: Made, x: Tensor) -> Tensor:
    for _ in tf.range(3):
        x = tf.sin(x) + 0.1
    return x


def parts(m: Made, x: Tensor) -> Tensor:
    pieces = tf.unstack(x, axis=-1)
    m.random.shuffle(pieces)
    return tf.stack(pieces, -1) + tf.where(x > 0.2, x, tf.zeros_like(x))


def checked(m: Made, x: Tensor) -> Tensor:
    tf.debugging.assert_less(tf.reduce_max(tf.abs(x)), 1e9)
    return tf.identity(x)


def tiled(m: Made, x: Tensor) -> Tensor:
    return tf.tile(x, [1] * (x.shape.rank - 1) + [2]) * tf.broadcast_to(m.weight(1), tf.shape(x[..., :1]))


def there_and_back(m: Made, x: Tensor) -> Tensor:
    """Concatenate the batch with a scaled copy and keep the first half, or transpose twice."""
    return tf.concat([x, x * 3.0], 0)[: tf.shape(x)[0]] if m.random.random() < 0.3 else tf.transpose(tf.transpose(x))


def recurrent(m: Made, x: Tensor) -> Tensor:
    return loop_over(m, x, 1)


def attention(m: Made, x: Tensor) -> Tensor:
    query, key = product(m, x), product(m, x)
    weights = tf.linalg.band_part(tf.matmul(query, key, transpose_b=True), -1, 0) if m.random.random() < 0.5 else None
    scores = tf.matmul(query, key, transpose_b=True) if weights is None else weights
    return tf.matmul(tf.nn.softmax(scores), x)


def heads(m: Made, x: Tensor) -> Tensor:
    wide = tf.tensordot(x, m.weight(last(x), 8), 1)
    apart = tf.transpose(tf.reshape(wide, [-1, tf.shape(x)[1], 2, 4]), [0, 2, 1, 3])
    mixed = tf.matmul(tf.nn.softmax(tf.matmul(apart, apart, transpose_b=True) * 0.3), apart)
    return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), tf.shape(wide))


def over_time(m: Made, x: Tensor) -> Tensor:
    padded = tf.pad(x, [[0, 0], [1, 1], [0, 0]])
    return padded[:, :-2] + padded[:, 2:] - tf.reduce_mean(x, 1, keepdims=True)


def turned_back(m: Made, x: Tensor) -> Tensor:
    lengths = tf.reduce_sum(tf.cast(x[:, :, 0] > 0.0, tf.int32), 1)
    return tf.reverse_sequence(x, lengths, seq_axis=1, batch_axis=0)


def sorted_time(m: Made, x: Tensor) -> Tensor:
    return tf.gather(x, tf.argsort(x[:, :, 0]), batch_dims=1)


def convolution(m: Made, x: Tensor) -> Tensor:
    return tf.nn.conv2d(x, m.weight(3, 3, last(x), 4), m.random.choice([1, 2]), m.random.choice(["SAME", "VALID"]))


def depthwise(m: Made, x: Tensor) -> Tensor:
    return tf.nn.depthwise_conv2d(x, m.weight(3, 3, last(x), 1), [1, 1, 1, 1], "SAME", dilations=[2, 2])


def pooled(m: Made, x: Tensor) -> Tensor:
    return m.random.choice([tf.nn.max_pool2d, tf.nn.avg_pool2d])(x, 2, 1, "SAME")


def resized(m: Made, x: Tensor) -> Tensor:
    return tf.image.resize(x, [7, 6], m.random.choice(["bilinear", "nearest", "bicubic"]))


def inference_norm(m: Made, x: Tensor) -> Tensor:
    ones = tf.ones(last(x))
    return tf.compat.v1.nn.fused_batch_norm(x, ones, m.weight(last(x)), m.weight(last(x)), ones, is_training=False)[0]


def atrous(m: Made, x: Tensor) -> Tensor:
    x = tf.image.resize(x, [8, 8])
    blocks = tf.nn.conv2d(tf.space_to_batch(x, [2, 2], [[0, 0], [0, 0]]), m.weight(3, 3, last(x), 4), 1, "SAME")
    return tf.batch_to_space(blocks, [2, 2], [[0, 0], [0, 0]])


def loop_over(m: Made, x: Tensor, axis: int) -> Tensor:
    """Run a recurrent layer, written with TensorArrays, along time or, by mistake, along the batch."""
    steps = tf.transpose(x, [axis, 1 - axis, 2])
    inside, after = m.weight(last(x), 5), m.weight(5, 5)
    taken = tf.TensorArray(tf.float32, tf.shape(steps)[0]).unstack(steps)
    made = tf.TensorArray(tf.float32, tf.shape(steps)[0])
    state = tf.zeros([tf.shape(steps)[1], 5])
    for step in tf.range(tf.shape(steps)[0]):
        state = tf.tanh(tf.matmul(taken.read(step), inside) + tf.matmul(state, after))
        made = made.write(step, state)
    return tf.transpose(made.stack(), [axis, 1 - axis, 2])


ANY: list[Step] = [
    dense, product, softmax, layer_norm, unit_length, columns, largest, embedded, one_hot, with_zeros, folded, several,
    branch_on_weights, repeated, parts, checked, tiled, there_and_back,
]  # fmt: skip
OF_RANK: dict[int, list[Step]] = {
    2: ANY,
    3: ANY + 2 * [recurrent, attention, heads, over_time, turned_back, sorted_time],
    4: ANY + 4 * [convolution, depthwise, pooled, resized, inference_norm, atrous],
}


def chain(m: Made, x: Tensor, count: int) -> Tensor:
    for _ in range(count):
        step = m.random.choice(OF_RANK[x.shape.rank])
        m.steps.append(step.__name__)
        x = step(m, x)
    return x


def build(seed: int, mixing: Step | None, ending: Step | None) -> Graph:
    m = Made(seed)
    kind = m.random.choice(["vector", "ids", "sequence", "picture"])
    shape = {"vector": [7], "ids": [None], "sequence": [None, 5], "picture": [8, 8, 3]}[kind]
    spec = tf.TensorSpec([None, *shape], tf.int32 if kind == "ids" else tf.float32, "x")
    before, after, state = m.random.randint(0, 3), m.random.randint(0, 2), m.random.getstate()

    def function(x: Tensor) -> dict[str, Tensor]:
        m._place, m.steps = 0, []
        m.random.setstate(state)
        value = tf.gather(m.weight(60, 4), x) if kind == "ids" else x
        value = chain(m, value, before if mixing or ending else before + after + 1)
        if mixing:
            m.steps.append(mixing.__name__)
            value = chain(m, mixing(m, value), after)
        return {"y": ending(m, value) if ending else value}

    module = tf.Module()
    traced = tf.function(function, input_signature=[spec])
    name = mixing.__name__ if mixing else ending.__name__ if ending else ""
    concrete = traced.get_concrete_function()
    module.serve, module.kept = traced, list(m.variables)
    return Graph(seed, name, m.steps, module, concrete)


def main(folder: str, count: int) -> None:
    found = {}
    for graph in graphs(count):
        name = f"graph{graph.seed}"
        tf.saved_model.save(graph.module, os.path.join(folder, name), signatures=graph.module.serve)
        found[name] = {"artifact": name, "mixing": graph.mixing}
    with open(os.path.join(folder, "graphs.json"), "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from savedmodel_mixing import graphs

    main(sys.argv[1], int(sys.argv[2]))
