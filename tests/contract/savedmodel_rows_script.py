"""Print the analysis of rows in TensorFlow functions as JSON: `PYTHON -I savedmodel_rows_script.py`.

Each function is traced and analyzed, but not saved or run. Rules shared with other formats are tested with ONNX.
"""

import json
import os
import runpy

import tensorflow as tf

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
runpy.run_path(os.path.join(ROOT, "runtimes", "bootstrap.py"))

from runtimes.savedmodel.analysis.read import of_function  # noqa: E402

W = tf.Variable(tf.ones([4, 4]))
KERNEL = tf.Variable(tf.ones([3, 3, 2, 5]))
TABLE = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a"], [1], value_dtype=tf.int64), 0)
ROWS, TIME, PICTURE, TEXT, IDS = (
    tf.TensorSpec([None, 4], tf.float32, "x"),
    tf.TensorSpec([None, None, 4], tf.float32, "x"),
    tf.TensorSpec([None, 9, 9, 2], tf.float32, "x"),
    tf.TensorSpec([None], tf.string, "x"),
    tf.TensorSpec([None, 3], tf.int32, "x"),
)


def attention(x):
    n, t = tf.shape(x)[0], tf.shape(x)[1]
    heads = tf.transpose(tf.reshape(tf.einsum("nti,ij->ntj", x, W), [n, t, 2, 2]), [0, 2, 1, 3])
    mixed = tf.matmul(tf.nn.softmax(tf.matmul(heads, heads, transpose_b=True)), heads)
    return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [-1, t, 4]) + x


def recurrent(x):
    steps = tf.transpose(x, [1, 0, 2])
    taken = tf.TensorArray(tf.float32, tf.shape(steps)[0]).unstack(steps)
    made = tf.TensorArray(tf.float32, tf.shape(steps)[0])
    state = tf.zeros([tf.shape(x)[0], 4])
    for step in tf.range(tf.shape(steps)[0]):
        state = tf.tanh(tf.matmul(state, W) + taken.read(step))
        made = made.write(step, state)
    return tf.transpose(made.stack(), [1, 0, 2])


def picture(x):
    x = tf.nn.relu(tf.nn.conv2d(x, KERNEL, 1, "SAME"))
    x, _, _ = tf.compat.v1.nn.fused_batch_norm(x, *[tf.ones(5)] * 4, is_training=False)
    x = tf.image.resize(tf.nn.max_pool2d(x, 2, 2, "VALID"), [6, 6])
    return tf.reshape(x, [-1, 180])


def normalized(x):
    """LayerNormalization of Keras 2: each vector is a channel."""
    channels = tf.reduce_prod(tf.shape(x)[:-1])
    flat = tf.reshape(x, tf.stack([1, channels, 4, 1]))
    scale, offset = tf.ones([channels]), tf.zeros([channels])
    made = tf.compat.v1.nn.fused_batch_norm(flat, scale, offset, data_format="NCHW")[0]
    return tf.reshape(made, tf.shape(x)) * 2.0


def chosen(x):
    if tf.reduce_sum(W) > 3.0:
        return x * 2.0
    return -x


def sliced(x):
    return tf.concat([x[:, ::-1], x[..., 1:2], x[:, tf.newaxis, 2], tf.gather(x, [2, 0], axis=1)], 1)


def checked(x):
    tf.debugging.assert_less(tf.reduce_max(x), 100.0)
    return tf.nn.embedding_lookup(W, tf.argmax(x, 1))


def across(x):
    """Turn the blocks of an image into separate images, as old atrous convolutions did."""
    blocks = tf.space_to_batch(x, [2, 2], [[0, 1], [0, 1]])
    return tf.batch_to_space(tf.nn.conv2d(blocks, KERNEL, 1, "SAME"), [2, 2], [[0, 1], [0, 1]])


def row_by_row(x):
    return tf.map_fn(lambda row: row * 2.0, x)


def along_rows(x):
    state = tf.zeros([4])
    for row in x:
        state = state + row
    return x + state


def longest(x):
    lengths = tf.reduce_sum(tf.cast(x > 0, tf.int32), 1)
    return x[:, : tf.reduce_max(lengths)]


def branch(x):
    return tf.cond(tf.reduce_max(x) > 1.0, lambda: x, lambda: -x)


def loop(x):
    while tf.reduce_max(x) > 1.0:
        x = x * 0.5
    return x


def training(x):
    return tf.compat.v1.nn.fused_batch_norm(x, tf.ones(2), tf.ones(2), is_training=True)[0]


def branch_on_size(x):
    """The shape that is selected reveals the number of rows."""
    sizes = tf.cond(tf.reduce_sum(W) > 3.0, lambda: tf.shape(x), lambda: tf.constant([1, 1]))
    return x + tf.cast(sizes[0], tf.float32)


