"""Make models/*.model with CNTK, and the outputs that it computes: NAME.npz has in.NAME and out.NAME.

    PYTHON_3_6_WITH_CNTK make_models.py FOLDER [NAME…]

The arrays are in the order of the model's arguments and outputs. Inputs have three rows, and sequences five
steps. There is no .npz if CNTK refuses to compute, or if there is nothing to compute.
"""

# Python 3.6 runs this: nothing newer may be suggested here.
# ruff: noqa: RUF005, B905

import collections
import os
import sys
import warnings

import numpy as np

warnings.simplefilter("ignore")
import cntk as C  # noqa: E402
from cntk import layers as L  # noqa: E402
from cntk.misc.optimized_rnnstack_converter import convert_optimized_rnnstack  # noqa: E402
from scipy.sparse import csr_matrix  # noqa: E402

ROWS, STEPS = 3, 5
MODELS = collections.OrderedDict()


def model(build):
    MODELS[build.__name__] = build
    return build


def vector(size=5, name="v", **options):
    return C.input_variable(size, name=name, **options)


def image(shape=(2, 3, 4), name="i", **options):
    return C.input_variable(shape, name=name, **options)


def sequence(size=3, name="x", **options):
    return C.sequence.input_variable(size, name=name, **options)


def parameter(*shape):
    return C.parameter(shape, init=C.initializer.uniform(1))


def constant(*values):
    return C.constant(np.array(values, np.float32))


# ------------------------------------------------------------------ layers


@model
def dense():
    hidden = L.Sequential([L.Dense(7, activation=C.relu, name="h1"), L.BatchNormalization(), L.Dropout(0.3)])
    return L.Dense(3, name="out")(hidden(vector()))


@model
def dense_of_many_axes():
    i = image()
    return C.combine([L.Dense((2, 3))(vector()), L.Dense(4, map_rank=1)(i), L.Dense(2, input_rank=1)(i)])


@model
def convolution():
    i = image()
    sizes = [((3, 3), 1), ((3, 3), 2), ((2, 2), 1), ((2, 4), (2, 3)), ((1, 1), 2)]
    padded = [L.Convolution2D(size, 2, pad=True, strides=strides)(i) for size, strides in sizes]
    return C.combine(padded + [L.Convolution2D((3, 2), 3, bias=False)(i)])


@model
def regions():
    """The corners of regions are rounded, and may be outside of the image."""
    i = image((2, 6, 8))
    corners = C.sigmoid(C.input_variable((4, 4), name="corners")) * constant(12, 9, 12, 9) + constant(0, 0, 12, 9)
    whole = C.constant(np.array([[0, 0, 15, 11], [3, 2, 9, 9], [1, 3, 7, 7]], np.float32))
    pooled = [C.roipooling(i, corners + shift, C.MAX_POOLING, (2, 3), spatial_scale=0.5) for shift in (0, 1.25)]
    given = C.reshape(C.splice(C.reduce_sum(i) * 0, axis=0), (1, 1)) + whole
    return C.combine(pooled + [C.roipooling(i, given, C.MAX_POOLING, (3, 2), spatial_scale=0.5)])


@model
def crops():
    i, like = image((2, 4, 5)), image((1, 2, 3), "like")
    return C.combine([C.crop_manual(i, like, 1, 2), C.crop_manual(i, like, 2, 0)])


@model
def signs_and_constants():
    v = vector(name="edges")
    return C.combine([C.straight_through_impl(v), C.ones_like(v), C.zeros_like(sequence())])


@model
def convolution_of_open_strides():
    """Converters of other formats leave the stride along the channels to CNTK."""
    strides = (C.InferredDimension, 1, 2)
    return C.convolution(parameter(4, 2, 3, 3), image((2, 6, 7)), strides=strides, auto_padding=[False, True, True])


@model
def convolution_places():
    """Sizes and strides with a remainder, on either side."""
    i, j = image((1, 7, 8)), image((1, 6, 9), "j")
    sizes = [((2, 2), 2), ((4, 4), (1, 2)), ((3, 3), 3)]
    found = [L.Convolution2D(size, 2, pad=True, strides=strides)(i) for size, strides in sizes]
    return C.combine([*found, L.Convolution2D((1, 1), 2, pad=True, strides=3)(j), L.MaxPooling((1, 1), 3, pad=True)(j)])


