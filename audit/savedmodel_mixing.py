"""Steps that mix the rows of a batch, as they occur in TensorFlow models; see `savedmodel_graphs.py`."""

from collections.abc import Iterator

import tensorflow as tf
from savedmodel_graphs import Graph, Made, Step, Tensor, build, last, loop_over


def batch_mean_removed(m: Made, x: Tensor) -> Tensor:
    return x - tf.reduce_mean(x, 0, keepdims=m.random.random() < 0.5)


def whole_maximum(m: Made, x: Tensor) -> Tensor:
    return x / (tf.reduce_max(tf.abs(x)) + 0.5)


def softmax_over_batch(m: Made, x: Tensor) -> Tensor:
    return tf.nn.softmax(x, axis=0)


def running_sum(m: Made, x: Tensor) -> Tensor:
    return tf.cumsum(x, 0, reverse=m.random.random() < 0.5)


def training_norm(m: Made, x: Tensor) -> Tensor:
    wide = x if x.shape.rank == 4 else tf.reshape(x, [tf.shape(x)[0], 1, -1, last(x)])
    made = tf.compat.v1.nn.fused_batch_norm(wide, tf.ones(last(x)), m.weight(last(x)), is_training=True)[0]
    return tf.reshape(made, tf.shape(x))


def neighbour(m: Made, x: Tensor) -> Tensor:
    return x + (tf.roll(x, 1, 0) if m.random.random() < 0.5 else tf.concat([x[-1:], x[:-1]], 0))


def first_row(m: Made, x: Tensor) -> Tensor:
    return x - (x[0] if m.random.random() < 0.5 else tf.gather(x, [0]))


def gram(m: Made, x: Tensor) -> Tensor:
    flat = tf.reshape(x, [tf.shape(x)[0], -1])
    return tf.reshape(tf.matmul(tf.nn.softmax(tf.matmul(flat, flat, transpose_b=True)), flat), tf.shape(x))


def from_row_to_row(m: Made, x: Tensor) -> Tensor:
    wide = tf.reshape(x, [tf.shape(x)[0], -1, last(x)])
    return tf.reshape(loop_over(m, wide, 0), tf.concat([tf.shape(x)[:-1], [5]], 0))


def batch_size_in_values(m: Made, x: Tensor) -> Tensor:
    return x / tf.cast(tf.shape(x)[0], tf.float32)


def batch_size_through_a_branch(m: Made, x: Tensor) -> Tensor:
    size = tf.cond(tf.reduce_sum(tf.abs(m.weight(3))) > 0.0, lambda: tf.shape(x)[0], lambda: 7)
    return x * tf.cast(size, tf.float32)


def branch_on_batch(m: Made, x: Tensor) -> Tensor:
    return tf.cond(tf.reduce_max(x) > 0.8, lambda: -x, lambda: tf.tanh(x) + 1.0)


def loop_to_the_largest(m: Made, x: Tensor) -> Tensor:
    steps = tf.minimum(tf.cast(tf.reduce_max(tf.abs(x)) * 3.0, tf.int32), 6)
    for _ in tf.range(steps):
        x = x * 0.5
    return x


def noise(m: Made, x: Tensor) -> Tensor:
    return x + tf.random.normal(tf.shape(x))


def numbered_noise(m: Made, x: Tensor) -> Tensor:
    return x + tf.random.stateless_normal(tf.shape(x), [3, 4])


def place_in_the_batch(m: Made, x: Tensor) -> Tensor:
    places = tf.cast(tf.range(tf.shape(x)[0]), tf.float32)
    return x + tf.reshape(places, [-1] + [1] * (x.shape.rank - 1))


def sorted_rows(m: Made, x: Tensor) -> Tensor:
    keys = tf.reduce_mean(tf.reshape(x, [tf.shape(x)[0], -1]), 1)
    return tf.gather(x, tf.argsort(keys))


def normalised_over_batch(m: Made, x: Tensor) -> Tensor:
    return tf.math.l2_normalize(x, axis=0, epsilon=1.0)