INDEPENDENT = {
    "attention": (attention, TIME), "normalized": (normalized, ROWS), "normalized in time": (normalized, TIME),
    "recurrent": (recurrent, TIME), "picture": (picture, PICTURE),
    "chosen": (chosen, ROWS), "sliced": (sliced, ROWS), "checked": (checked, ROWS), "across": (across, PICTURE),
    "lookup": (lambda x: TABLE.lookup(tf.strings.lower(x)), TEXT),
    "one_hot": (lambda x: tf.matmul(tf.reduce_sum(tf.one_hot(x, 4), 1), W), IDS),
    "select": (lambda x: tf.compat.v1.where(x[:, 0] > 0.0, x, -x), ROWS),
    "flat": (lambda x: tf.keras.layers.Flatten()(x), TIME),
    "zeros": (lambda x: tf.concat([tf.zeros([tf.shape(x)[0], 1]), x], 1), ROWS),
    "top": (lambda x: tf.math.top_k(x, 2).values, ROWS),
    "in_each": (lambda x: tf.gather(x, tf.argsort(x)[:, :2], batch_dims=1), ROWS),
    "blocks": (lambda x: tf.nn.space_to_depth(x[:, :8, :8], 2), PICTURE),
    "fixed_noise": (lambda x: x + tf.random.stateless_normal([4], [1, 2]), ROWS),
}  # fmt: skip
MIXING = {
    "reduces over the rows": (lambda x: x - tf.reduce_mean(x, 0), ROWS),
    "normalizes over": (lambda x: tf.transpose(tf.nn.softmax(tf.transpose(x))), ROWS),
    "sums over": (lambda x: tf.cumsum(x), ROWS),
    "reverses": (lambda x: x[::-1] + tf.reverse(x, [0]), ROWS),
    "some of the rows": (lambda x: x - x[0], ROWS),
    "one scale": (lambda x: tf.quantization.quantize_and_dequantize_v2(x, 0, 0, range_given=False), ROWS),
    "pairs each row": (lambda x: tf.matmul(tf.matmul(x, x, transpose_b=True), x), ROWS),
    "a number of elements that depends": (lambda x: tf.boolean_mask(x, x[:, 0] > 0.0), ROWS),
    "training mode": (training, PICTURE),
    "in training mode uses the mean and variance of all rows": (
        lambda x: tf.compat.v1.nn.fused_batch_norm(
            tf.reshape(x, [-1, 2, 2, 1]), [1.0] * 2, [0.0] * 2, data_format="NCHW"
        )[0],
        ROWS,
    ),
    "other values among": (lambda x: tf.concat([tf.zeros([1, 4]), x], 0), ROWS),
    "along dimension 1": (lambda x: tf.transpose(x), ROWS),
    "rows whatever": (lambda x: tf.identity(W), ROWS),
    "If 'cond' depends on values": (branch, ROWS),
    "runs as long as values": (loop, ROWS),
    "draws by the position": (lambda x: x + tf.random.stateless_normal(tf.shape(x), [1, 2]), ROWS),
    "Max 'Max' reduces": (longest, ROWS),
    "shifts": (lambda x: tf.roll(x, 1, 0), ROWS),
    "chooses among all": (lambda x: tf.image.non_max_suppression(x, x[:, 0], 3), ROWS),
}
UNKNOWN = {
    "particular rows": (along_rows, ROWS), "what is not followed": (row_by_row, ROWS),
    "the number of rows": (branch_on_size, ROWS),
    "as many": (lambda x: x + tf.math.top_k(tf.range(8.0), tf.shape(x)[0]).values[:, None], ROWS),
    "misaligned": (lambda x: tf.split(tf.tile(x, [3, 1]), [3, tf.shape(x)[0], 2 * tf.shape(x)[0] - 3])[1], ROWS),
    "sparse": (lambda x: tf.sparse.to_dense(tf.sparse.from_dense(x)), ROWS),
    "text": (lambda x: tf.strings.split(x).to_tensor(shape=[None, 3]), TEXT),
    "no known rank": (lambda x: x, tf.TensorSpec(None, tf.float32, "x")),
    "fixed first dimension": (lambda x: x, tf.TensorSpec([1, 4], tf.float32, "x")),
}  # fmt: skip

RANDOM = {
    "RandomStandardNormal": (
        lambda x: tf.cond(tf.reduce_sum(x) > 0.0, lambda: x + tf.random.normal([4]), lambda: x), ROWS,
    ),
}  # fmt: skip


def read(function, spec):
    traced = tf.function(function, input_signature=[spec]).get_concrete_function()
    names = {tensor.name: "given" for tensor in traced.inputs if tensor.dtype != tf.resource}
    return of_function(traced, names, {"y": traced.outputs[0]}, scalar_tables=True, defaults={})._asdict()


groups = {"independent": INDEPENDENT, "mixes": MIXING, "unknown": UNKNOWN, "random": RANDOM}
print(json.dumps({kind: {name: read(*each) for name, each in group.items()} for kind, group in groups.items()}))
