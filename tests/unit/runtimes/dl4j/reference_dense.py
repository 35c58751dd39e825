"""Layers over rows: dense, output, embedding and the like (org.deeplearning4j.nn.layers.feedforward, .BaseLayer)."""

import numpy as np

from tests.unit.runtimes.dl4j.reference_activations import activate
from tests.unit.runtimes.dl4j.reference_parameters import Array, Configuration

Parameters = dict[str, Array]


def act(x: Array, conf: Configuration) -> Array:
    return activate(x, conf["activationFn"])


def standardize(x: Array) -> Array:
    """libnd4j's layer_norm: without epsilon; a row of equal values becomes 0 (NaNs are replaced)."""
    spread = x.std(axis=1, keepdims=True)
    return np.where(spread == 0, 0.0, (x - x.mean(axis=1, keepdims=True)) / np.where(spread == 0, 1.0, spread))


def before_activation(x: Array, conf: Configuration, given: Parameters) -> Array:
    """BaseLayer.preOutputWithPreNorm: normalized BEFORE the bias is added; rows only."""
    assert x.ndim == 2, f"{conf['@class']} takes rows, not {x.shape}"
    out = x @ given["W"]
    if "g" in given:
        out = standardize(out) * given["g"]
    return out + given.get("b", 0.0)


def dense(x: Array, conf: Configuration, given: Parameters) -> Array:
    return act(before_activation(x, conf, given), conf)


def auto_encoder(x: Array, conf: Configuration, given: Parameters) -> Array:
    """AutoEncoder.encode: no corruption at inference"""
    return act(x @ given["W"] + given["b"], conf)


def element_wise(x: Array, conf: Configuration, given: Parameters) -> Array:
    return act(x * given["W"] + given["b"], conf)


def prelu(x: Array, conf: Configuration, given: Parameters) -> Array:
    """libnd4j's prelu: values below 0 are multiplied by alpha"""
    return np.where(x < 0, x * given["W"], x)


def indices(x: Array) -> Array:
    """INDArray.getInt: truncated, not rounded"""
    return np.trunc(x).astype(np.int64)


def embedding(x: Array, conf: Configuration, given: Parameters) -> Array:
    """EmbeddingLayer.preOutput: [N, 1]; a row [1, N] also counts as N examples."""
    assert 1 in x.shape
    return act(given["W"][indices(x).reshape(-1)] + given.get("b", 0.0), conf)


def embedding_sequence(x: Array, conf: Configuration, given: Parameters) -> Array:
    """EmbeddingSequenceLayer.preOutput: [N, T] or [N, 1, T] → [N, nOut, T], or [N, T, nOut] in NWC."""
    steps = x.reshape(x.shape[0], x.shape[-1])
    if not conf.get("inferInputLength"):
        assert steps.shape[1] == conf.get("inputLength", 1)
    rows = given["W"][indices(steps)] + given.get("b", 0.0)
    return act(rows if conf.get("outputFormat") == "NWC" else rows.transpose(0, 2, 1), conf)


def repeat_vector(x: Array, conf: Configuration, given: Parameters) -> Array:
    if conf.get("dataFormat") == "NWC":
        return np.repeat(x[:, None, :], conf["n"], axis=1)
    return np.repeat(x[:, :, None], conf["n"], axis=2)


def rnn_output(x: Array, conf: Configuration, given: Parameters) -> Array:
    """RnnOutputLayer.activate: rows [N·T, features], so that softmax is over the features."""
    time_last = conf.get("rnnDataFormat", "NCW") == "NCW"
    rows = x.transpose(0, 2, 1) if time_last else x
    out = act(rows @ given["W"] + given["b"], conf)
    return out.transpose(0, 2, 1) if time_last else out


def over_channels(x: Array, conf: Configuration, given: Parameters) -> Array:
    """CnnLossLayer, Cnn3DLossLayer, RnnLossLayer: the activation over rows of channels."""
    layout = conf.get("format") or conf.get("dataFormat") or conf.get("rnnDataFormat") or "NCHW"
    if layout in ("NHWC", "NDHWC", "NWC"):
        return act(x, conf)
    return np.moveaxis(act(np.moveaxis(x, 1, -1), conf), -1, 1)


def only_activation(x: Array, conf: Configuration, given: Parameters) -> Array:
    """ActivationLayer, LossLayer: the input is not reshaped, so softmax is over the last axis."""
    return act(x, conf)
