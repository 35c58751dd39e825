"""Random MXNet symbols whose rows are independent, or meet, by construction.

PYTHON mxnet_graphs.py FOLDER COUNT, in MXNet's environment: writes COUNT symbols with their parameters and shapes, and
graphs.json, which has for each the step that lets rows meet, "" for none.
"""

import json
import random
import sys
from pathlib import Path

sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

import mxnet as mx  # noqa: E402
import numpy as np  # noqa: E402

S = mx.sym


class Builder:
    """All choices come from a seed. Symbols are [n, features], [n, time, features] or [n, channels, height, width]."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.numpy = np.random.RandomState(seed)
        self.shape = self.random.choice([(10,), (5, 8), (3, 8, 8)])
        self.fixed = {}
        self.steps = []
        self.count = 0

    def sizes(self, x):
        """Without the batch."""
        return x.infer_shape(data=(2, *self.shape))[1][0][1:]

    def weight(self, *sizes):
        self.count += 1
        name = f"w{self.count}_weight"
        self.fixed[name] = sizes
        return S.var(name, shape=sizes)


def dense(b, x):
    return S.FullyConnected(x, num_hidden=b.random.choice([6, 12]), flatten=False)


def flat_dense(b, x):
    return S.FullyConnected(x, num_hidden=b.random.choice([6, 12]))


def activation(b, x):
    kind = b.random.choice(["relu", "sigmoid", "tanh", "softrelu", "leaky", "elu", "gelu", "clip", "selu"])
    if kind in ("leaky", "elu", "gelu", "selu"):
        return S.LeakyReLU(x, act_type=kind)
    return S.clip(x, -1, 2) if kind == "clip" else S.Activation(x, act_type=kind)


def softmax(b, x):
    return b.random.choice([S.softmax, S.log_softmax])(x, axis=-1)


def layer_norm(b, x):
    return S.LayerNorm(x)


def batch_norm(b, x):
    return S.BatchNorm(x, use_global_stats=b.random.random() < 0.5, fix_gamma=False)


def instance(b, x):
    return (
        S.L2Normalization(x, mode="instance")
        if len(b.sizes(x)) < 2
        else S.InstanceNorm(x, S.var("one_gamma"), S.var("one_beta"))
    )


def dropout(b, x):
    return S.Dropout(x, p=0.5)


def flattened(b, x):
    return S.Flatten(x)


def folded(b, x):
    sizes = b.sizes(x)
    return S.reshape(S.sigmoid(S.reshape(x, (-1, sizes[-1]))), (-1, *sizes))


def kept_sizes(b, x):
    return S.reshape(S.reshape(x, (0, -1)) * 0.5, (-4, -1, 1, -2)).reshape((-3, -2))


def by_like(b, x):
    return S.reshape_like(S.Flatten(x) * 2, x)


def doubled(b, x):
    return S.concat(x, x * 0.5, dim=-1 if len(b.sizes(x)) < 2 else 1)


def cut(b, x):
    return S.slice_axis(x, axis=-1, begin=0, end=max(b.sizes(x)[-1] // 2, 1))


def sliced(b, x):
    return S.slice(x, begin=(None, 1), end=(None, None)) if b.sizes(x)[0] > 1 else x


def turned(b, x):
    return S.SwapAxis(S.relu(S.SwapAxis(x, dim1=0, dim2=1)), dim1=0, dim2=1)


def turned_softmax(b, x):
    order = (1, 0, *range(2, 1 + len(b.sizes(x))))
    return S.transpose(S.softmax(S.transpose(x, order), axis=0), order)


def tiled(b, x):
    return S.tile(x, reps=(2,))


def repeated(b, x):
    return S.repeat(x, repeats=2, axis=-1)


def best(b, x):
    return S.topk(x, k=min(3, b.sizes(x)[-1]), axis=-1, ret_typ="value")


def ordered(b, x):
    return S.sort(x, axis=-1)


def running(b, x):
    return S.cumsum(x, axis=-1)


def reduced(b, x):
    return S.broadcast_sub(x, b.random.choice([S.mean, S.max, S.sum])(x, axis=-1, keepdims=True))


def excluded(b, x):
    return S.broadcast_add(x, S.mean(x, axis=0, exclude=True, keepdims=True))


def hot(b, x):
    return S.one_hot(S.argmax(x, axis=-1), depth=b.sizes(x)[-1]) + x


def scaled(b, x):
    return S.broadcast_mul(x, b.weight(*[1] * len(b.sizes(x)), b.sizes(x)[-1]))


def where(b, x):
    return S.where(x > 0.2, x, -x)


def parts(b, x):
    if b.sizes(x)[-1] % 2:
        return x
    one, two = S.split(x, num_outputs=2, axis=-1)
    return S.concat(two, one, dim=-1) if len(b.sizes(x)) > 1 else two * one


def reversed_(b, x):
    return S.reverse(x, axis=len(b.sizes(x)))


def zeros(b, x):
    return x + S.zeros((0, *b.sizes(x)))


def chosen(b, x):
    return S.pick(x, S.argmax(x, axis=-1), axis=-1, keepdims=True) + S.sum(x, axis=-1, keepdims=True)


def taken(b, x):
    """Places in a table, by what is largest."""
    return S.Embedding(S.argmax(S.Flatten(x), axis=1), b.weight(600, 7), input_dim=600, output_dim=7)


def attention(b, x):
    if len(b.sizes(x)) != 2:
        return x
    scores = S.softmax(S.batch_dot(x, x, transpose_b=True), axis=-1)
    return S.batch_dot(scores, x)


def heads(b, x):
    """As GluonNLP writes it, time first."""
    if len(b.sizes(x)) != 2:
        return x
    mixed = S.FullyConnected(S.transpose(x, (1, 0, 2)), num_hidden=24, flatten=False)
    weights = S.softmax(S.contrib.interleaved_matmul_selfatt_qk(mixed, heads=2), axis=-1)
    return S.transpose(S.contrib.interleaved_matmul_selfatt_valatt(mixed, weights, heads=2), (1, 0, 2))


def recurrent(b, x):
    if len(b.sizes(x)) != 2:
        return x
    kind, hidden = b.random.choice(["lstm", "gru", "rnn_tanh"]), 6
    gates = {"lstm": 4, "gru": 3, "rnn_tanh": 1}[kind]
    width = gates * hidden * (b.sizes(x)[1] + hidden + 2)
    states = [S.zeros((1, 0, hidden)) for _ in range(2 if kind == "lstm" else 1)]
    out = S.RNN(S.transpose(x, (1, 0, 2)), b.weight(width), *states, state_size=hidden, num_layers=1, mode=kind)
    return S.transpose(out, (1, 0, 2))


def masked(b, x):
    if len(b.sizes(x)) != 2:
        return x
    lengths = S.sum(S.argmax(x, axis=-1) > 1, axis=1) + 1
    return S.SequenceMask(x, lengths, use_sequence_length=True, axis=1)


def convolution(b, x):
    return S.Convolution(x, num_filter=6, kernel=(3, 3), pad=(1, 1), stride=b.random.choice([(1, 1), (2, 2)]))


def depthwise(b, x):
    size = b.sizes(x)[0]
    return S.Convolution(x, num_filter=size, num_group=size, kernel=(3, 3), pad=(1, 1))


def deconvolution(b, x):
    return S.Deconvolution(x, num_filter=3, kernel=(2, 2), stride=(2, 2))


def pooled(b, x):
    convention = b.random.choice(["valid", "full"])
    return S.Pooling(x, kernel=(2, 2), pool_type=b.random.choice(["max", "avg"]), pooling_convention=convention)


def global_pool(b, x):
    return S.Flatten(S.Pooling(x, kernel=(1, 1), global_pool=True, pool_type="avg"))


def upsampled(b, x):
    return S.UpSampling(x, scale=2, sample_type="nearest")


def resized(b, x):
    return S.contrib.BilinearResize2D(x, height=6, width=6)


def padded(b, x):
    return S.pad(x, mode="edge", pad_width=(0, 0, 0, 0, 1, 1, 1, 1))


ANY = [dense, flat_dense, flat_dense, activation, activation, softmax, layer_norm, batch_norm, instance,
       dropout, flattened, folded, kept_sizes, by_like, doubled, cut, sliced, turned, turned_softmax,
       tiled, repeated, best, ordered, running, reduced, excluded, hot, scaled, where, parts, reversed_,
       zeros, chosen, taken, attention, attention, heads, heads, recurrent, recurrent, masked]  # fmt: skip
PICTURE = [
    convolution,
    convolution,
    depthwise,
    deconvolution,
    pooled,
    global_pool,
    upsampled,
    resized,
    padded,
    batch_norm,
]


# Steps that let rows meet.


def batch_mean(b, x):
    return S.broadcast_sub(x, S.mean(x, axis=0, keepdims=True))


def whole_maximum(b, x):
    return S.broadcast_div(x, S.max(S.abs(x), keepdims=True) + 0.1)


def batch_softmax(b, x):
    return S.softmax(x, axis=0)


def running_rows(b, x):
    return S.cumsum(x, axis=0)


def first_row(b, x):
    return S.broadcast_sub(x, S.slice_axis(x, axis=0, begin=0, end=1))


def gram(b, x):
    rows = S.Flatten(x)
    return S.dot(S.softmax(S.dot(rows, rows, transpose_b=True)), rows)


def backwards(b, x):
    return x + S.reverse(x, axis=0)


def as_one(b, x):
    return S.reshape_like(S.softmax(S.reshape(x, (1, -1))), x)


def rank_among(b, x):
    score = S.mean(S.Flatten(x), axis=1, keepdims=True)
    return S.broadcast_add(S.Flatten(x), S.sum(S.broadcast_greater(score, S.transpose(score)), axis=1, keepdims=True))


def over_the_batch(b, x):
    """A recurrent layer that takes the batch for time."""
    steps = S.expand_dims(S.Flatten(x), axis=1)
    width = 6 * (b.sizes(S.Flatten(x))[0] + 6 + 2)
    out = S.RNN(steps, b.weight(width), S.zeros((1, 1, 6)), state_size=6, num_layers=1, mode="rnn_tanh")
    return S.Flatten(out)


def noise(b, x):
    return b.random.choice([lambda: S.Dropout(x, p=0.5, mode="always"), lambda: x + S.random.normal_like(x)])()


def sorted_rows(b, x):
    return S.sort(x, axis=0)


def ordered_by_first(b, x):
    order = S.argsort(S.slice_axis(S.Flatten(x), axis=1, begin=0, end=1).reshape((-1,)), axis=0)
    return S.take(x, order)


def normed(b, x):
    return S.broadcast_div(x, S.norm(x, axis=0, keepdims=True) + 1.0)


def counted(b, x):
    return S.broadcast_div(x, S.sum(S.ones_like(x), axis=0, keepdims=True))


def channels_of_all(b, x):
    """An excluded axis that is the wrong one."""
    return S.broadcast_sub(x, S.mean(x, axis=1, exclude=True, keepdims=True))


def quantised(b, x):
    whole, low, high = S.contrib.quantize_v2(x, out_type="int8")
    return S.contrib.dequantize(whole, low, high)


STEPS = [batch_mean, whole_maximum, batch_softmax, running_rows, first_row, gram, backwards, as_one, rank_among,
         over_the_batch, noise, sorted_rows, ordered_by_first, normed, counted, channels_of_all, quantised]  # fmt: skip


def pairs(b, x):
    return S.reshape(S.concat(S.Flatten(x), S.Flatten(x), dim=1), (-1, b.sizes(S.Flatten(x))[0]))


def turned_out(b, x):
    return S.transpose(S.Flatten(x))


def total(b, x):
    return S.sum(x)


ENDINGS = [pairs, turned_out, total]


def chain(b, x, count):
    for _ in range(count):
        picture = len(b.sizes(x)) == 3 and b.random.random() < 0.7
        step = b.random.choice(PICTURE if picture else ANY)
        if int(np.prod(b.sizes(x))) > 2000:
            step = flattened if len(b.sizes(x)) == 1 else global_pool if len(b.sizes(x)) == 3 else flat_dense
        b.steps.append(step.__name__)
        x = step(b, x)
    return x


def written(seed, folder):
    b = Builder(seed)
    x = S.broadcast_mul(S.var("data"), b.weight(*[1] * (len(b.shape) + 1)))
    x, mixing = chain(b, x, b.random.randint(1, 3)), ""
    if seed % 2:
        step = b.random.choice(ENDINGS if b.random.random() < 0.15 else STEPS)
        mixing = step.__name__
        b.steps.append(mixing)
        x = step(b, x)
    if mixing not in [each.__name__ for each in ENDINGS]:
        x = chain(b, x, b.random.randint(0, 2))
    shapes, _, states = x.infer_shape(data=(2, *b.shape))
    saved = {}
    for kind, names, sizes in (("arg", x.list_arguments(), shapes), ("aux", x.list_auxiliary_states(), states)):
        for name, shape in zip(names, sizes):  # noqa: B905 - Python 3.8
            if name != "data":
                array = b.numpy.standard_normal(shape) * 0.3 + (0 if "weight" in name else 1)
                saved[kind + ":" + name] = mx.nd.array(np.abs(array) if "var" in name else array)
    # As it runs, too, so that what cannot run is none of the graphs.
    arguments = {key[4:]: value for key, value in saved.items() if key.startswith("arg:")}
    arguments["data"] = mx.nd.ones((2, *b.shape))
    aux = {key[4:]: value for key, value in saved.items() if key.startswith("aux:")}
    x.bind(mx.cpu(), arguments, aux_states=aux, grad_req="null").forward(is_train=False)[0].asnumpy()
    prefix = str(folder / f"graph{seed}")
    x.save(prefix + "-symbol.json")
    mx.nd.save(prefix + "-0000.params", saved)
    Path(prefix + "-shapes.json").write_text(json.dumps([{"name": "data", "shape": [1, *b.shape]}]))
    return {"artifact": f"graph{seed}-symbol.json", "mixing": mixing, "steps": b.steps}


def main():
    folder, count, found, seed = Path(sys.argv[1]), int(sys.argv[2]), {}, 0
    while len(found) < count:
        try:
            found[f"graph{seed}"] = written(seed, folder)
        except Exception as error:
            print(seed, type(error).__name__, str(error)[:300], file=sys.stderr)
        seed += 1
    (folder / "graphs.json").write_text(json.dumps(found))


main()
