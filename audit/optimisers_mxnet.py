"""Generates MXNet symbols, in MXNet's environment: `PYTHON … RUNTIME FOLDER FIRST COUNT`."""

import json
import os
import random
import sys

import mxnet as mx
import numpy as np

folder, first, count = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
SHAPE = (4, 8, 8)


def conv(x, r):
    filters = {"num_filter": 4, "kernel": (3, 3), "pad": (1, 1), "num_group": r.choice([1, 4])}
    return mx.sym.Convolution(x, no_bias=r.random() < 0.3, **filters)


def norm(x, r):
    return mx.sym.BatchNorm(x, fix_gamma=r.random() < 0.3, use_global_stats=r.random() < 0.5, eps=1e-3)


def activation(x, r):
    kind = r.choice(["relu", "sigmoid", "tanh", "softrelu", "leaky", "elu", "clip"])
    if kind in ("leaky", "elu"):
        return mx.sym.LeakyReLU(x, act_type=kind)
    if kind == "clip":
        return mx.sym.clip(x, *r.choice([(0, 6), (-1, 1), (0.5, 2)]))
    return mx.sym.Activation(x, act_type=kind)


def summed(x, r):
    return r.choice([conv(x, r) + x, x + conv(x, r), mx.sym.Activation(conv(x, r) + x, act_type="relu")])


def pool(x, r):
    kind = r.choice(["max", "avg"])
    counted = {"count_include_pad": r.random() < 0.5} if kind == "avg" else {}
    return mx.sym.Pooling(x, pool_type=kind, kernel=(3, 3), pad=(1, 1), **counted)


def pad_pool(x, r):
    padded = mx.sym.Pad(x, mode=r.choice(["constant", "edge"]), pad_width=(0, 0, 0, 0, 1, 1, 1, 1))
    return mx.sym.Pooling(padded, pool_type="max", kernel=(3, 3))


def product(x, r):
    return mx.sym.FullyConnected(x, num_hidden=8, flatten=False)


def pointwise(x, r):
    return r.choice([x * 1.0 + 0.0, x / 3, -x, mx.sym.abs(x), mx.sym.square(x), mx.sym.softmax(x, axis=1), x * x - x])


def moved(x, r):
    return mx.sym.transpose(mx.sym.Activation(mx.sym.transpose(x, (0, 2, 3, 1)), act_type="relu"), (0, 3, 1, 2))


def joined(x, r):
    parts = mx.sym.split(x, num_outputs=2, axis=1)
    return mx.sym.concat(parts[1], parts[0], dim=1)


STEPS = [conv, norm, activation, summed, pool, pad_pool, product, pointwise, moved, joined]

jobs = []
for seed in range(first, first + count):
    r, n = random.Random(seed), np.random.RandomState(seed)
    chain = [r.choice(STEPS) for _ in range(r.randint(2, 6))]
    with mx.name.NameManager():
        symbol = mx.sym.Variable("x", shape=(0, *SHAPE))
        for step in chain:
            symbol = step(symbol, r)
    shapes, _, states = symbol.infer_shape(x=(2, *SHAPE))
    values = {"arg:unused": mx.nd.zeros(1)}  # MXNet reads an empty file as a list of unnamed arrays
    for name, shape in zip(symbol.list_arguments(), shapes):  # noqa: B905 - Python 3.6 and later
        if name != "x":
            values["arg:" + name] = mx.nd.array(n.normal(size=shape) / 2)
    for name, shape in zip(symbol.list_auxiliary_states(), states):  # noqa: B905
        values["aux:" + name] = mx.nd.array(np.abs(n.normal(size=shape)) + 0.5)
    prefix = os.path.join(folder, str(seed))
    symbol.save(prefix + "-symbol.json")
    mx.nd.save(prefix + "-0000.params", values)
    declared = [["x", "FP32", [-1, *SHAPE]]]
    name = " ".join([*(step.__name__ for step in chain), str(seed)])
    jobs.append({"name": name, "artifact": prefix + "-symbol.json", "declared": declared})
with open(os.path.join(folder, "models.json"), "w") as file:
    json.dump(jobs, file)
