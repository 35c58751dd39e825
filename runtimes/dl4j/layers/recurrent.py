"""Recurrent layers: [N, nIn, T] to [N, nOut, T], or with time before features if their format is NWC.

Requests cannot contain masks, so every sequence is as long as its tensor.
"""

from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from ..activations import activated, chosen
from ..configuration import inner_layer
from ..context import TranslationContext, common_sizes
from ..registry import LAYERS, Shape, covers, infer_inner_input, series, translate_inner
from ..settings import Settings
from ..values import Value
from .feedforward import product

_END = (1 << 31) - 1
# The activation functions that ONNX's recurrent operators support.
_ONNX_ACTIVATIONS = {
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
# DL4J orders the blocks of columns as block input, forget, output, input gate; ONNX as input, output, forget, cell.
_GATES = (3, 2, 1, 0)


@covers(LAYERS, "LSTM", source="layers/recurrent/LSTMHelpers", evidence="stored", infer_input=series)
def lstm(context: TranslationContext) -> Value:
    return _one_way(context, peepholes=False)


@covers(LAYERS, "GravesLSTM", source="layers/recurrent/LSTMHelpers", evidence="computed", infer_input=series)
def graves_lstm(context: TranslationContext) -> Value:
    return _one_way(context, peepholes=True)


@covers(
    LAYERS,
    "GravesBidirectionalLSTM",
    source="layers/recurrent/GravesBidirectionalLSTM",
    evidence="computed",
    infer_input=series,
)
def graves_both_ways(context: TranslationContext) -> Value:
    """Adds the outputs of both directions."""
    last = _time_first(context)
    value = _input(context, last)
    forward, backward = _weights(context, True), _weights(context, True)
    here = _run(context, "LSTM", value, forward, "forward")
    back = _run(context, "LSTM", value, backward, "reverse")
    return _output(context, here._replace(name=context.emit("Add", here.name, back.name)), last)


@covers(LAYERS, "SimpleRnn", source="layers/recurrent/SimpleRnn", evidence="computed", infer_input=series)
def simple_rnn(context: TranslationContext) -> Value:
    """a(x W + h R + b)."""
    if context.settings.flag("hasLayerNorm", False):
        context.refuse("its layer normalization (hasLayerNorm) is not covered")
    last = _time_first(context)
    value = _input(context, last)
    inputs, size = _sizes(context)
    weights, recurrent = context.take([inputs, size], "F"), context.take([size, size], "F")
    bias = np.concatenate([context.take([size], "C"), np.zeros(size, context.dtype)])
    arrays = [weights.T[None], recurrent.T[None], bias[None]]
    return _output(
        context, _run(context, "RNN", value, (arrays, _onnx_activations(context, ["activationFn"])), "forward"), last
    )


@covers(
    LAYERS,
    "Bidirectional",
    source="layers/recurrent/BidirectionalLayer",
    evidence="computed",
    infer_input=infer_inner_input("fwd"),
)
def both_ways(context: TranslationContext) -> Value:
    """One layer processes the sequence, another its reverse. If the latter's output is a sequence, it is reversed."""
    mode = context.settings.choice("mode", ("ADD", "MUL", "AVERAGE", "CONCAT"))
    value = context.checked_input(2)
    last = _inner_time_first(context, context.settings, "fwd")
    if _inner_time_first(context, context.settings, "bwd") != last:
        context.refuse("its two directions have different formats")
    time = 0 if last else 1
    here = translate_inner(context, "fwd")
    back = translate_inner(context, "bwd", reversed_in_time(context, value, time))
    if len(back.sizes) == 2:
        back = reversed_in_time(context, back, time)
    if len(here.sizes) != len(back.sizes):
        context.refuse("its two directions produce activations of different ranks")
    if mode == "CONCAT":
        axis = 1 if last and len(here.sizes) == 2 else 0
        sizes = list(here.sizes)
        unknown = min(sizes[axis], back.sizes[axis]) < 0
        sizes[axis] = -1 if unknown else sizes[axis] + back.sizes[axis]
        name = context.emit("Concat", here.name, back.name, axis=axis + 1)
        return context.value(name, sizes, here if here.growth > back.growth else back, 2 if unknown else 1)
    if not common_sizes([here, back]):
        context.refuse("its two directions produce activations of different sizes")
    name = context.emit("Mul" if mode == "MUL" else "Add", here.name, back.name)
    return here._replace(name=context.emit("Mul", name, context.scalar(0.5)) if mode == "AVERAGE" else name)


@covers(
    LAYERS,
    "LastTimeStep",
    source="layers/recurrent/LastTimeStepLayer",
    evidence="computed",
    infer_input=infer_inner_input("underlying"),
)
def last_of_layer(context: TranslationContext) -> Value:
    result = translate_inner(context, "underlying")
    if len(result.sizes) != 2:
        context.refuse("the layer in it does not produce a sequence")
    return last_step(context, result, _inner_time_first(context, context.settings, "underlying"))


# The wrappers whose format DL4J's TimeSeriesUtils.getFormatFromRnnLayer reads from the wrapped layer.
_WRAPPERS = {"Bidirectional": "fwd", "LastTimeStep": "underlying", "MaskZeroLayer": "underlying"}
# Those that it does not look into.
_FROZEN = {"FrozenLayer": "layer", "FrozenLayerWithBackprop": "underlying"}


def _inner_time_first(context: TranslationContext, settings: Settings, field: str) -> bool:
    """Whether the layer in this field has time before features."""
    kind, inner = inner_layer(settings, field)
    if kind in _WRAPPERS:
        return _inner_time_first(context, inner, _WRAPPERS[kind])
    if kind in _FROZEN and _inner_time_first(context, inner, _FROZEN[kind]):
        context.refuse("a frozen layer in it with time before features is not covered")
    return inner.channels_last("rnnDataFormat", "NCW", "NWC")


def _each_step(settings: Settings, output: Shape) -> Shape:
    found = infer_inner_input("underlying")(settings, None)
    if not found or len(found) != 1:
        return None
    return (-1, *found) if settings.get("rnnDataFormat") == "NWC" else (*found, -1)


@covers(
    LAYERS,
    "TimeDistributed",
    source="layers/recurrent/TimeDistributedLayer",
    evidence="computed",
    infer_input=_each_step,
)
def at_each_step(context: TranslationContext) -> Value:
    """Applies the wrapped layer to each time step."""
    axis = 0 if context.channels_last("rnnDataFormat", "NCW", "NWC") else 1
    folded = context.fold(context.checked_input(2), axis)
    return context.unfold(translate_inner(context, "underlying", folded), axis)


@covers(LAYERS, "RnnOutputLayer", source="layers/recurrent/RnnOutputLayer", evidence="computed", infer_input=series)
def rnn_output(context: TranslationContext) -> Value:
    """A dense layer at each time step."""
    last = context.channels_last("rnnDataFormat", "NCW", "NWC")
    value = _input(context, last)
    steps = context.transpose(value, [1, 0])
    result = product(context, steps)._replace(sizes=(steps.sizes[0], context.settings.integer("nOut")))
    return _output(context, context.transpose(activated(context, result, 1), [1, 0]), last)


@covers(LAYERS, "RnnLossLayer", source="layers/recurrent/RnnLossLayer", evidence="computed")
def loss(context: TranslationContext) -> Value:
    return activated(
        context, context.checked_input(2), 1 if context.channels_last("rnnDataFormat", "NCW", "NWC") else 0
    )


def reversed_in_time(context: TranslationContext, value: Value, axis: int) -> Value:
    return context.slice(value, axis, _END, -_END, value.sizes[axis], -1)


def last_step(context: TranslationContext, value: Value, time_first: bool) -> Value:
    axis = 0 if time_first else 1
    index = context.graph.constant(np.array(-1, np.int64), "last")
    return context.value(context.emit("Gather", value.name, index, axis=axis + 1), [value.sizes[1 - axis]], value)


def _time_first(context: TranslationContext) -> bool:
    return context.channels_last("rnnDataFormat", "NCW", "NWC")


def _sizes(context: TranslationContext) -> Tuple[int, int]:
    return context.settings.integer("nIn", minimum=1), context.settings.integer("nOut", minimum=1)


def _input(context: TranslationContext, time_first: bool) -> Value:
    """Return the input as [N, nIn, T]."""
    inputs = context.settings.integer("nIn", minimum=1)
    value = context.checked_input(2, -1, inputs) if time_first else context.checked_input(2, inputs, -1)
    return context.transpose(value, [1, 0]) if time_first else value


def _output(context: TranslationContext, value: Value, time_first: bool) -> Value:
    return context.transpose(value, [1, 0]) if time_first else value


Cell = Tuple[List[np.ndarray], Dict[str, Any]]


def _one_way(context: TranslationContext, peepholes: bool) -> Value:
    last = _time_first(context)
    value = _input(context, last)
    return _output(context, _run(context, "LSTM", value, _weights(context, peepholes), "forward"), last)


def _weights(context: TranslationContext, peepholes: bool) -> Cell:
    """Consume the next parameters and return them in ONNX's order.

    They are W, then R, whose last three columns are the peepholes of the forget, output and input gates, then b.
    """
    inputs, size = _sizes(context)
    weights = context.take([inputs, 4 * size], "F")
    recurrent = context.take([size, 4 * size + (3 if peepholes else 0)], "F")
    bias = context.take([4 * size], "C")
    gates = np.concatenate([np.arange(gate * size, (gate + 1) * size) for gate in _GATES])
    arrays = [
        weights[:, gates].T[None],
        recurrent[:, gates].T[None],
        np.concatenate([bias[gates], np.zeros(4 * size, context.dtype)])[None],
    ]
    if peepholes:
        forget_gate, output_gate, input_gate = recurrent[:, 4 * size :].T
        arrays.append(np.concatenate([input_gate, output_gate, forget_gate])[None])
    return arrays, _onnx_activations(context, ["gateActivationFn", "activationFn", "activationFn"])


def _onnx_activations(context: TranslationContext, fields: List[str]) -> Dict[str, Any]:
    """Return the layer's activation functions as attributes of ONNX's operator."""
    found, alphas, betas = [], [], []
    for field in fields:
        name, settings = chosen(context, field)
        if name not in _ONNX_ACTIVATIONS or (name == "relu" and _is_special(settings)):
            context.refuse("the activation function %s within a recurrent layer is not covered" % name)
        found.append(_ONNX_ACTIVATIONS[name])
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
    result: Dict[str, Any] = {"activations": found}
    if alphas:
        result["activation_alpha"] = alphas
    if betas:
        result["activation_beta"] = betas
    return result


def _is_special(settings: Settings) -> bool:
    return any(settings.get(field) is not None for field in ("max", "threshold", "negativeSlope"))


def _run(context: TranslationContext, op: str, value: Value, cell: Cell, direction: str) -> Value:
    """Map [N, nIn, T] to [N, nOut, T] with ONNX's operator, whose layout is [T, N, nIn].

    ONNX Runtime's LSTM crashes the process on an empty batch, so rows that are a dynamic number of time steps, which
    could be zero, are refused.
    """
    if any(fold.dims for fold in value.folds):
        context.refuse("its rows are time steps, whose number is dynamic: set it in [[inputs]]")
    arrays, attributes = cell
    size = arrays[1].shape[-1]
    transposed = context.emit("Transpose", value.name, perm=[2, 0, 1])
    names: List[Optional[str]] = [context.constant(array) for array in arrays]
    inputs = [transposed, *names[:3], *(["", "", "", names[3]] if len(names) > 3 else [])]
    every = context.emit(op, *inputs, hidden_size=size, direction=direction, **attributes)
    squeezed = context.emit("Squeeze", every, context.graph.sizes(1))
    return context.value(context.emit("Transpose", squeezed, perm=[1, 2, 0]), [size, value.sizes[1]], value)