@model
def convolution_other_ranks():
    return C.combine(
        [
            L.Convolution((2,), 4, reduction_rank=0)(vector()),
            L.Convolution1D(2, 4, pad=True)(image((3, 7), "w")),
            L.Convolution3D((2, 3, 2), 3, pad=True)(image((2, 4, 5, 6), "volume")),
            L.Convolution2D((3, 3), 3, pad=True, reduction_rank=0)(image((5, 6), "grey")),
            C.convolution(parameter(2, 3, 3), image(), auto_padding=[False, True, True]),
        ]
    )


@model
def convolution_groups():
    return C.convolution(parameter(4, 1, 3, 3), image(), strides=1, auto_padding=[False, True, True], groups=2)


@model
def convolution_transposed():
    i = image()
    return C.combine(
        [
            L.ConvolutionTranspose2D((3, 3), 2, strides=2, pad=True)(i),
            L.ConvolutionTranspose2D((3, 3), 2, strides=2, pad=False)(i),
            L.ConvolutionTranspose2D((3, 3), 2, strides=2, pad=True, output_shape=(6, 8))(i),
            L.ConvolutionTranspose2D((4, 4), 2, strides=2, pad=True, output_shape=(6, 8))(i),
            L.ConvolutionTranspose2D((4, 3), 2, strides=2, pad=True)(i),
        ]
    )


@model
def convolution_of_each_step():
    return L.Convolution2D((3, 3), 4, pad=True)(sequence((2, 4, 4), "s"))


@model
def pooling():
    i = image()
    return C.combine(
        [
            L.GlobalAveragePooling()(i),
            L.GlobalMaxPooling()(i),
            L.MaxPooling((2, 2), strides=2, pad=True)(i),
            L.AveragePooling((3, 3), strides=(1, 2), pad=True)(i),
            L.AveragePooling((2, 3), strides=(1, 1))(i),
            C.pooling(i, C.AVG_POOLING, (3, 3), (2, 2), auto_padding=[True, True], include_pad=True),
            C.pooling(i, C.AVG_POOLING, (2, 2), (2, 2), ceil_out_dim=True),
            C.pooling(i, C.MAX_POOLING, (2, 2), (2, 3), ceil_out_dim=True),
        ]
    )


@model
def normalization():
    i = image()
    stored = C.batch_normalization(
        i,
        parameter(2),
        parameter(2),
        constant(0.1, 0.2),
        constant(1, 2),
        True,
        running_count=C.constant(5),
        epsilon=1e-3,
    )
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 24
    each = C.batch_normalization(
        i, parameter(2, 3, 4), parameter(2, 3, 4), C.constant(values), C.constant(1 + values), False,
        running_count=C.constant(5),
    )  # fmt: skip
    return C.combine([stored, each, L.LayerNormalization()(image(6, "w")), L.BatchNormalization()(sequence())])


@model
def residual():
    i = image()
    return C.relu(L.BatchNormalization(map_rank=1)(L.Convolution2D((3, 3), 2, pad=True, bias=False)(i)) + i)


@model
def embedding():
    return L.Embedding(4)(vector())


# ------------------------------------------------------------------ recurrence


@model
def lstm():
    return L.Recurrence(L.LSTM(4))(sequence())


@model
def lstm_stabilized():
    return L.Recurrence(L.LSTM(4, enable_self_stabilization=True))(sequence())


@model
def rnn_stack():
    """Layers for a GPU, which CNTK itself converts for a CPU."""
    x = sequence()

    def stack(kind, layers, both, gates):
        sizes = [3] + [4 * (1 + both)] * (layers - 1)
        weights = parameter(sum((size + 4 + 2) * 4 * gates * (1 + both) for size in sizes), 1)
        return C.optimized_rnnstack(x, weights, 4, layers, both, kind)

    stacks = [("lstm", 1, False, 4), ("lstm", 3, True, 4), ("rnnTanh", 2, False, 1), ("rnnReLU", 2, True, 1)]
    return C.combine([stack(*each) for each in stacks])


@model
def lstm_peepholes():
    return L.Recurrence(L.LSTM(4, use_peepholes=True))(sequence())


@model
def lstm_both_ways():
    x = sequence()
    return C.splice(L.Recurrence(L.LSTM(4))(x), L.Recurrence(L.LSTM(3), go_backwards=True)(x))


