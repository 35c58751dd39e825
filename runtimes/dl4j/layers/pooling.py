"""Pooling over windows, and global pooling."""

from typing import Any, Dict

from ..context import TranslationContext
from ..registry import LAYERS, InferInput, covers, spatial, unknown
from ..values import Value
from ..windows import Windows, windows


def _pooling_input(dimensions: int, *last: str) -> InferInput:
    return spatial(dimensions, lambda settings, sizes: windows(settings, dimensions).inputs(sizes), *last)


@covers(
    LAYERS,
    "SubsamplingLayer",
    source="layers/convolution/subsampling/SubsamplingLayer",
    evidence="stored",
    infer_input=_pooling_input(2, "NHWC"),
)
def pooling_2d(context: TranslationContext) -> Value:
    # Versions from before this field included the padding in the average.
    padding_counts = context.settings.flag("avgPoolIncludePadInDivisor", True)
    return _pooled(
        context, windows(context.settings, 2), context.channels_last("cnn2dDataFormat", "NCHW", "NHWC"), padding_counts
    )


@covers(
    LAYERS,
    "Subsampling1DLayer",
    source="layers/convolution/subsampling/Subsampling1DLayer",
    evidence="computed",
    infer_input=_pooling_input(1, "NHWC"),
)
def pooling_1d(context: TranslationContext) -> Value:
    """DL4J implements it as two-dimensional pooling with a width of 1, so the format field has NHWC for NWC."""
    last = context.channels_last("cnn2dDataFormat", "NCHW", "NHWC")
    return _pooled(
        context, windows(context.settings, 1), last, context.settings.flag("avgPoolIncludePadInDivisor", True)
    )


@covers(
    LAYERS,
    "Subsampling3DLayer",
    source="layers/convolution/subsampling/Subsampling3DLayer",
    evidence="computed",
    infer_input=_pooling_input(3, "NDHWC"),
)
def pooling_3d(context: TranslationContext) -> Value:
    return _pooled(context, windows(context.settings, 3), context.channels_last("dataFormat", "NCDHW", "NDHWC"), False)


def _pooled(context: TranslationContext, window: Windows, last: bool, padding_counts: bool) -> Value:
    kind = context.settings.choice("poolingType", ("MAX", "AVG", "PNORM", "SUM"))
    value = context.channels_first(context.checked_input(len(window.kernel) + 1), last)
    dilated = any(dilation != 1 for dilation in window.dilation)
    if kind == "SUM" or (kind != "MAX" and dilated) or (kind == "PNORM" and len(window.kernel) == 3):
        context.refuse("pooling by %s%s is not covered" % (kind, ", dilated," if dilated else ""))
    attributes: Dict[str, Any] = window.attributes(value.sizes[1:], kind == "MAX")
    if kind == "AVG":
        attributes["count_include_pad"] = int(padding_counts)
    if kind == "PNORM":
        attributes["p"] = context.settings.integer("pnorm", minimum=1)
    op = {"MAX": "MaxPool", "AVG": "AveragePool", "PNORM": "LpPool"}[kind]
    sizes = [value.sizes[0], *window.outputs(value.sizes[1:], context.settings)]
    pooled = context.value(context.emit(op, value.name, **attributes), sizes, value, window.growth(value.sizes[1:]))
    return context.restore_channels(pooled, last)


@covers(
    LAYERS, "GlobalPoolingLayer", source="layers/pooling/GlobalPoolingLayer", evidence="stored", infer_input=unknown
)
def global_pooling(context: TranslationContext) -> Value:
    """Pools over `poolingDimensions`, by default all dimensions after the second."""
    value, settings = context.input, context.settings
    rank = len(value.sizes) + 1
    if rank not in (3, 4, 5):
        context.refuse("global pooling of activations of rank %d is not covered" % rank)
    axes = settings.list_of_integers("poolingDimensions") or tuple(range(2, rank))
    if len(set(axes)) != len(axes) or not all(1 <= axis < rank for axis in axes):
        context.refuse("its field 'poolingDimensions' is %s for activations of rank %d" % (list(axes), rank))
    kind = settings.choice("poolingType", ("MAX", "AVG", "SUM", "PNORM"))
    left = [size for axis, size in enumerate(value.sizes, 1) if axis not in axes]
    name = _reduced(context, value.name, kind, sorted(axes))
    pooled = context.value(name, left, value)
    if settings.flag("collapseDimensions", True):
        return pooled
    if 1 in axes:
        context.refuse("global pooling over the channels that keeps its dimensions is not covered")
    return context.reshape(pooled, [*left, *[1] * (rank - 1 - len(left))])


def _reduced(context: TranslationContext, name: str, kind: str, axes: Any) -> str:
    if kind == "MAX":
        return context.emit("ReduceMax", name, axes=axes, keepdims=0)
    if kind == "AVG":
        return context.emit("ReduceMean", name, axes=axes, keepdims=0)
    if kind == "SUM":
        return context.emit("ReduceSum", name, context.graph.sizes(*axes), keepdims=0)
    power = context.settings.integer("pnorm", minimum=1)
    powers = context.emit("Pow", context.emit("Abs", name), context.scalar(power))
    total = context.emit("ReduceSum", powers, context.graph.sizes(*axes), keepdims=0)
    return context.emit("Pow", total, context.scalar(1 / power))
