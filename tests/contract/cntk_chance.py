"""Make small random models with CNTK: `PYTHON_3_6_WITH_CNTK cntk_chance.py FOLDER FIRST COUNT`.

Each model is generated from a seed. NAME.npz has the inputs in.NAME and CNTK's outputs out.NAME. Models that CNTK
refuses, such as with a window larger than its input, are skipped.
"""

# Python 3.6 runs this: nothing newer may be suggested here.
# ruff: noqa: RUF005, B905

import os
import random
import sys
import warnings

import numpy as np

warnings.simplefilter("ignore")
import cntk as C  # noqa: E402
from cntk import layers as L  # noqa: E402

ROWS, STEPS = 2, 5
KINDS = []


def kind(build):
    KINDS.append(build)
    return build


class Chance(random.Random):
    def size(self, fewest=1, most=4, largest=5):
        return tuple(self.randint(1, largest) for _ in range(self.randint(fewest, most)))

    def parameter(self, *shape):
        return C.parameter(init=np.random.uniform(-1, 1, shape).astype(np.float32))

    def coin(self):
        return self.random() < 0.5

    def axis(self, shape):
        return self.randint(-len(shape), len(shape) - 1)

    def some(self, *builds):
        return self.choice(builds)()


def given(shape, name="x"):
    return C.input_variable(shape, name=name)


