"""Layers on rows of features: [N, nIn] to [N, nOut]."""

import numpy as np
from onnx import TensorProto

from ..activations import activated
from ..context import TranslationContext
from ..registry import LAYERS, Shape, covers, flat, same_places, spatial
from ..settings import Settings
from ..values import Value


def product(context: TranslationContext, value: Value, bias: bool = True, normalized: bool = False) -> Value:
    """x W + b: the next parameters are W, by columns, then b (DefaultParamInitializer). Normalised, x W is, and times g
    behind them, before b is added."""
    inputs, outputs = context.settings.integer("nIn", least=1), context.settings.integer("nOut", least=1)
    weights = context.constant(context.take([inputs, outputs], "F"))
    name = context.emit("MatMul", value.name, weights)
    shift = context.constant(context.take([outputs], "C"), "bias") if bias else ""
    if normalized:
        gain = context.constant(context.take([outputs], "C"), "gain")
        name = context.emit("Mul", _standardized(context, name), gain)
    return context.value(context.emit("Add", name, shift) if bias else name, [outputs], value)


def _standardized(context: TranslationContext, name: str) -> str:
    """Of mean 0 and deviation 1 along the last axis; 0 where nothing deviates: libnd4j adds no epsilon."""
    centred = context.emit("Sub", name, context.emit("ReduceMean", name, axes=[-1], keepdims=1))
    squares = context.emit("ReduceMean", context.emit("Mul", centred, centred), axes=[-1], keepdims=1)
    flat = context.emit("Equal", squares, context.scalar(0.0))
    deviation = context.emit("Sqrt", context.emit("Where", flat, context.scalar(1.0), squares))
    return context.emit("Div", centred, deviation)


@covers(LAYERS, "DenseLayer", source="layers/BaseLayer", shown="stored", takes=flat)
@covers(LAYERS, "OutputLayer", source="layers/BaseOutputLayer", shown="stored", takes=flat)
def dense(context: TranslationContext) -> Value:
    value = context.of(1, context.settings.integer("nIn", least=1))
    normalized = context.settings.flag("hasLayerNorm", False)
    return activated(context, product(context, value, context.settings.flag("hasBias", True), normalized))


@covers(LAYERS, "CenterLossOutputLayer", source="layers/training/CenterLossOutputLayer", shown="computed", takes=flat)
def center_loss(context: TranslationContext) -> Value:
    """Its centres are for training; they lie behind the rest."""
    given = product(context, context.of(1, context.settings.integer("nIn", least=1)))
    context.take([context.settings.integer("nOut"), context.settings.integer("nIn")], "C")
    return activated(context, given)


@covers(LAYERS, "AutoEncoder", source="layers/feedforward/autoencoder/AutoEncoder", shown="computed", takes=flat)
def encoder(context: TranslationContext) -> Value:
    """Encodes; the visible bias, behind the rest, is for training."""
    given = product(context, context.of(1, context.settings.integer("nIn", least=1)))
    context.take([context.settings.integer("nIn")], "C")
    return activated(context, given)


