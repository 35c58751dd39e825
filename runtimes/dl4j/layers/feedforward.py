"""Layers on rows of features: [N, nIn] to [N, nOut]."""

import numpy as np
from onnx import TensorProto

from ..activations import activated
from ..registry import LAYERS, Shape, covers, flat, same_places, spatial
from ..settings import Settings
from ..site import Site
from ..values import Value


def product(site: Site, value: Value, bias: bool = True, normalized: bool = False) -> Value:
    """x W + b: the next parameters are W, by columns, then b (DefaultParamInitializer). Normalised, x W is, and times g
    behind them, before b is added."""
    inputs, outputs = site.settings.integer("nIn", least=1), site.settings.integer("nOut", least=1)
    weights = site.constant(site.take([inputs, outputs], "F"))
    name = site.emit("MatMul", value.name, weights)
    shift = site.constant(site.take([outputs], "C"), "bias") if bias else ""
    if normalized:
        gain = site.constant(site.take([outputs], "C"), "gain")
        name = site.emit("Mul", _standardized(site, name), gain)
    return site.value(site.emit("Add", name, shift) if bias else name, [outputs], value)


def _standardized(site: Site, name: str) -> str:
    """Of mean 0 and deviation 1 along the last axis; 0 where nothing deviates: libnd4j adds no epsilon."""
    centred = site.emit("Sub", name, site.emit("ReduceMean", name, axes=[-1], keepdims=1))
    squares = site.emit("ReduceMean", site.emit("Mul", centred, centred), axes=[-1], keepdims=1)
    flat = site.emit("Equal", squares, site.scalar(0.0))
    deviation = site.emit("Sqrt", site.emit("Where", flat, site.scalar(1.0), squares))
    return site.emit("Div", centred, deviation)


@covers(LAYERS, "DenseLayer", source="layers/BaseLayer", shown="stored", takes=flat)
@covers(LAYERS, "OutputLayer", source="layers/BaseOutputLayer", shown="stored", takes=flat)
def dense(site: Site) -> Value:
    value = site.of(1, site.settings.integer("nIn", least=1))
    normalized = site.settings.flag("hasLayerNorm", False)
    return activated(site, product(site, value, site.settings.flag("hasBias", True), normalized))


@covers(LAYERS, "CenterLossOutputLayer", source="layers/training/CenterLossOutputLayer", shown="computed", takes=flat)
def center_loss(site: Site) -> Value:
    """Its centres are for training; they lie behind the rest."""
    given = product(site, site.of(1, site.settings.integer("nIn", least=1)))
    site.take([site.settings.integer("nOut"), site.settings.integer("nIn")], "C")
    return activated(site, given)


@covers(LAYERS, "AutoEncoder", source="layers/feedforward/autoencoder/AutoEncoder", shown="computed", takes=flat)
def encoder(site: Site) -> Value:
    """Encodes; the visible bias, behind the rest, is for training."""
    given = product(site, site.of(1, site.settings.integer("nIn", least=1)))
    site.take([site.settings.integer("nIn")], "C")
    return activated(site, given)