@kind
def convolution(r):
    rank, channels, groups = r.randint(1, 3), r.randint(1, 4), 1
    # CNTK computes groups with an even window size incorrectly.
    window = [r.randint(1, 4) for _ in range(rank)]
    if channels % 2 == 0 and r.coin():
        groups, window = 2, [r.choice([1, 3]) for _ in range(rank)]
    size = [r.randint(1, 9) for _ in range(rank)]
    strides = [1] * rank if groups > 1 else [r.randint(1, 3) for _ in range(rank)]
    kernel = r.parameter(*[2 * r.randint(1, 2), channels // groups] + window)
    padded = [False] + [r.coin() for _ in size]
    return C.convolution(kernel, given([channels] + size), tuple([1] + strides), auto_padding=padded, groups=groups)


@kind
def transposed(r):
    size, window, strides = ([r.randint(1, most) for _ in range(2)] for most in (6, 4, 3))
    kernel, padded = r.parameter(*[2, 3] + window), [r.coin(), r.coin()]
    shape = (0,)
    if r.coin():
        each = zip(size, window, strides, padded)
        shape = (3,) + tuple((n - 1) * s + (1 + r.randint(0, s - 1) if p else w) for n, w, s, p in each)
    return C.convolution_transpose(
        kernel, given([2] + size), strides, auto_padding=[False] + padded, output_shape=shape
    )


@kind
def pooling(r):
    size = [r.randint(1, 9) for _ in range(r.randint(1, 3))]
    window, strides = (tuple(r.randint(1, most) for _ in size) for most in (4, 3))
    options = {"auto_padding": [False] + [r.coin() for _ in size], "ceil_out_dim": r.coin()}
    way = r.choice([C.MAX_POOLING, C.AVG_POOLING])
    if way == C.AVG_POOLING:
        options["include_pad"] = r.coin()
    return C.pooling(given([3] + size), way, window, strides, **options)


@kind
def reshaped(r):
    shape = r.size()
    begin = r.randint(0, len(shape) - 1)
    end = r.randint(begin + 1, len(shape))
    whole = int(np.prod(shape[begin:end]))
    part = r.choice([n for n in range(1, whole + 1) if whole % n == 0])
    new = r.choice([(part, whole // part), (part, -1), (whole,), (-1,), (1, whole), (whole, 1, 1)])
    return C.reshape(given(shape), new, begin - len(shape) if begin and r.coin() else begin, end)


@kind
def moved(r):
    shape = r.size()
    order = list(range(len(shape)))
    r.shuffle(order)
    x = given(shape)
    return r.some(lambda: C.transpose(x, order), lambda: C.swapaxes(x, r.axis(shape), r.axis(shape)))


@kind
def sliced(r):
    shape = r.size(largest=6)
    axes = r.sample(range(len(shape)), r.randint(1, len(shape)))
    begins = [r.randint(0, shape[axis] - 1) for axis in axes]
    ends = [r.randint(begin + 1, shape[axis]) for axis, begin in zip(axes, begins)]
    return C.slice(given(shape), axes, begins, ends, [r.choice([1, 1, 2, -1, -2]) for _ in axes])


@kind
def reduced(r):
    shape = r.size()
    sums = [C.reduce_sum, C.reduce_mean, C.reduce_max, C.reduce_min, C.reduce_prod, C.reduce_log_sum_exp, C.reduce_l2]
    axes = r.choice([r.axis(shape), tuple(r.sample(range(len(shape)), r.randint(1, len(shape))))])
    x = given(shape)
    return r.some(
        lambda: r.choice(sums)(x, axis=axes, keepdims=r.coin()),
        lambda: r.choice([C.argmax, C.argmin])(x, axis=r.axis(shape)),
        lambda: r.choice([C.softmax, C.log_softmax])(x, axis=r.axis(shape)),
        lambda: r.choice([C.softmax, C.hardmax])(x),
    )


@kind
def of_two(r):
    shape = r.size()
    other = tuple(1 if r.random() < 0.3 else n for n in shape)[r.randint(0, len(shape) - 1) :]
    operations = [C.plus, C.minus, C.element_times, C.element_divide, C.less, C.greater_equal, C.log_add_exp]
    both = [given(shape), r.some(lambda: given(other, "y"), lambda: r.parameter(*other))]
    r.shuffle(both)
    return r.choice(operations + [C.element_max, C.element_min])(*both)


@kind
def product(r):
    inner, out, rest = r.size(1, 2, 4), r.size(1, 2, 4), r.size(0, 2, 4)
    right = r.some(lambda: r.parameter(*inner + out), lambda: given(inner + out, "w"))
    if out == (1,) and len(inner) == 1:  # CNTK computes this incorrectly if both are from the request
        right = r.parameter(*inner + out)
    return C.times(given(rest + inner), right, output_rank=len(out))


@kind
def spliced(r):
    shape = list(r.size(1, 3))
    axis = r.axis(shape)
    parts = []
    for place in range(r.randint(1, 3)):
        shape[axis] = r.randint(1, 4)
        parts.append(given(shape, "x%d" % place) if not place or r.coin() else r.parameter(*shape))  # noqa: UP031
    return C.splice(*parts, axis=axis)


@kind
def network(r):
    y = given([r.randint(1, 3), r.randint(4, 9), r.randint(4, 9)])
    steps = [
        lambda v: L.Convolution2D((r.randint(1, 3), r.randint(1, 3)), 3, pad=True, strides=r.randint(1, 2))(v),
        lambda v: L.MaxPooling((2, 2), strides=2, pad=True)(v),
        lambda v: L.AveragePooling((3, 3), strides=r.randint(1, 3), pad=True)(v),
        lambda v: L.ConvolutionTranspose2D((3, 3), 2, strides=2, pad=True)(v),
        lambda v: C.batch_normalization(
            v, *[C.constant(np.random.uniform(0.1, 1, v.shape[:1]).astype(np.float32)) for _ in range(4)],
            spatial=True, running_count=C.constant(1)
        ),
        lambda v: C.splice(v, C.relu(v), axis=0),
        lambda v: C.elu(v),
        lambda v: L.LayerNormalization()(v),
    ]  # fmt: skip
    for _ in range(r.randint(1, 4)):
        y = r.choice(steps)(y)
    return r.choice([lambda v: v, L.Dense(3), L.Dense((2, 2)), L.Dense(2, map_rank=1), L.GlobalAveragePooling()])(y)


@kind
def recurrent(r):
    y = C.sequence.input_variable(r.randint(2, 3), name="x")
    steps = [
        lambda v: L.Recurrence(L.LSTM(3, use_peepholes=r.coin()), go_backwards=r.coin())(v),
        lambda v: C.splice(L.Recurrence(L.GRU(2))(v), L.Recurrence(L.RNNStep(2), go_backwards=True)(v)),
        lambda v: L.Dense(3, activation=C.tanh)(v),
        lambda v: C.sequence.past_value(v, time_step=r.randint(1, 3)),
        lambda v: C.sequence.future_value(v, time_step=r.randint(1, 6)) + v,
        lambda v: v - C.sequence.broadcast_as(C.sequence.first(v), v),
        lambda v: C.element_times(C.sequence.softmax(v), v),
        lambda v: C.sequence.slice(v, r.randint(0, 1), 0),
    ]
    for _ in range(r.randint(1, 3)):
        y = r.choice(steps)(y)
    ends = [C.sequence.first, C.sequence.last, C.sequence.reduce_sum, C.sequence.reduce_max, L.Fold(L.GRU(2))]
    return r.choice(ends + [lambda v: v, lambda v: C.combine([C.relu(v), C.sequence.last(v)])])(y)


@kind
def loop(r):
    x, again, weights = C.sequence.input_variable(3, name="x"), C.placeholder(3), r.parameter(3, 3)
    delay = r.choice([C.sequence.past_value, C.sequence.future_value])
    before = delay(again, r.choice([0, 0.5, r.parameter(3)]), r.randint(1, 3))
    body = r.some(
        lambda: C.tanh(C.times(before, weights) + x),
        lambda: C.element_max(before, x),
        lambda: C.relu(C.splice(before, x)[0:3] * 0.7 + x),
        lambda: C.element_select(C.greater(x, 0), before * 0.3 + x, x - before * 0.2),
    )
    whole = body.replace_placeholders({again: body.output})
    return r.some(lambda: whole, lambda: C.sequence.last(whole), lambda: C.combine([whole, before]))


def called(variables):
    given_names = [variable.name for variable in variables]
    return [v.name if v.name and given_names.count(v.name) == 1 else v.uid for v in variables]


def answers(function):
    """Return inputs and outputs by name."""
    feed, stored = {}, {}
    for variable, name in zip(function.arguments, called(function.arguments)):
        shape = ([ROWS, STEPS] if len(variable.dynamic_axes) > 1 else [ROWS]) + list(variable.shape)
        array = stored["in." + name] = np.random.uniform(-1.5, 1.5, shape).astype(np.float32)
        feed[variable] = list(array) if len(variable.dynamic_axes) > 1 else array
    outputs = list(function.outputs)
    results = function.eval(feed, outputs=outputs)
    for variable, name in zip(outputs, called(outputs)):
        result = results[variable] if len(outputs) > 1 else results
        stored["out." + name] = np.stack(result) if isinstance(result, list) else np.asarray(result)
    return stored


def main(folder, first, count):
    for number in range(first, first + count):
        r = Chance(number)
        np.random.seed(number % 2**32)
        C.cntk_py.set_fixed_random_seed(number % 2**31 + 1)
        build = r.choice(KINDS)
        path = os.path.join(folder, "%d-%s" % (number, build.__name__))  # noqa: UP031
        try:
            build(r).save(path + ".model")
            np.savez(path, **answers(C.Function.load(path + ".model")))
        except (AttributeError, RuntimeError, ValueError):  # CNTK's own
            continue


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
