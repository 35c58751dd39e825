"""Layers on rows of features: [N, nIn] to [N, nOut]."""

import numpy as np
from onnx import TensorProto

from ..activations import activated
from ..context import TranslationContext
from ..registry import LAYERS, Shape, covers, flat, same_sizes, spatial
from ..settings import Settings
from ..values import Value


def product(context: TranslationContext, value: Value, bias: bool = True, normalized: bool = False) -> Value:
    """Return x W + b. The next parameters are W, column-major, then b (DefaultParamInitializer).

    normalized  apply layer normalization: standardize x W and multiply it by g, the last parameter, before b is added
    """
    inputs, outputs = context.settings.integer("nIn", minimum=1), context.settings.integer("nOut", minimum=1)
    weights = context.constant(context.take([inputs, outputs], "F"))
    name = context.emit("MatMul", value.name, weights)
    shift = context.constant(context.take([outputs], "C"), "bias") if bias else ""
    if normalized:
        gain = context.constant(context.take([outputs], "C"), "gain")
        name = context.emit("Mul", _standardized(context, name), gain)
    return context.value(context.emit("Add", name, shift) if bias else name, [outputs], value)


def _standardized(context: TranslationContext, name: str) -> str:
    """Shift and scale to mean 0 and deviation 1 along the last axis.

    libnd4j adds no epsilon; if all values are equal, the result is 0.
    """
    centered = context.emit("Sub", name, context.emit("ReduceMean", name, axes=[-1], keepdims=1))
    squares = context.emit("ReduceMean", context.emit("Mul", centered, centered), axes=[-1], keepdims=1)
    flat = context.emit("Equal", squares, context.scalar(0.0))
    deviation = context.emit("Sqrt", context.emit("Where", flat, context.scalar(1.0), squares))
    return context.emit("Div", centered, deviation)


@covers(LAYERS, "DenseLayer", source="layers/BaseLayer", evidence="stored", infer_input=flat)
@covers(LAYERS, "OutputLayer", source="layers/BaseOutputLayer", evidence="stored", infer_input=flat)
def dense(context: TranslationContext) -> Value:
    value = context.checked_input(1, context.settings.integer("nIn", minimum=1))
    normalized = context.settings.flag("hasLayerNorm", False)
    return activated(context, product(context, value, context.settings.flag("hasBias", True), normalized))


@covers(
    LAYERS,
    "CenterLossOutputLayer",
    source="layers/training/CenterLossOutputLayer",
    evidence="computed",
    infer_input=flat,
)
def center_loss(context: TranslationContext) -> Value:
    """The last parameters are the class centers, which only training uses."""
    linear = product(context, context.checked_input(1, context.settings.integer("nIn", minimum=1)))
    context.take([context.settings.integer("nOut"), context.settings.integer("nIn")], "C")
    return activated(context, linear)


@covers(
    LAYERS, "AutoEncoder", source="layers/feedforward/autoencoder/AutoEncoder", evidence="computed", infer_input=flat
)
def encoder(context: TranslationContext) -> Value:
    """Only encodes. The last parameters are the visible bias, which only training uses."""
    linear = product(context, context.checked_input(1, context.settings.integer("nIn", minimum=1)))
    context.take([context.settings.integer("nIn")], "C")
    return activated(context, linear)


