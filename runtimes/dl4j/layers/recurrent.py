"""Recurrent layers: [N, nIn, T] to [N, nOut, T], or with time before features where their format says so.

Every sequence is as long as its tensor: masks are not part of what a request can say.
"""

from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from ..activations import activated, chosen
from ..configuration import inner_layer
from ..registry import LAYERS, Shape, covers, series, takes_inner, translate_inner
from ..settings import Settings
from ..site import Site, same_sizes
from ..values import Value
from .feedforward import product

_END = (1 << 31) - 1
# ONNX's names for what may be within its recurrent operators, with the parameters they take there.
_INSIDE = {
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "relu": "Relu",
    "softsign": "Softsign",
    "softplus": "Softplus",
    "hardsigmoid": "HardSigmoid",
    "lrelu": "LeakyRelu",
    "elu": "Elu",
    "identity": "Affine",
}
# DL4J's blocks of columns are block input, forget, output, input gate; ONNX's input, output, forget, cell.
_GATES = (3, 2, 1, 0)


@covers(LAYERS, "LSTM", source="layers/recurrent/LSTMHelpers", shown="stored", takes=series)
def lstm(site: Site) -> Value:
    return _one_way(site, peepholes=False)


@covers(LAYERS, "GravesLSTM", source="layers/recurrent/LSTMHelpers", shown="computed", takes=series)
def graves_lstm(site: Site) -> Value:
    return _one_way(site, peepholes=True)


@covers(
    LAYERS, "GravesBidirectionalLSTM", source="layers/recurrent/GravesBidirectionalLSTM", shown="computed", takes=series
)
def graves_both_ways(site: Site) -> Value:
    """Both directions' outputs are added."""
    last = _time_first(site)
    value = _input(site, last)
    forward, backward = _weights(site, True), _weights(site, True)
    here = _run(site, "LSTM", value, forward, "forward")
    back = _run(site, "LSTM", value, backward, "reverse")
    return _output(site, here._replace(name=site.emit("Add", here.name, back.name)), last)


@covers(LAYERS, "SimpleRnn", source="layers/recurrent/SimpleRnn", shown="computed", takes=series)
def simple_rnn(site: Site) -> Value:
    """a(x W + h R + b)."""
    if site.settings.flag("hasLayerNorm", False):
        site.refuse("its layer normalisation (hasLayerNorm) is not covered")
    last = _time_first(site)
    value = _input(site, last)
    inputs, size = _sizes(site)
    weights, recurrent = site.take([inputs, size], "F"), site.take([size, size], "F")
    bias = np.concatenate([site.take([size], "C"), np.zeros(size, site.dtype)])
    arrays = [weights.T[None], recurrent.T[None], bias[None]]
    return _output(site, _run(site, "RNN", value, (arrays, _inside(site, ["activationFn"])), "forward"), last)


@covers(
    LAYERS, "Bidirectional", source="layers/recurrent/BidirectionalLayer", shown="computed", takes=takes_inner("fwd")
)
def both_ways(site: Site) -> Value:
    """One layer on the sequence and one on its reverse, whose output is turned round where it is a sequence."""
    mode = site.settings.choice("mode", ("ADD", "MUL", "AVERAGE", "CONCAT"))
    value = site.of(2)
    last = _format_within(site, site.settings, "fwd")
    if _format_within(site, site.settings, "bwd") != last:
        site.refuse("its two directions have different formats")
    time = 0 if last else 1
    here = translate_inner(site, "fwd")
    back = translate_inner(site, "bwd", reversed_in_time(site, value, time))
    if len(back.sizes) == 2:
        back = reversed_in_time(site, back, time)
    if len(here.sizes) != len(back.sizes):
        site.refuse("its two directions give activations of different ranks")
    if mode == "CONCAT":
        axis = 1 if last and len(here.sizes) == 2 else 0
        sizes = list(here.sizes)
        unknown = min(sizes[axis], back.sizes[axis]) < 0
        sizes[axis] = -1 if unknown else sizes[axis] + back.sizes[axis]
        name = site.emit("Concat", here.name, back.name, axis=axis + 1)
        return site.value(name, sizes, here if here.grown > back.grown else back, 2 if unknown else 1)
    if not same_sizes([here, back]):
        site.refuse("its two directions give activations of different sizes")
    name = site.emit("Mul" if mode == "MUL" else "Add", here.name, back.name)
    return here._replace(name=site.emit("Mul", name, site.scalar(0.5)) if mode == "AVERAGE" else name)


