"""Computes MXNet's answers with its classic operators, the ones that exported symbols contain."""

import mxnet as mx
import numpy as np
from asked import answer_all

nd = mx.nd


def a(array):
    return nd.array(array, dtype=array.dtype)


def numpy(function):
    return lambda *arrays: function(*[a(array) for array in arrays]).asnumpy()


FUNCTIONS = {
    "nan-maximum": nd.broadcast_maximum,
    "nan-relu": nd.relu,
    "nan-clip": lambda x: nd.clip(x, 0, 6),
    "nan-reduce-max": lambda x: nd.max(x, axis=1),
    "nan-argmax": lambda x: nd.argmax(x, axis=1),
    "nan-top-k": lambda x: nd.topk(x, k=2, ret_typ="value"),
    "nan-max-pool": lambda x: nd.Pooling(x, kernel=(2,), stride=(2,), pool_type="max"),
    "denormal-product": lambda x, y: (x * y)[:1],
    "sigmoid-tail": nd.sigmoid,
    "softplus-tail": lambda x: nd.Activation(x, act_type="softrelu"),
    "integer-division": lambda x, y: x / y,
    "integer-remainder": lambda x, y: x % y,
    "float-remainder": lambda x, y: x % y,
    "sum-beyond-2-53": nd.sum,
    "float-sum": nd.sum,
    "integer-overflow": lambda x, y: x + y,
    "cast-nan-int32": lambda x: nd.cast(x, dtype="int32"),
    "cast-uint8": lambda x: nd.cast(x, dtype="uint8"),
    "masked-row": nd.softmax,
    "round-half": nd.round,
    "argmax-tie": lambda x: nd.argmax(x, axis=1),
    "top-k-tie": lambda x: nd.topk(x, k=2),
    "average-pool-edge": lambda x: nd.Pooling(x, kernel=(3,), stride=(2,), pad=(1,), pool_type="avg"),
    "negative-index": lambda x, y: nd.take(x, y),
    "index-too-large": lambda x, y: nd.take(x, y),
    "power": nd.broadcast_power,
    "gelu-default": lambda x: nd.LeakyReLU(x, act_type="gelu"),
    "sign-of-nan": nd.sign,
    "logarithm-below-zero": nd.log,
    "normalised-constant": lambda x: nd.LayerNorm(x, nd.ones(3), nd.zeros(3), eps=1e-5),
}

if __name__ == "__main__":
    np.bool = bool  # MXNet 1.9.1 still uses this name, which numpy 1.24 removed
    answer_all("MXNet " + mx.__version__, {key: numpy(each) for key, each in FUNCTIONS.items()})
