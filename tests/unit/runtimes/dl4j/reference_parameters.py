"""The position of each parameter of a layer in the flat row: org.deeplearning4j.nn.params.*ParamInitializer.

A layer's parameters follow each other; layers follow each other in the order of the network.

- Every convolution has its bias BEFORE its weights, and its weights in 'c' order. Everything else has the weights
  first and in 'f' order (WeightInitUtil.reshapeWeights, IWeightInit.DEFAULT_WEIGHT_INIT_ORDER).
- Each convolution orders its weights' axes its own way: see CONVOLUTIONS.
- Layer normalization's gain comes after the bias; SimpleRnn has two of them, for input and recurrence.
- The order of a configuration's "variables" is not the order in the row.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Configuration = dict[str, Any]
Array = np.ndarray


class Parameter(NamedTuple):
    name: str
    shape: tuple[int, ...]
    order: str = "C"


def kind(conf: Configuration) -> str:
    """Return the class name without its package."""
    return str(conf["@class"]).rpartition(".")[2]


def sizes(conf: Configuration) -> tuple[int, int]:
    return conf["nin"], conf["nout"]


def dense(conf: Configuration) -> list[Parameter]:
    """DefaultParamInitializer: W, b, g"""
    n_in, n_out = sizes(conf)
    found = [Parameter("W", (n_in, n_out), "F")]
    if conf.get("hasBias", kind(conf) != "EmbeddingSequenceLayer"):
        found.append(Parameter("b", (n_out,)))
    if conf.get("hasLayerNorm"):
        found.append(Parameter("g", (n_out,)))
    return found


def center_loss(conf: Configuration) -> list[Parameter]:
    """CenterLossParamInitializer: always a bias, then the centers, which only training needs."""
    n_in, n_out = sizes(conf)
    return [Parameter("W", (n_in, n_out), "F"), Parameter("b", (n_out,)), Parameter("cL", (n_out, n_in))]


def auto_encoder(conf: Configuration) -> list[Parameter]:
    """PretrainParamInitializer: also the visible bias, which only pretraining needs."""
    n_in, n_out = sizes(conf)
    return [Parameter("W", (n_in, n_out), "F"), Parameter("b", (n_out,)), Parameter("vb", (n_in,))]


def element_wise(conf: Configuration) -> list[Parameter]:
    """ElementWiseParamInitializer"""
    return [Parameter("W", (conf["nin"],)), Parameter("b", (conf["nin"],))]


def prelu(conf: Configuration) -> list[Parameter]:
    """PReLUParamInitializer: shared axes count from 1, the batch being axis 0; 'f' order."""
    shape = list(conf["inputShape"])
    for axis in conf.get("sharedAxes") or []:
        shape[axis - 1] = 1
    return [Parameter("W", tuple(shape), "F")]


def lstm(conf: Configuration) -> list[Parameter]:
    """LSTMParamInitializer"""
    n_in, n = sizes(conf)
    return [Parameter("W", (n_in, 4 * n), "F"), Parameter("RW", (n, 4 * n), "F"), Parameter("b", (4 * n,))]


def graves_lstm(conf: Configuration) -> list[Parameter]:
    """GravesLSTMParamInitializer: three more columns for the peepholes"""
    n_in, n = sizes(conf)
    return [Parameter("W", (n_in, 4 * n), "F"), Parameter("RW", (n, 4 * n + 3), "F"), Parameter("b", (4 * n,))]


def graves_bidirectional(conf: Configuration) -> list[Parameter]:
    """GravesBidirectionalLSTMParamInitializer: all forward, then all backward"""
    return [each._replace(name=each.name + suffix) for suffix in "FB" for each in graves_lstm(conf)]


def simple_rnn(conf: Configuration) -> list[Parameter]:
    """SimpleRnnParamInitializer"""
    n_in, n = sizes(conf)
    found = [Parameter("W", (n_in, n), "F"), Parameter("RW", (n, n), "F"), Parameter("b", (n,))]
    return [*found, Parameter("g", (2 * n,))] if conf.get("hasLayerNorm") else found


def batch_normalization(conf: Configuration) -> list[Parameter]:
    """BatchNormalizationParamInitializer"""
    shape = (conf["nout"],)
    learned = [] if conf.get("lockGammaBeta") else [Parameter("gamma", shape), Parameter("beta", shape)]
    spread = "log10stdev" if conf.get("useLogStd") else "var"
    return [*learned, Parameter("mean", shape), Parameter(spread, shape)]


def convolution(weights: Callable[[Configuration, int, int, tuple[int, ...]], list[Parameter]]) -> Any:
    def layout(conf: Configuration) -> list[Parameter]:
        n_in, n_out = sizes(conf)
        bias = [Parameter("b", (n_out,))] if conf.get("hasBias", True) else []
        return bias + weights(conf, n_in, n_out, tuple(conf["kernelSize"]))

    return layout


def multiplier(conf: Configuration) -> int:
    return int(conf.get("depthMultiplier", 1))


CONVOLUTIONS = {
    # ConvolutionParamInitializer; in 1-D the kernel is [k, 1]
    "ConvolutionLayer": convolution(lambda conf, i, o, k: [Parameter("W", (o, i, *k))]),
    # Convolution3DParamInitializer
    "Convolution3D": convolution(lambda conf, i, o, k: [Parameter("W", (o, i, *k))]),
    # DeconvolutionParamInitializer
    "Deconvolution2D": convolution(lambda conf, i, o, k: [Parameter("W", (i, o, *k))]),
    # Deconvolution3DParamInitializer: unlike the 2-D one, the kernel comes first
    "Deconvolution3D": convolution(lambda conf, i, o, k: [Parameter("W", (*k, o, i))]),
    # DepthwiseConvolutionParamInitializer
    "DepthwiseConvolution2D": convolution(lambda conf, i, o, k: [Parameter("W", (*k, i, multiplier(conf)))]),
    # SeparableConvolutionParamInitializer: not the order of the depthwise one
    "SeparableConvolution2D": convolution(
        lambda conf, i, o, k: [
            Parameter("W", (multiplier(conf), i, *k)),
            Parameter("pW", (o, multiplier(conf) * i, 1, 1)),
        ]
    ),
}

LAYOUTS: dict[str, Callable[[Configuration], list[Parameter]]] = {
    **CONVOLUTIONS,
    **dict.fromkeys(("Convolution2D", "Convolution1D", "Convolution1DLayer"), CONVOLUTIONS["ConvolutionLayer"]),
    **dict.fromkeys(("DenseLayer", "OutputLayer", "RnnOutputLayer", "EmbeddingLayer", "EmbeddingSequenceLayer"), dense),
    "CenterLossOutputLayer": center_loss,
    "AutoEncoder": auto_encoder,
    "ElementWiseMultiplicationLayer": element_wise,
    "PReLULayer": prelu,
    "LSTM": lstm,
    "GravesLSTM": graves_lstm,
    "GravesBidirectionalLSTM": graves_bidirectional,
    "SimpleRnn": simple_rnn,
    "BatchNormalization": batch_normalization,
}


def wrapped(conf: Configuration) -> Configuration | None:
    """Return a wrapper's layer (FrozenLayer's field is "layer", that of the other wrappers "underlying")."""
    return conf.get("underlying") or conf.get("layer")


def parameters(conf: Configuration) -> list[Parameter]:
    """Return a layer's parameters in the order of the row."""
    if kind(conf) == "Bidirectional":
        # BidirectionalParamInitializer: both halves have the forward layer's sizes.
        return [each._replace(name=half + each.name) for half in "fb" for each in parameters(conf["fwd"])]
    if (inner := wrapped(conf)) is not None:
        return parameters(inner)
    layout = LAYOUTS.get(kind(conf))
    return [] if layout is None else layout(conf)


def count(found: list[Parameter]) -> int:
    return sum(math.prod(each.shape) for each in found)


def take(row: Array, found: list[Parameter]) -> dict[str, Array]:
    """Split `row`, the flat values of exactly these parameters."""
    taken, start = {}, 0
    for each in found:
        length = math.prod(each.shape)
        taken[each.name] = row[start : start + length].reshape(each.shape, order=each.order)  # type: ignore[call-overload]
        start += length
    assert start == len(row)
    return taken