@covers(
    LAYERS,
    "LastTimeStep",
    source="layers/recurrent/LastTimeStepLayer",
    shown="computed",
    takes=takes_inner("underlying"),
)
def last_of_layer(site: Site) -> Value:
    given = translate_inner(site, "underlying")
    if len(given.sizes) != 2:
        site.refuse("the layer within it gives no sequence")
    return last_step(site, given, _format_within(site, site.settings, "underlying"))


# Where TimeSeriesUtils.getFormatFromRnnLayer of DL4J looks for the format of what wraps another layer.
_WITHIN = {"Bidirectional": "fwd", "LastTimeStep": "underlying", "MaskZeroLayer": "underlying"}
# There it does not look.
_FROZEN = {"FrozenLayer": "layer", "FrozenLayerWithBackprop": "underlying"}


def _format_within(site: Site, settings: Settings, field: str) -> bool:
    """Whether the layer in this field has time first."""
    kind, inner = inner_layer(settings, field)
    if kind in _WITHIN:
        return _format_within(site, inner, _WITHIN[kind])
    if kind in _FROZEN and _format_within(site, inner, _FROZEN[kind]):
        site.refuse("a frozen layer with time first within it is not covered")
    return inner.flag_of_format("rnnDataFormat", "NCW", "NWC")


def _each_step(settings: Settings, behind: Shape) -> Shape:
    found = takes_inner("underlying")(settings, None)
    if not found or len(found) != 1:
        return None
    return (-1, *found) if settings.get("rnnDataFormat") == "NWC" else (*found, -1)


@covers(LAYERS, "TimeDistributed", source="layers/recurrent/TimeDistributedLayer", shown="computed", takes=_each_step)
def at_each_step(site: Site) -> Value:
    """The layer within is applied to each time step."""
    axis = 0 if site.flag_of_format("rnnDataFormat", "NCW", "NWC") else 1
    folded = site.fold(site.of(2), axis)
    return site.unfold(translate_inner(site, "underlying", folded), axis)


@covers(LAYERS, "RnnOutputLayer", source="layers/recurrent/RnnOutputLayer", shown="computed", takes=series)
def output(site: Site) -> Value:
    """A dense layer at each time step."""
    last = site.flag_of_format("rnnDataFormat", "NCW", "NWC")
    value = _input(site, last)
    steps = site.transpose(value, [1, 0])
    given = product(site, steps)._replace(sizes=(steps.sizes[0], site.settings.integer("nOut")))
    return _output(site, site.transpose(activated(site, given, 1), [1, 0]), last)


@covers(LAYERS, "RnnLossLayer", source="layers/recurrent/RnnLossLayer", shown="computed")
def loss(site: Site) -> Value:
    return activated(site, site.of(2), 1 if site.flag_of_format("rnnDataFormat", "NCW", "NWC") else 0)


def reversed_in_time(site: Site, value: Value, axis: int) -> Value:
    return site.slice(value, axis, _END, -_END, value.sizes[axis], -1)


def last_step(site: Site, value: Value, time_first: bool) -> Value:
    axis = 0 if time_first else 1
    index = site.graph.constant(np.array(-1, np.int64), "last")
    return site.value(site.emit("Gather", value.name, index, axis=axis + 1), [value.sizes[1 - axis]], value)


def _time_first(site: Site) -> bool:
    return site.flag_of_format("rnnDataFormat", "NCW", "NWC")