@model
def lstm_relu():
    return L.Recurrence(L.LSTM(4, activation=C.relu))(sequence())


@model
def gru():
    return L.Recurrence(L.GRU(4))(sequence())


@model
def rnn():
    return L.Recurrence(L.RNNStep(4), initial_state=0.3)(sequence())


@model
def fold():
    return L.Sequential([L.Fold(L.GRU(4)), L.Dense(2, name="d")])(sequence())


@model
def tagger():
    return L.Sequential([L.Embedding(6), L.Recurrence(L.RNNStep(5)), L.Dense(3)])(sequence())


@model
def loop_from_an_input():
    return L.RecurrenceFrom(L.RNNStep(4))(vector(4, "h0"), sequence())


@model
def loop_of_two_steps():
    again = C.placeholder(3)
    h = C.plus(sequence(), 0.5 * C.sequence.past_value(again, time_step=2, initial_state=0.25), name="h")
    return h.replace_placeholders({again: h})


@model
def loop_of_sums():
    return L.Recurrence(C.plus)(sequence())


# ------------------------------------------------------------------ sequences


@model
def sequence_ends():
    x = sequence()
    last = C.sequence.last(x, name="last")
    slices = [C.sequence.slice(x, 1, 3), C.sequence.slice(x, 0, 2), C.sequence.slice(x, -2, 0)]
    return C.combine([C.sequence.first(x), last, x * C.sequence.broadcast_as(last, x), *slices])


@model
def sequences_of_one_length():
    x, y = sequence(), sequence(name="y")
    return C.combine([x + y, C.sequence.last(x) * C.sequence.first(y)])


@model
def sequence_moves():
    x = sequence()
    three = C.sequence.past_value(x, initial_state=constant(1, 2, 3))
    return C.combine([C.sequence.past_value(x), C.sequence.future_value(x, time_step=2, initial_state=2), three])


@model
def sequence_reductions():
    x = sequence()
    softmax = C.sequence.softmax(x)
    return C.combine([C.sequence.reduce_sum(x), C.sequence.reduce_max(x), softmax, C.sequence.reduce_sum(x * softmax)])


@model
def sequence_places():
    x = sequence()
    is_last = C.sequence.is_last(x)
    return C.combine([C.sequence.is_first(x), is_last, C.sequence.gather(x, is_last), C.sequence.where(is_last)])


@model
def sequence_as_axis():
    x = sequence()
    unpacked = C.sequence.unpack(x, 0, no_mask_output=True)
    return C.combine([C.to_sequence(image()), C.to_sequence_like(unpacked * 2, x), unpacked])


@model
def sequence_mask():
    return C.sequence.unpack(sequence(), 0)


@model
def sequence_beside_vector():
    x = sequence()
    return C.combine(
        [C.splice(x, constant(1, 2)), C.sequence.broadcast_as(vector(), x), L.Dense(4, activation=C.relu)(x)]
    )


# ------------------------------------------------------------------ operations


@model
def unary():
    v = vector()
    ops = (
        "exp tanh sigmoid relu elu softplus abs floor ceil round negate sin cos tan atan sinh cosh asinh square log "
        "sqrt reciprocal stop_gradient alias"
    )
    return C.combine([getattr(C, name)(v) for name in ops.split()] + [C.leaky_relu(v), C.dropout(v, 0.5)])


@model
def unary_near_its_ends():
    v = vector(name="edges")
    return C.combine([C.log(v), C.sqrt(v), C.reciprocal(v), C.element_divide(1, v), C.exp(v), C.floor(v), C.round(v)])


@model
def binary():
    a, b = vector(), vector(name="b")
    compared = [
        getattr(C, name)(a, b) for name in ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]
    ]
    others = [
        C.element_max(a, b),
        C.log_add_exp(a, b),
        C.pow(C.abs(a), b),
        C.clip(a, -0.5, 0.5),
        C.cosine_distance(a, b),
    ]
    return C.combine([a + b, a - b, a * b, a / b, C.element_select(C.greater(a, 0), a, b)] + compared + others)


@model
def broadcast():
    i = image()
    sums = [i + parameter(*shape) for shape in ((4,), (3, 1), (2, 1, 1))]
    return C.combine(sums + [image(4, "w") + parameter(3, 4), i * image((3, 1), "u"), i + 2])