@covers(
    LAYERS,
    "org.deeplearning4j.regressiontest.customlayer100a.CustomLayer",
    source="regressiontest/customlayer100a/CustomLayerImpl",
    shown="stored",
    takes=flat,
)
def two_activations(site: Site) -> Value:
    """DL4J's example of a layer that a user writes: the first half of the columns (rounded down) by one function,
    the others by a second."""
    given = product(site, site.of(1, site.settings.integer("nIn", least=1)))
    size = given.sizes[0]
    first = activated(site, site.slice(given, 0, 0, size // 2, size // 2)) if size > 1 else None
    second_settings = Settings(site.settings.where, {"activationFn": site.settings.get("secondActivationFunction")})
    other = Site(site.kind, second_settings, site.inputs, site.graph, site.parameters)
    second = activated(other, site.slice(given, 0, size // 2, size, size - size // 2))
    if first is None:
        return second
    return site.value(site.emit("Concat", first.name, second.name, axis=1), [size], given)


@covers(LAYERS, "ActivationLayer", source="layers/ActivationLayer", shown="computed")
@covers(LAYERS, "LossLayer", source="layers/LossLayer", shown="computed")
def activation(site: Site) -> Value:
    return activated(site, site.input)


@covers(LAYERS, "DropoutLayer", source="layers/DropoutLayer", shown="computed")
def dropout(site: Site) -> Value:
    """In inference it does nothing: what training drops is scaled there."""
    return site.input


@covers(
    LAYERS,
    "ElementWiseMultiplicationLayer",
    source="layers/feedforward/elementwise/ElementWiseMultiplicationLayer",
    shown="computed",
    takes=flat,
)
def elementwise(site: Site) -> Value:
    size = site.settings.integer("nIn", least=1)
    value = site.of(1, size)
    scaled = site.emit("Mul", value.name, site.constant(site.take([size], "C")))
    name = site.emit("Add", scaled, site.constant(site.take([size], "C"), "bias"))
    return activated(site, site.value(name, [size], value))


@covers(LAYERS, "PReLULayer", source="layers/feedforward/PReLU", shown="computed")
def prelu(site: Site) -> Value:
    """One slope for each value, by columns; shared along the axes that it names (1 is the first after the rows)."""
    sizes = site.settings.list_of_integers("inputShape")
    if not sizes or any(size < 1 for size in sizes):
        site.refuse("its field 'inputShape' holds no sizes")
    slopes, wanted = list(sizes), list(sizes)
    for axis in site.settings.list_of_integers("sharedAxes") or ():
        if not 1 <= axis <= len(sizes):
            site.refuse("its field 'sharedAxes' names an axis that its input lacks")
        slopes[axis - 1] = 1
        wanted[axis - 1] = -1  # DL4J has written 1 for it in 'inputShape', too
    value = site.of(len(sizes), *wanted)
    taken = site.constant(site.take(slopes, "F"))
    negative = site.emit("Mul", site.emit("Min", value.name, site.scalar(0.0)), taken)
    name = site.emit("Add", site.emit("Max", value.name, site.scalar(0.0)), negative)
    return site.value(name, value.sizes, value)


@covers(
    LAYERS,
    "EmbeddingLayer",
    source="layers/feedforward/embedding/EmbeddingLayer",
    shown="computed",
    takes=lambda settings, behind: (1,),
)
def embedding(site: Site) -> Value:
    """[N, 1], the index as a number, to that row of W."""
    value = site.reshape(site.of(1, 1), ())
    size = site.settings.integer("nOut", least=1)
    return activated(site, site.value(_rows(site, value, site.settings.flag("hasBias", True)), [size], value))


@covers(
    LAYERS,
    "EmbeddingSequenceLayer",
    source="layers/feedforward/embedding/EmbeddingSequenceLayer",
    shown="computed",
    takes=lambda settings, behind: (_length(settings),),
)
def embedding_sequence(site: Site) -> Value:
    """[N, length] or [N, 1, length] to [N, nOut, length], or [N, length, nOut] where its format says so."""
    value = site.input
    if len(value.sizes) == 2:
        value = site.reshape(site.of(2, 1, -1), value.sizes[1:])
    else:
        value = site.of(1, _length(site.settings))
    length, size = value.sizes[0], site.settings.integer("nOut", least=1)
    found = site.value(_rows(site, value, site.settings.flag("hasBias", False)), [length, size], value)
    if not site.flag_of_format("outputFormat", "NCW", "NWC"):
        found = site.transpose(found, [1, 0])
    return activated(site, found)


def _length(settings: Settings) -> int:
    return -1 if settings.flag("inferInputLength", False) else settings.integer("inputLength", 1, least=1)


def _rows(site: Site, value: Value, bias: bool) -> str:
    """The rows of W that the values name. DL4J refuses one that is not there, and so does ONNX Runtime, but for
    negative ones, which it counts from the end."""
    rows, size = site.settings.integer("nIn", least=1), site.settings.integer("nOut", least=1)
    weights = site.constant(site.take([rows, size], "F"))
    index = site.emit("Cast", value.name, to=TensorProto.INT64)
    missing = site.graph.constant(np.array(rows, np.int64), "missing")
    index = site.emit("Where", site.emit("Less", index, site.graph.constant(np.array(0, np.int64))), missing, index)
    name = site.emit("Gather", weights, index, axis=0)
    return site.emit("Add", name, site.constant(site.take([size], "C"), "bias")) if bias else name


def _one_step(settings: Settings, behind: Shape) -> Shape:
    if not behind:
        return (-1,)
    return behind[1:] if settings.flag_of_format("dataFormat", "NCW", "NWC") else behind[:1]


@covers(LAYERS, "RepeatVector", source="layers/RepeatVector", shown="computed", takes=_one_step)
def repeat_vector(site: Site) -> Value:
    """[N, size] to [N, size, n]."""
    value, times = site.of(1), site.settings.integer("n", 1, least=1)
    last = site.flag_of_format("dataFormat", "NCW", "NWC")
    size = value.sizes[0]
    one = site.reshape(value, (1, size) if last else (size, 1))
    shape = [1, times, 1] if last else [1, 1, times]
    return site.value(
        site.emit("Tile", one.name, site.graph.sizes(*shape)), [times, size] if last else [size, times], value
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
def loss_by_channels(site: Site) -> Value:
    """The function is applied to each place's channels."""
    plane = site.kind == "CnnLossLayer"
    value = site.of(3 if plane else 4)
    first, last = ("NCHW", "NHWC") if plane else ("NCDHW", "NDHWC")
    formats = [site.flag_of_format(field, first, last) for field in ("format", "dataFormat")]
    return activated(site, value, len(value.sizes) - 1 if any(formats) else 0)