def _sizes(site: Site) -> Tuple[int, int]:
    return site.settings.integer("nIn", least=1), site.settings.integer("nOut", least=1)


def _input(site: Site, time_first: bool) -> Value:
    """[N, nIn, T]."""
    inputs = site.settings.integer("nIn", least=1)
    value = site.of(2, -1, inputs) if time_first else site.of(2, inputs, -1)
    return site.transpose(value, [1, 0]) if time_first else value


def _output(site: Site, value: Value, time_first: bool) -> Value:
    return site.transpose(value, [1, 0]) if time_first else value


Cell = Tuple[List[np.ndarray], Dict[str, Any]]


def _one_way(site: Site, peepholes: bool) -> Value:
    last = _time_first(site)
    value = _input(site, last)
    return _output(site, _run(site, "LSTM", value, _weights(site, peepholes), "forward"), last)


def _weights(site: Site, peepholes: bool) -> Cell:
    """The next parameters: W, R and, behind its columns, the peepholes of forget, output and input gate; then b."""
    inputs, size = _sizes(site)
    weights = site.take([inputs, 4 * size], "F")
    recurrent = site.take([size, 4 * size + (3 if peepholes else 0)], "F")
    bias = site.take([4 * size], "C")
    gates = np.concatenate([np.arange(gate * size, (gate + 1) * size) for gate in _GATES])
    arrays = [
        weights[:, gates].T[None],
        recurrent[:, gates].T[None],
        np.concatenate([bias[gates], np.zeros(4 * size, site.dtype)])[None],
    ]
    if peepholes:
        forget, out, into = recurrent[:, 4 * size :].T
        arrays.append(np.concatenate([into, out, forget])[None])
    return arrays, _inside(site, ["gateActivationFn", "activationFn", "activationFn"])


def _inside(site: Site, fields: List[str]) -> Dict[str, Any]:
    """The functions within, as ONNX's attributes."""
    found, alphas, betas = [], [], []
    for field in fields:
        name, settings = chosen(site, field)
        if name not in _INSIDE or (name == "relu" and _is_special(settings)):
            site.refuse("the activation function %s within a recurrent layer is not covered" % name)
        found.append(_INSIDE[name])
        if name == "hardsigmoid":
            alphas.append(0.2)
            betas.append(0.5)
        elif name == "lrelu":
            alphas.append(settings.number("alpha", 0.01))
        elif name == "elu":
            alphas.append(settings.number("alpha", 1.0))
        elif name == "identity":
            alphas.append(1.0)
            betas.append(0.0)
    given: Dict[str, Any] = {"activations": found}
    if alphas:
        given["activation_alpha"] = alphas
    if betas:
        given["activation_beta"] = betas
    return given


def _is_special(settings: Settings) -> bool:
    return any(settings.get(field) is not None for field in ("max", "threshold", "negativeSlope"))


def _run(site: Site, op: str, value: Value, cell: Cell, direction: str) -> Value:
    """[N, nIn, T] to [N, nOut, T], by ONNX's operator, which wants time first, and at least one row: without any, ONNX
    Runtime's LSTM ends the process."""
    if any(fold.told for fold in value.folds):
        site.refuse("its rows are time steps, whose number only a request tells: give it in [[inputs]]")
    arrays, attributes = cell
    size = arrays[1].shape[-1]
    turned = site.emit("Transpose", value.name, perm=[2, 0, 1])
    names: List[Optional[str]] = [site.constant(array) for array in arrays]
    inputs = [turned, *names[:3], *(["", "", "", names[3]] if len(names) > 3 else [])]
    every = site.emit(op, *inputs, hidden_size=size, direction=direction, **attributes)
    squeezed = site.emit("Squeeze", every, site.graph.sizes(1))
    return site.value(site.emit("Transpose", squeezed, perm=[1, 2, 0]), [size, value.sizes[1]], value)