@model
def shapes():
    i = image()
    return C.combine(
        [
            C.reshape(i, (4, -1)),
            C.reshape(i, (6,), 0, 2),
            C.squeeze(C.reshape(i, (2, 1, 12))),
            C.flatten(i, 1),
            C.expand_dims(i, 1),
            C.transpose(i, (2, 0, 1)),
            C.transpose(i, (1, 2, 0)),
            C.swapaxes(i, 0, 2),
        ]
    )


@model
def slices():
    i = image()
    return C.combine(
        [
            C.slice(i, [0, 2], [0, 1], [1, 3]),
            C.slice(i, 2, -3, -1),
            C.slice(i, 2, 1, 0),
            C.slice(i, 2, 0, 4, strides=2),
            C.slice(i, 2, 1, 4, strides=-2),
            C.slice(i, [1, 2], [0, 1], [3, 3], [-1, 1]),
            C.splice(i, i * 2, axis=0),
            C.splice(i, parameter(2, 3, 4), axis=-1),
            C.splice(i, i, axis=1, name="spliced"),
            C.pad(i, [(0, 0), (1, 2), (0, 1)], constant_value=3),
        ]
    )


@model
def reductions():
    i = image()
    kinds = [C.reduce_sum(i), C.reduce_mean(i, axis=1), C.reduce_max(i, axis=[0, 2], keepdims=False)]
    best = [C.argmax(i, axis=0), C.argmin(i, axis=2), C.argmax(i)]
    return C.combine(kinds + best + [C.reduce_log_sum_exp(i, 1), C.reduce_prod(i, 0)])


@model
def chances():
    v, i = vector(), image()
    return C.combine([C.softmax(v), C.softmax(i, axis=0), C.log_softmax(i, axis=-1), C.hardmax(v), C.softmax(i)])


@model
def losses():
    v, target = vector(), vector(name="t")
    return C.combine([f(v, target) for f in (C.cross_entropy_with_softmax, C.squared_error, C.classification_error)])


# ------------------------------------------------------------------ outputs that need different inputs


@model
def criterion():
    """A classifier as its trainer saves it: with the loss of labels, and the mean of a batch's losses."""
    z = L.Dense(3, name="z")(L.Dense(4, activation=C.tanh)(vector()))
    labels = vector(3, "labels")
    loss = C.cross_entropy_with_softmax(z, labels, name="loss")
    return C.combine([loss, z, C.reduce_mean(loss, C.Axis.all_axes(), name="mean"), C.classification_error(z, labels)])


@model
def one_output_twice():
    loss = C.squared_error(L.Dense(3)(vector()), vector(3, "t"), name="loss")
    return C.combine([loss, loss])


@model
def criterion_sparse():
    """Sparse labels, and sparse words in a sequence."""
    words = C.sequence.input_variable(7, is_sparse=True, name="words")
    labels = vector(3, "labels", is_sparse=True)
    z = L.Dense(3, name="z")(C.sequence.last(L.Recurrence(L.LSTM(4))(L.Embedding(5)(words))))
    return C.combine([z, C.cross_entropy_with_softmax(z, labels, name="loss")])


@model
def refused_in_part():
    """What is not covered is refused, and the other output is served."""
    i = C.input_variable((1, 4, 4), name="i")
    other = C.input_variable((1, 2, 2), name="other")
    up = C.unpooling(other, i, C.MAX_UNPOOLING, (2, 2), (2, 2), name="up")
    return C.combine([L.Convolution2D((2, 2), 2, name="c")(i), up])


@model
def products():
    v, i = vector(), image()
    return C.combine(
        [
            C.times(i, parameter(3, 4, 2), output_rank=1),
            C.times(i, parameter(4, 2, 2), output_rank=2),
            C.times_transpose(v, parameter(3, 5)),
            C.times(C.reshape(i, (6, 4)), C.reshape(i, (4, 6))),
            C.times(sequence(), parameter(3, 4)),
        ]
    )


@model
def numbers():
    """Operations on integer inputs."""
    k, m = vector((), "k"), vector(2, "m")
    one_hot = [C.one_hot(k, 5), C.one_hot(m, 4, axis=0), L.Embedding(3)(C.one_hot(m, 5))]
    return C.combine(one_hot + [C.gather(parameter(6, 3), m)])