@covers(
    LAYERS,
    "org.deeplearning4j.regressiontest.customlayer100a.CustomLayer",
    source="regressiontest/customlayer100a/CustomLayerImpl",
    shown="stored",
    takes=flat,
)
def two_activations(context: TranslationContext) -> Value:
    """DL4J's example of a layer that a user writes: the first half of the columns (rounded down) by one function,
    the others by a second."""
    given = product(context, context.of(1, context.settings.integer("nIn", least=1)))
    size = given.sizes[0]
    first = activated(context, context.slice(given, 0, 0, size // 2, size // 2)) if size > 1 else None
    second_settings = Settings(
        context.settings.where, {"activationFn": context.settings.get("secondActivationFunction")}
    )
    other = TranslationContext(context.kind, second_settings, context.inputs, context.graph, context.parameters)
    second = activated(other, context.slice(given, 0, size // 2, size, size - size // 2))
    if first is None:
        return second
    return context.value(context.emit("Concat", first.name, second.name, axis=1), [size], given)


@covers(LAYERS, "ActivationLayer", source="layers/ActivationLayer", shown="computed")
@covers(LAYERS, "LossLayer", source="layers/LossLayer", shown="computed")
def activation(context: TranslationContext) -> Value:
    return activated(context, context.input)


@covers(LAYERS, "DropoutLayer", source="layers/DropoutLayer", shown="computed")
def dropout(context: TranslationContext) -> Value:
    """In inference it does nothing: what training drops is scaled there."""
    return context.input


@covers(
    LAYERS,
    "ElementWiseMultiplicationLayer",
    source="layers/feedforward/elementwise/ElementWiseMultiplicationLayer",
    shown="computed",
    takes=flat,
)
def elementwise(context: TranslationContext) -> Value:
    size = context.settings.integer("nIn", least=1)
    value = context.of(1, size)
    scaled = context.emit("Mul", value.name, context.constant(context.take([size], "C")))
    name = context.emit("Add", scaled, context.constant(context.take([size], "C"), "bias"))
    return activated(context, context.value(name, [size], value))


@covers(LAYERS, "PReLULayer", source="layers/feedforward/PReLU", shown="computed")
def prelu(context: TranslationContext) -> Value:
    """One slope for each value, by columns; shared along the axes that it names (1 is the first after the rows)."""
    sizes = context.settings.list_of_integers("inputShape")
    if not sizes or any(size < 1 for size in sizes):
        context.refuse("its field 'inputShape' holds no sizes")
    slopes, wanted = list(sizes), list(sizes)
    for axis in context.settings.list_of_integers("sharedAxes") or ():
        if not 1 <= axis <= len(sizes):
            context.refuse("its field 'sharedAxes' names an axis that its input lacks")
        slopes[axis - 1] = 1
        wanted[axis - 1] = -1  # DL4J has written 1 for it in 'inputShape', too
    value = context.of(len(sizes), *wanted)
    taken = context.constant(context.take(slopes, "F"))
    negative = context.emit("Mul", context.emit("Min", value.name, context.scalar(0.0)), taken)
    name = context.emit("Add", context.emit("Max", value.name, context.scalar(0.0)), negative)
    return context.value(name, value.sizes, value)


@covers(
    LAYERS,
    "EmbeddingLayer",
    source="layers/feedforward/embedding/EmbeddingLayer",
    shown="computed",
    takes=lambda settings, behind: (1,),
)
def embedding(context: TranslationContext) -> Value:
    """[N, 1], the index as a number, to that row of W."""
    value = context.reshape(context.of(1, 1), ())
    size = context.settings.integer("nOut", least=1)
    return activated(
        context, context.value(_rows(context, value, context.settings.flag("hasBias", True)), [size], value)
    )


@covers(
    LAYERS,
    "EmbeddingSequenceLayer",
    source="layers/feedforward/embedding/EmbeddingSequenceLayer",
    shown="computed",
    takes=lambda settings, behind: (_length(settings),),
)
def embedding_sequence(context: TranslationContext) -> Value:
    """[N, length] or [N, 1, length] to [N, nOut, length], or [N, length, nOut] where its format says so."""
    value = context.input
    if len(value.sizes) == 2:
        value = context.reshape(context.of(2, 1, -1), value.sizes[1:])
    else:
        value = context.of(1, _length(context.settings))
    length, size = value.sizes[0], context.settings.integer("nOut", least=1)
    found = context.value(_rows(context, value, context.settings.flag("hasBias", False)), [length, size], value)
    if not context.flag_of_format("outputFormat", "NCW", "NWC"):
        found = context.transpose(found, [1, 0])
    return activated(context, found)


def _length(settings: Settings) -> int:
    return -1 if settings.flag("inferInputLength", False) else settings.integer("inputLength", 1, least=1)


def _rows(context: TranslationContext, value: Value, bias: bool) -> str:
    """The rows of W that the values name. DL4J refuses one that is not there, and so does ONNX Runtime, but for
    negative ones, which it counts from the end."""
    rows, size = context.settings.integer("nIn", least=1), context.settings.integer("nOut", least=1)
    weights = context.constant(context.take([rows, size], "F"))
    index = context.emit("Cast", value.name, to=TensorProto.INT64)
    missing = context.graph.constant(np.array(rows, np.int64), "missing")
    index = context.emit(
        "Where", context.emit("Less", index, context.graph.constant(np.array(0, np.int64))), missing, index
    )
    name = context.emit("Gather", weights, index, axis=0)
    return context.emit("Add", name, context.constant(context.take([size], "C"), "bias")) if bias else name


def _one_step(settings: Settings, behind: Shape) -> Shape:
    if not behind:
        return (-1,)
    return behind[1:] if settings.flag_of_format("dataFormat", "NCW", "NWC") else behind[:1]


@covers(LAYERS, "RepeatVector", source="layers/RepeatVector", shown="computed", takes=_one_step)
def repeat_vector(context: TranslationContext) -> Value:
    """[N, size] to [N, size, n]."""
    value, times = context.of(1), context.settings.integer("n", 1, least=1)
    last = context.flag_of_format("dataFormat", "NCW", "NWC")
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
    shown="stored",
    takes=spatial(2, same_places, "NHWC"),
)
@covers(
    LAYERS,
    "Cnn3DLossLayer",
    source="layers/convolution/Cnn3DLossLayer",
    shown="computed",
    takes=spatial(3, same_places, "NDHWC"),
)
def loss_by_channels(context: TranslationContext) -> Value:
    """The function is applied to each place's channels."""
    plane = context.kind == "CnnLossLayer"
    value = context.of(3 if plane else 4)
    first, last = ("NCHW", "NHWC") if plane else ("NCDHW", "NDHWC")
    formats = [context.flag_of_format(field, first, last) for field in ("format", "dataFormat")]
    return activated(context, value, len(value.sizes) - 1 if any(formats) else 0)