def rank_among_rows(m: Made, x: Tensor) -> Tensor:
    score = tf.reduce_mean(tf.reshape(x, [tf.shape(x)[0], -1]), 1)
    below = tf.reduce_sum(tf.cast(score[:, None] > score[None], tf.float32), 1)
    return x + tf.reshape(below, [-1] + [1] * (x.shape.rank - 1))


def whole_as_one_row(m: Made, x: Tensor) -> Tensor:
    return tf.reshape(tf.nn.softmax(tf.reshape(x, [1, -1])), tf.shape(x))


def turned_wrongly(m: Made, x: Tensor) -> Tensor:
    """Use a reshape where a transpose was intended."""
    flat = tf.reshape(x, [tf.shape(x)[0], -1])
    turned = tf.reshape(flat, [tf.shape(flat)[1], tf.shape(flat)[0]])
    return tf.reshape(tf.transpose(turned) - flat, tf.shape(x))


def one_scale(m: Made, x: Tensor) -> Tensor:
    return tf.quantization.quantize_and_dequantize_v2(x, 0.0, 0.0, range_given=False, num_bits=4)


def state_of_the_rows(m: Made, x: Tensor) -> Tensor:
    """Subtract the maximum over all rows, which a loop over the rows computes."""
    seen = tf.zeros_like(x[0])
    for row in x:
        seen = tf.maximum(seen, row)
    return x - seen


def written_over(m: Made, x: Tensor) -> Tensor:
    return tf.tensor_scatter_nd_update(x, [[0]], tf.reduce_sum(x, 0, keepdims=True))


def other_half(m: Made, x: Tensor) -> Tensor:
    """Concatenate the batch with its reverse and keep the wrong half."""
    doubled = tf.concat([x, x[::-1]], 0)
    return doubled[tf.shape(x)[0] :]


STEPS: list[Step] = [
    batch_mean_removed, whole_maximum, softmax_over_batch, running_sum, training_norm, neighbour, first_row, gram,
    from_row_to_row, batch_size_in_values, batch_size_through_a_branch, branch_on_batch, loop_to_the_largest, noise,
    numbered_noise, place_in_the_batch, sorted_rows, normalised_over_batch, rank_among_rows, whole_as_one_row,
    turned_wrongly, one_scale, state_of_the_rows, written_over, other_half,
]  # fmt: skip


# Endings after which the number of rows in an output depends on values.


def hits(m: Made, x: Tensor) -> Tensor:
    return tf.where(x > 0.5)


def kept_rows(m: Made, x: Tensor) -> Tensor:
    return tf.boolean_mask(x, tf.reduce_max(tf.reshape(x, [tf.shape(x)[0], -1]), 1) > 0.3)


def distinct(m: Made, x: Tensor) -> Tensor:
    return tf.unique(tf.argmax(tf.reshape(x, [tf.shape(x)[0], -1])[:, :4], 1)).y


def boxes(m: Made, x: Tensor) -> Tensor:
    corners = tf.abs(tf.reshape(x, [tf.shape(x)[0], -1])[:, :4])
    return tf.image.non_max_suppression(corners, tf.reduce_sum(corners, 1), 3)


def longest(m: Made, x: Tensor) -> Tensor:
    flat = tf.reshape(x, [tf.shape(x)[0], -1])
    lengths = tf.reduce_sum(tf.cast(flat > 0.0, tf.int32), 1)
    return tf.reduce_mean(flat[:, : tf.reduce_max(lengths) + 1], 1)


def turned(m: Made, x: Tensor) -> Tensor:
    return tf.transpose(x)


def folded_together(m: Made, x: Tensor) -> Tensor:
    return tf.reshape(x, [-1])[:, None]


ENDINGS: list[Step] = [hits, kept_rows, distinct, boxes, longest, turned, folded_together]


def graphs(count: int, first: int = 0) -> Iterator[Graph]:
    """Yield `count` graphs, half of which mix rows. Equal arguments yield equal graphs."""
    for seed in range(first, first + count):
        chance = Made(seed + 1000000).random
        if seed % 2 == 0:
            yield build(seed, None, None)
        elif chance.random() < 0.25:
            yield build(seed, None, chance.choice(ENDINGS))
        else:
            yield build(seed, chance.choice(STEPS), None)