@model
def products_of_inputs():
    """CNTK lists the inputs of a product in the reverse of the order in its file."""
    a, b, c = image((2, 3), "a"), image((3, 4), "b"), image((2, 4), "c")
    return C.combine([C.times(a, b), C.times_transpose(vector(), vector(name="w")), C.relu(c)])


@model
def powers():
    """Includes powers of 0, which CNTK leaves 0 where others return infinity, with a constant exponent or base."""
    base, exponent = vector(name="m"), vector()
    known = [C.pow(base, constant(0, 2, -1, 3, -2)), C.pow(base, 2), C.pow(constant(0, 2, 1, 3, 0), exponent)]
    return C.combine([C.pow(base, exponent), C.pow(constant(1, 2, 3, 4, 5), exponent)] + known)


@model
def clips():
    """Includes a lower bound above the upper bound."""
    v = vector()
    return C.combine([C.clip(v, 0.3, -0.3), C.clip(v, vector(name="low"), vector(name="high")), C.clip(v, -0.3, 0.3)])


@model
def lookups():
    """Lookups in tables of four rows, by an input and by values that are computed from one, along either axis."""
    table, direct, computed = parameter(4, 3), vector(3, "direct"), vector(2, "computed")
    within = C.gather(parameter(2, 4), computed + 0, axis=1)
    return C.combine([C.gather(table, direct), C.gather(table, computed * 1), within])


@model
def best_of_one():
    """For a single number, argmax and argmin return its position, and reduce_max the number."""
    k = vector((), "k")
    return C.combine([C.argmax(k), C.argmin(k), C.reduce_max(k)])


@model
def best():
    return C.top_k(vector(), 2)


# ------------------------------------------------------------------ datatypes, names, axes


@model
def float64():
    with C.default_options(dtype=np.float64):
        layers = [L.Convolution2D((3, 3), 4, pad=True, activation=C.relu), L.MaxPooling((2, 2)), L.Dense(3)]
        return L.Sequential(layers)(image(dtype=np.float64))


@model
def float64_lstm():
    with C.default_options(dtype=np.float64):
        return L.Recurrence(L.LSTM(4))(sequence(dtype=np.float64))


@model
def float64_log_plus():
    i = image(dtype=np.float64)
    return C.log_add_exp(i, i * 2)


@model
def float16():
    with C.default_options(dtype=np.float16):
        return L.Sequential([L.Dense(4, activation=C.relu), L.Dense(3)])(vector(dtype=np.float16))


@model
def cast():
    return C.cast(vector(), np.float64)


@model
def names():
    """Two inputs and two outputs with the same name, some without a name, and some with a unique one."""
    return C.combine(
        [
            C.relu(vector(), name="o"),
            C.tanh(vector(), name="o"),
            C.sigmoid(vector(3, "")),
            C.exp(vector(2, "w"), name="p"),
        ]
    )


@model
def name_of_an_input():
    return C.combine([C.relu(vector(), name="v"), C.tanh(vector(name="w"), name="t")])


@model
def axis_called_as_the_batch():
    x = sequence(sequence_axis=C.Axis("N"))
    return C.combine([C.sequence.last(x), L.Recurrence(L.RNNStep(2))(x)])


@model
def input_as_output():
    return C.combine([vector(), C.relu(vector(name="r"), name="relu")])


@model
def free_size():
    return L.Convolution2D((3, 3), 4, pad=True, activation=C.relu)(image((2, C.FreeDimension, C.FreeDimension)))


@model
def free_size_pooled():
    i = image((2, C.FreeDimension, C.FreeDimension))
    return C.combine([L.MaxPooling((2, 2), strides=2)(i), C.pooling(i, C.AVG_POOLING, (3, 2), 1, ceil_out_dim=True)])


@model
def no_batch():
    return C.combine([C.input_variable((2, 3), name="i", dynamic_axes=[]) * 2, parameter(3) * 2])


# ------------------------------------------------------------------ refused


@model
def refused_unpooling():
    i = image((2, 4, 4))
    return C.unpooling(C.pooling(i, C.MAX_POOLING, (2, 2), (2, 2)), i, C.MAX_UNPOOLING, (2, 2), (2, 2), name="up")


@model
def refused_random():
    v = vector()
    return v + C.random.uniform_like(v, name="noise")


@model
def refused_sparse():
    return C.reduce_sum(C.input_variable((2, 3), is_sparse=True, name="pairs"))


