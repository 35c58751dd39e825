"""Recurrent layers (org.deeplearning4j.nn.layers.recurrent); no masks, no stored state.

- Data is [N, features, T] (NCW) or, if the configuration says NWC, [N, T, features]. A null format is NCW.
- LSTM's blocks: input (activationFn), forget, output, input gate. gateActivationFn is that of the three gates.
- GravesLSTM's extra columns: forget and input gate look at the PREVIOUS cell (columns 0 and 2), the output gate at
  the CURRENT one (column 1).
- They do not use an epsilon; neither does SimpleRnn's layer normalization (libnd4j standardize).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.unit.runtimes.dl4j.reference_activations import activate
from tests.unit.runtimes.dl4j.reference_dense import Parameters, act, standardize
from tests.unit.runtimes.dl4j.reference_parameters import Array, Configuration, kind, wrapped

# Applies any layer; passed in by reference.py, which knows all of them.
Apply = Callable[[Array, Configuration, Parameters], Array]


def format_of(conf: Configuration) -> str:
    """TimeSeriesUtils.getFormatFromRnnLayer: a wrapper has the format of the layer that it wraps."""
    if kind(conf) == "Bidirectional":
        return format_of(conf["fwd"])
    inner = None if kind(conf) == "TimeDistributed" else wrapped(conf)
    return format_of(inner) if inner else conf.get("rnnDataFormat") or "NCW"


def steps_of(x: Array, conf: Configuration) -> Array:
    """→ [T, N, features]"""
    assert x.ndim == 3
    return np.moveaxis(x, 1 if format_of(conf) == "NWC" else 2, 0)


def in_time(outs: list[Array], conf: Configuration) -> Array:
    return np.stack(outs, axis=1 if format_of(conf) == "NWC" else 2)


def lstm_steps(steps: Array, conf: Configuration, given: Parameters, mask: Array | None = None) -> list[Array]:
    """LSTMHelpers.activateHelper. mask: [N, T] of 0 and 1; at a masked step the state is not kept but ZEROED."""
    n = given["RW"].shape[0]
    peepholes = given["RW"][:, 4 * n :].T if given["RW"].shape[1] > 4 * n else np.zeros((3, n))
    gate = lambda z: activate(z, conf["gateActivationFn"])  # noqa: E731
    hidden = cell = np.zeros((steps.shape[1], n))
    keep = np.ones(steps.shape[:2]) if mask is None else mask.T
    outs = []
    for step, kept in zip(steps, keep[..., None], strict=True):
        z = step @ given["W"] + hidden @ given["RW"][:, : 4 * n] + given["b"]
        block, forget, output, let_in = (z[:, k * n : (k + 1) * n] for k in range(4))
        block = act(block, conf)
        forget = gate(forget + cell * peepholes[0])
        let_in = gate(let_in + cell * peepholes[2])
        cell = forget * cell + let_in * block
        hidden = act(cell, conf) * gate(output + cell * peepholes[1]) * kept
        cell = cell * kept
        outs.append(hidden)
    return outs


def lstm(x: Array, conf: Configuration, given: Parameters, mask: Array | None = None) -> Array:
    return in_time(lstm_steps(steps_of(x, conf), conf, given, mask), conf)


def graves_bidirectional(x: Array, conf: Configuration, given: Parameters) -> Array:
    """GravesBidirectionalLSTM.activateOutput: the two directions are ADDED"""
    steps = steps_of(x, conf)
    ahead, behind = ({name[:-1]: value for name, value in given.items() if name[-1] == side} for side in "FB")
    forward = lstm_steps(steps, conf, ahead)
    backward = lstm_steps(steps[::-1], conf, behind)[::-1]
    return in_time([one + other for one, other in zip(forward, backward, strict=True)], conf)


def simple_rnn(x: Array, conf: Configuration, given: Parameters, mask: Array | None = None) -> Array:
    """SimpleRnn.activateHelper. With layer normalization, input and recurrence are normalized separately, and the first
    step has no recurrent half."""
    gains = np.split(given["g"], 2) if "g" in given else None
    steps = steps_of(x, conf)
    keep = np.ones(steps.shape[:2]) if mask is None else mask.T
    outs: list[Array] = []
    for step, kept in zip(steps, keep[..., None], strict=True):
        z = step @ given["W"]
        z = (z if gains is None else standardize(z) * gains[0]) + given["b"]
        if outs:
            again = outs[-1] @ given["RW"]
            z = z + (again if gains is None else standardize(again) * gains[1])
        outs.append(act(z, conf) * kept)
    return in_time(outs, conf)


def reverse(x: Array, conf: Configuration) -> Array:
    return np.flip(x, axis=1 if format_of(conf) == "NWC" else 2)


def bidirectional(x: Array, conf: Configuration, given: Parameters, apply: Apply) -> Array:
    """BidirectionalLayer.activate: the backward half's output is reversed again, unless it has no time axis any more
    (rank 2, from LastTimeStep): then it is that half's last step, which is at the sequence's first."""
    ahead, behind = ({name[1:]: value for name, value in given.items() if name[0] == side} for side in "fb")
    one = apply(x, conf["fwd"], ahead)
    other = apply(reverse(x, conf), conf["bwd"], behind)
    if other.ndim == 3:
        other = reverse(other, conf)
    features = 2 if other.ndim == 3 and format_of(conf) == "NWC" else 1
    modes: dict[str, Callable[[], Any]] = {
        "ADD": lambda: one + other,
        "MUL": lambda: one * other,
        "AVERAGE": lambda: (one + other) / 2,
        "CONCAT": lambda: np.concatenate([one, other], axis=features),
    }
    return np.asarray(modes[conf["mode"]]())


def zero_mask(x: Array, conf: Configuration) -> Array:
    """MaskZeroLayer.setMaskFromInput: [N, T], 0 where every feature is the masking value"""
    return (steps_of(x, conf) != conf.get("maskingValue", 0.0)).any(axis=2).T.astype(float)


def mask_zero(x: Array, conf: Configuration, given: Parameters) -> Array:
    """MaskZeroLayer: the mask is for the wrapped layer; later layers do not see it."""
    layers = {"LSTM": lstm, "GravesLSTM": lstm, "SimpleRnn": simple_rnn}
    return layers[kind(conf["underlying"])](x, conf["underlying"], given, zero_mask(x, conf))


def last_time_step(x: Array, conf: Configuration, given: Parameters, apply: Apply) -> Array:
    """LastTimeStepLayer. Around a MaskZeroLayer, it returns each example's last step that is not masked."""
    inner = conf["underlying"]
    out = steps_of(apply(x, inner, given), inner)
    if kind(inner) != "MaskZeroLayer":
        return out[-1]
    mask = zero_mask(x, inner)
    assert mask.any(axis=1).all(), "DL4J refuses an example that is masked out entirely"
    last = mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)
    return out[last, np.arange(len(last))]


def time_distributed(x: Array, conf: Configuration, given: Parameters, apply: Apply) -> Array:
    """TimeDistributedLayer: [N · T, …] rows, example by example"""
    axis = 1 if format_of(conf) == "NWC" else 2
    moved = np.moveaxis(x, axis, 1)
    out = apply(moved.reshape(-1, *moved.shape[2:]), conf["underlying"], given)
    return np.moveaxis(out.reshape(*moved.shape[:2], *out.shape[1:]), 1, axis)