@covers(
    LAYERS,
    "org.deeplearning4j.regressiontest.customlayer100a.CustomLayer",
    source="regressiontest/customlayer100a/CustomLayerImpl",
    evidence="stored",
    infer_input=flat,
)
def two_activations(context: TranslationContext) -> Value:
    """DL4J's example of a custom layer: one activation for the first half of the columns (rounded down), and another
    for the rest."""
    linear = product(context, context.checked_input(1, context.settings.integer("nIn", minimum=1)))
    size = linear.sizes[0]
    first = activated(context, context.slice(linear, 0, 0, size // 2, size // 2)) if size > 1 else None
    second_settings = Settings(
        context.settings.where, {"activationFn": context.settings.get("secondActivationFunction")}
    )
    other = TranslationContext(context.kind, second_settings, context.inputs, context.graph, context.parameters)
    second = activated(other, context.slice(linear, 0, size // 2, size, size - size // 2))
    if first is None:
        return second
    return context.value(context.emit("Concat", first.name, second.name, axis=1), [size], linear)


@covers(LAYERS, "ActivationLayer", source="layers/ActivationLayer", evidence="computed")
@covers(LAYERS, "LossLayer", source="layers/LossLayer", evidence="computed")
def activation(context: TranslationContext) -> Value:
    return activated(context, context.input)


@covers(LAYERS, "DropoutLayer", source="layers/DropoutLayer", evidence="computed")
def dropout(context: TranslationContext) -> Value:
    """Does nothing in inference. Training scales the remaining values instead."""
    return context.input


@covers(
    LAYERS,
    "ElementWiseMultiplicationLayer",
    source="layers/feedforward/elementwise/ElementWiseMultiplicationLayer",
    evidence="computed",
    infer_input=flat,
)
def elementwise(context: TranslationContext) -> Value:
    size = context.settings.integer("nIn", minimum=1)
    value = context.checked_input(1, size)
    scaled = context.emit("Mul", value.name, context.constant(context.take([size], "C")))
    name = context.emit("Add", scaled, context.constant(context.take([size], "C"), "bias"))
    return activated(context, context.value(name, [size], value))


@covers(LAYERS, "PReLULayer", source="layers/feedforward/PReLU", evidence="computed")
def prelu(context: TranslationContext) -> Value:
    """One slope per value, column-major, or shared along `sharedAxes` (1 is the first axis after the rows)."""
    sizes = context.settings.list_of_integers("inputShape")
    if not sizes or any(size < 1 for size in sizes):
        context.refuse("its field 'inputShape' must be a list of positive sizes")
    shape, expected = list(sizes), list(sizes)
    for axis in context.settings.list_of_integers("sharedAxes") or ():
        if not 1 <= axis <= len(sizes):
            context.refuse("its field 'sharedAxes' names an axis that its input does not have")
        shape[axis - 1] = 1
        expected[axis - 1] = -1  # in 'inputShape', DL4J has replaced the size of a shared axis by 1
    value = context.checked_input(len(sizes), *expected)
    slopes = context.constant(context.take(shape, "F"))
    negative = context.emit("Mul", context.emit("Min", value.name, context.scalar(0.0)), slopes)
    name = context.emit("Add", context.emit("Max", value.name, context.scalar(0.0)), negative)
    return context.value(name, value.sizes, value)


@covers(
    LAYERS,
    "EmbeddingLayer",
    source="layers/feedforward/embedding/EmbeddingLayer",
    evidence="computed",
    infer_input=lambda settings, output: (1,),
)
def embedding(context: TranslationContext) -> Value:
    """[N, 1] to [N, nOut]: the input is the index of a row of W."""
    value = context.reshape(context.checked_input(1, 1), ())
    size = context.settings.integer("nOut", minimum=1)
    return activated(
        context, context.value(_rows(context, value, context.settings.flag("hasBias", True)), [size], value)
    )


@covers(
    LAYERS,
    "EmbeddingSequenceLayer",
    source="layers/feedforward/embedding/EmbeddingSequenceLayer",
    evidence="computed",
    infer_input=lambda settings, output: (_length(settings),),
)
def embedding_sequence(context: TranslationContext) -> Value:
    """[N, length] or [N, 1, length] to [N, nOut, length], or to [N, length, nOut] if its format is NWC."""
    value = context.input
    if len(value.sizes) == 2:
        value = context.reshape(context.checked_input(2, 1, -1), value.sizes[1:])
    else:
        value = context.checked_input(1, _length(context.settings))
    length, size = value.sizes[0], context.settings.integer("nOut", minimum=1)
    found = context.value(_rows(context, value, context.settings.flag("hasBias", False)), [length, size], value)
    if not context.channels_last("outputFormat", "NCW", "NWC"):
        found = context.transpose(found, [1, 0])
    return activated(context, found)


def _length(settings: Settings) -> int:
    return -1 if settings.flag("inferInputLength", False) else settings.integer("inputLength", 1, minimum=1)


def _rows(context: TranslationContext, value: Value, bias: bool) -> str:
    """Look up rows of W. An index that is out of range is an error, as in DL4J.

    ONNX's Gather would count negative indices from the end, so these are replaced by one that is out of range.
    """
    rows, size = context.settings.integer("nIn", minimum=1), context.settings.integer("nOut", minimum=1)
    weights = context.constant(context.take([rows, size], "F"))
    index = context.emit("Cast", value.name, to=TensorProto.INT64)
    missing = context.graph.constant(np.array(rows, np.int64), "missing")
    index = context.emit(
        "Where", context.emit("Less", index, context.graph.constant(np.array(0, np.int64))), missing, index
    )
    name = context.emit("Gather", weights, index, axis=0)
    return context.emit("Add", name, context.constant(context.take([size], "C"), "bias")) if bias else name


def _one_step(settings: Settings, output: Shape) -> Shape:
    if not output:
        return (-1,)
    return output[1:] if settings.channels_last("dataFormat", "NCW", "NWC") else output[:1]


@covers(LAYERS, "RepeatVector", source="layers/RepeatVector", evidence="computed", infer_input=_one_step)
def repeat_vector(context: TranslationContext) -> Value:
    """[N, size] to [N, size, n]."""
    value, times = context.checked_input(1), context.settings.integer("n", 1, minimum=1)
    last = context.channels_last("dataFormat", "NCW", "NWC")
    size = value.sizes[0]
    one = context.reshape(value, (1, size) if last else (size, 1))
    shape = [1, times, 1] if last else [1, 1, times]
    return context.value(
        context.emit("Tile", one.name, context.graph.sizes(*shape)), [times, size] if last else [size, times], value
    )


@covers(
    LAYERS,
    "CnnLossLayer",
    source="layers/convolution/CnnLossLayer",
    evidence="stored",
    infer_input=spatial(2, same_sizes, "NHWC"),
)
@covers(
    LAYERS,
    "Cnn3DLossLayer",
    source="layers/convolution/Cnn3DLossLayer",
    evidence="computed",
    infer_input=spatial(3, same_sizes, "NDHWC"),
)
def loss_by_channels(context: TranslationContext) -> Value:
    """Applies the activation function over the channels of each position."""
    plane = context.kind == "CnnLossLayer"
    value = context.checked_input(3 if plane else 4)
    first, last = ("NCHW", "NHWC") if plane else ("NCDHW", "NDHWC")
    formats = [context.channels_last(field, first, last) for field in ("format", "dataFormat")]
    return activated(context, value, len(value.sizes) - 1 if any(formats) else 0)
