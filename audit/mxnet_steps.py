"""Steps that keep rows independent, for symbols of any rank; see `mxnet_graphs.py`."""

import random

import mxnet as mx
import numpy as np

S = mx.sym


class Builder:
    """Makes all choices of one graph from its seed.

    Symbols are [n, features], [n, time, features] or [n, channels, height, width].
    """

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.numpy = np.random.RandomState(seed)
        self.shape = self.random.choice([(10,), (5, 8), (3, 8, 8)])
        self.fixed = {}
        self.steps = []
        self.count = 0

    def sizes(self, x):
        """Return the sizes of all dimensions except the batch."""
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
    """Look up a table row by the index of the largest feature."""
    return S.Embedding(S.argmax(S.Flatten(x), axis=1), b.weight(600, 7), input_dim=600, output_dim=7)


def attention(b, x):
    if len(b.sizes(x)) != 2:
        return x
    scores = S.softmax(S.batch_dot(x, x, transpose_b=True), axis=-1)
    return S.batch_dot(scores, x)


def heads(b, x):
    """Compute multi-head attention as GluonNLP does, with time as the first dimension."""
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


ANY = [dense, flat_dense, flat_dense, activation, activation, softmax, layer_norm, batch_norm, instance,
       dropout, flattened, folded, kept_sizes, by_like, doubled, cut, sliced, turned, turned_softmax,
       tiled, repeated, best, ordered, running, reduced, excluded, hot, scaled, where, parts, reversed_,
       zeros, chosen, taken, attention, attention, heads, heads, recurrent, recurrent, masked]  # fmt: skip
