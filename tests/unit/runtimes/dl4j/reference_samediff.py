"""Layers that DL4J defines in SameDiff: attention and locally connected ones (org.deeplearning4j.nn.conf.layers).

- Parameters are in 'c' order: weights as they are added, then biases (SDLayerParams.getParameterKeys). So locally
  connected layers have W before b, and RecurrentAttention's b comes last of all.
- Attention supports only [N, features, T], scaled by 1 / sqrt(head size); no bias, no dropout, no activation.
- Their activation is a name ("TANH"), not an object, and some are refused (HARDSIGMOID, SELU, SWISH, ...).
  LEAKYRELU has the slope 0 here, so it is ReLU.
- Dilation of locally connected layers changes only how they pad.
- LocallyConnected2D reads its patches column by column (x · height + y) and writes the results row by row: output
  pixel number p is that of patch number p in the other order. For a square image, this is a transposition.
"""

import math

import numpy as np

from tests.unit.runtimes.dl4j.reference_activations import activate, softmax
from tests.unit.runtimes.dl4j.reference_dense import Parameters
from tests.unit.runtimes.dl4j.reference_parameters import Array, Configuration, Parameter

NAMED = {
    "CUBE": "Cube",
    "ELU": "ELU",
    "GELU": "GELU",
    "HARDTANH": "HardTanH",
    "IDENTITY": "Identity",
    "LEAKYRELU": "ReLU",
    "RELU": "ReLU",
    "SIGMOID": "Sigmoid",
    "SOFTMAX": "Softmax",
    "SOFTPLUS": "SoftPlus",
    "SOFTSIGN": "SoftSign",
    "TANH": "TanH",
}


def act(x: Array, conf: Configuration) -> Array:
    """Activation.asSameDiff"""
    return activate(x, {"@class": f".Activation{NAMED[conf['activation']]}"})


def attention(queries: Array, keys: Array, values: Array, given: Parameters) -> Array:
    """[N, features, T] each → [N, nOut, T of the queries] (libnd4j multi_head_dot_product_attention)"""
    if "Wq" not in given:
        return dot_product(queries, keys, values)
    project = lambda x, weights: np.einsum("hsi,nit->nhst", weights, x)  # noqa: E731
    heads = dot_product(project(queries, given["Wq"]), project(keys, given["Wk"]), project(values, given["Wv"]))
    joined = heads.reshape(heads.shape[0], -1, heads.shape[3])
    return np.einsum("nft,fo->not", joined, given["Wo"])


def dot_product(queries: Array, keys: Array, values: Array) -> Array:
    """[…, features, T]"""
    likeness = np.swapaxes(keys, -1, -2) @ queries / np.sqrt(keys.shape[-2])
    return values @ softmax(likeness, axis=-2)


def projections(conf: Configuration, queries: int, keys: int, values: int) -> list[Parameter]:
    if not conf["projectInput"]:
        return []
    heads, size = conf["nheads"], conf["headSize"]
    return [
        Parameter("Wq", (heads, size, queries)),
        Parameter("Wk", (heads, size, keys)),
        Parameter("Wv", (heads, size, values)),
        Parameter("Wo", (heads * size, conf["nout"])),
    ]


def self_attention_parameters(conf: Configuration) -> list[Parameter]:
    return projections(conf, conf["nin"], conf["nin"], conf["nin"])


def learned_parameters(conf: Configuration) -> list[Parameter]:
    return [Parameter("Q", (1, conf["nin"], conf["nqueries"])), *self_attention_parameters(conf)]


def recurrent_parameters(conf: Configuration) -> list[Parameter]:
    n_in, n_out = conf["nin"], conf["nout"]
    weights = [Parameter("W", (n_in, n_out)), Parameter("RW", (n_out, n_out)), *projections(conf, n_out, n_in, n_in)]
    return [*weights, Parameter("b", (n_out,))] if conf["hasBias"] else weights


def vertex_parameters(conf: Configuration) -> list[Parameter]:
    """AttentionVertex"""
    return projections(conf, conf["ninQueries"], conf["ninKeys"], conf["ninValues"])


def locally_connected_parameters(conf: Configuration) -> list[Parameter]:
    sizes = conf["outputSize"]
    places = math.prod(sizes) if isinstance(sizes, list) else sizes
    weights = [Parameter("W", (places, conf["featureDim"], conf["nout"]))]
    return [*weights, Parameter("b", (conf["nout"],))] if conf["hasBias"] else weights


def self_attention(x: Array, conf: Configuration, given: Parameters) -> Array:
    return attention(x, x, x, given)


def learned_attention(x: Array, conf: Configuration, given: Parameters) -> Array:
    """LearnedSelfAttentionLayer: [N, nIn, T] → [N, nOut, nQueries], the queries being parameters"""
    return attention(np.repeat(given["Q"], x.shape[0], axis=0), x, x, given)


def recurrent_attention(x: Array, conf: Configuration, given: Parameters) -> Array:
    """RecurrentAttentionLayer: each step looks at the whole sequence with the previous output as query. The first
    step has no attention."""
    outs: list[Array] = []
    for step in np.moveaxis(x, 2, 0):
        z = step @ given["W"] + given.get("b", 0.0)
        if outs:
            z = z + attention(outs[-1][:, :, None], x, x, given)[:, :, 0] @ given["RW"]
        outs.append(act(z, conf))
    return np.stack(outs, axis=2)


def locally_connected_1d(x: Array, conf: Configuration, given: Parameters) -> Array:
    """The file contains the computed padding and paddingR. NWC is not supported."""
    after = conf["paddingR"] if conf["cm"] == "Same" else conf["padding"]
    x, stride, kernel = np.pad(x, [(0, 0), (0, 0), (conf["padding"], after)]), conf["stride"], conf["kernel"]
    patches = [x[:, :, k * stride : k * stride + kernel] for k in range(conf["outputSize"])]
    out = [patch.reshape(x.shape[0], -1) @ weights for patch, weights in zip(patches, given["W"], strict=True)]
    return act(np.stack(out, axis=2) + given.get("b", np.zeros(1))[:, None], conf)


def locally_connected_2d(x: Array, conf: Configuration, given: Parameters) -> Array:
    last = conf.get("format") == "NHWC"
    x = x.transpose(0, 3, 1, 2) if last else x
    before, after = conf["padding"], conf["paddingBr"] if conf["cm"] == "Same" else conf["padding"]
    x = np.pad(x, [(0, 0), (0, 0), *zip(before, after, strict=True)])
    (high, wide), (down, right), (kh, kw) = conf["outputSize"], conf["stride"], conf["kernel"]
    out = []
    for place in range(high * wide):
        column, row = divmod(place, high)
        patch = x[:, :, row * down : row * down + kh, column * right : column * right + kw]
        out.append(patch.reshape(x.shape[0], -1) @ given["W"][place] + given.get("b", 0.0))
    image = np.stack(out).reshape(high, wide, x.shape[0], -1)
    return act(image.transpose(2, 0, 1, 3) if last else image.transpose(2, 3, 0, 1), conf)