@model
def refused_several():
    """Each of the two functions that are not covered is named."""
    i = C.input_variable((1, 4, 4), name="i")
    up = C.unpooling(C.pooling(i, C.MAX_POOLING, (2, 2), (2, 2)), i, C.MAX_UNPOOLING, (2, 2), (2, 2), name="up")
    return C.combine([C.dropout(up, name="d"), i + C.random.uniform_like(i, name="noise")])


@model
def refused_over_the_batch():
    return C.reduce_mean(vector(), axis=C.Axis.default_batch_axis())


@model
def refused_by_values():
    x = sequence()
    return C.sequence.gather(x, C.greater(C.reduce_sum(x), 0))


@model
def refused_both_ways():
    """A loop through the past and the future, which CNTK itself refuses to compute."""
    again = C.placeholder(3)
    h = sequence() + C.sequence.past_value(again) + C.sequence.future_value(again)
    return h.replace_placeholders({again: h})


@model
def refused_beyond_the_end():
    """If rounded up and padded, there is one window too many, and CNTK does not define its content."""
    return C.pooling(image((1, 4, 8)), C.MAX_POOLING, (1, 2), (1, 2), [False, True, True], ceil_out_dim=True)


@model
def refused_free_size_rounded_up():
    i = image((2, C.FreeDimension, C.FreeDimension))
    return C.pooling(i, C.MAX_POOLING, (2, 2), (2, 2), ceil_out_dim=True)


# CNTK's runtime refuses these; they are translated.


@model
def refused_lookup_in_a_block():
    """The indices are computed within a block, so they cannot be checked before they are used."""
    given = C.placeholder(3)
    return C.as_block(C.gather(parameter(4, 3), given + 1), [(given, vector(3))], "Lookup", "lookup")


@model
def refused_dilated():
    return L.Convolution2D((3, 3), 4, pad=True, dilation=2)(image((2, 6, 6)))


# ------------------------------------------------------------------


def called(variables, others=()):
    """Return names as the gateway uses them: the uid if a variable has no name, or if the name is not unique."""
    given, taken = [variable.name for variable in variables], {other.name: other.uid for other in others}
    free = [v.name and given.count(v.name) == 1 and taken.get(v.name, v.uid) == v.uid for v in variables]
    return [v.name if is_free else v.uid for is_free, v in zip(free, variables)]


def values(random, variable, name):
    shape = tuple(size if size > 0 else 6 for size in variable.shape)
    shape = {0: (), 1: (ROWS,), 2: (ROWS, STEPS)}[len(variable.dynamic_axes)] + shape
    if name in ("k", "m", "direct", "computed"):
        return random.randint(0, 4, shape).astype(variable.dtype)
    if name == "edges":
        return np.resize(np.array([0, -1, 1e-38, 1e-36, 3.5]), shape).astype(variable.dtype)
    return random.randn(*shape).astype(variable.dtype)


def unique(variables):
    return list(collections.OrderedDict((each.uid, each) for each in variables).values())


def answers(function):
    """Return a function's inputs and outputs, by name."""
    random = np.random.RandomState(0)
    names = called(unique(function.outputs), function.arguments)
    function = convert_optimized_rnnstack(function)
    stored, feed = collections.OrderedDict(), {}
    for variable, name in zip(function.arguments, called(function.arguments)):
        array = stored["in." + name] = values(random, variable, name)
        feed[variable] = list(array) if len(variable.dynamic_axes) == 2 else array
        if variable.is_sparse:
            array[array < 1] = 0
            feed[variable] = [csr_matrix(row if row.ndim > 1 else row[np.newaxis]) for row in array]
    outputs = unique(function.outputs)
    results = function.eval(feed, device=C.cpu())
    for variable, name in zip(outputs, names):
        if name == "mean":  # of a batch, which is not served
            continue
        result = results[variable] if isinstance(results, dict) else results
        stored["out." + name] = np.stack(result) if isinstance(result, list) else np.asarray(result)
    return stored


def main(folder, wanted):
    for name, build in MODELS.items():
        if wanted and name not in wanted:
            continue
        C.cntk_py.set_fixed_random_seed(1)
        path = os.path.join(folder, name + ".model")
        build().save(path)
        if not name.startswith("refused"):
            np.savez_compressed(path[: -len(".model")], **answers(C.Function.load(path, device=C.cpu())))
        print(name, os.path.getsize(path))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
