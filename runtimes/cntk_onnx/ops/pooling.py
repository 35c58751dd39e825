"""Pooling in one to three dimensions, and over the whole input."""

from typing import Callable, Dict

from ..context import TranslationContext
from ..dictionary import Shape
from ..values import Value
from ..windows import batched, cropped, emit_in_float32, unbatched, windows
from .convolution import pads

_MAX, _AVERAGE = 0, 1
_WHOLE_INPUT = -1


def _pooling(context: TranslationContext) -> Value:
    (x,) = context.take(1)
    kind, window = context.attribute("poolingType", int), context.attribute("poolingWindowShape", Shape)
    if kind not in (_MAX, _AVERAGE):
        context.refuse("it has the pooling type %d, which is not covered" % kind)
    rank = len(x.shape)
    if any(size == _WHOLE_INPUT for size in window) or not window:
        return _global_pooling(context, kind, x)
    if len(window) > rank or not 2 <= rank <= 4:
        context.refuse("its window has %d axes and its input %d" % (len(window), rank))
    kernel = [1] * (rank - len(window)) + list(window)[::-1]
    channels, *spatial = windows(
        context, x.shape, kernel, [1] * rank, ceil=context.attribute("ceilOutDim", bool, False)
    )
    if (channels.reach, channels.stride) != (1, 1):
        context.refuse("it also pools over the channels, which is not covered")
    rows, _ = batched(context, x)
    rows = cropped(context, rows, spatial)
    attributes = {"kernel_shape": kernel[1:], "strides": [each.stride for each in spatial]}
    ends = []
    for each in spatial:
        # By how much the last window exceeds the padded input, which it may if the output size is rounded up.
        excess = 0
        if each.size > 0:
            excess = (each.out - 1) * each.stride + each.reach - (each.size + each.lower + each.upper)
        ends.append(max(excess, 0))
    padding = pads(spatial)
    if any(ends):
        half = len(spatial)
        padding = padding[:half] + [upper + excess for upper, excess in zip(padding[half:], ends)]
    if kind == _AVERAGE:
        include = context.attribute("includePad", bool, False)
        if include and any(ends):
            context.refuse("its last window exceeds the padded input and includes padding, which is not covered")
        attributes["count_include_pad"] = int(include)
    name = emit_in_float32(
        context, "AveragePool" if kind == _AVERAGE else "MaxPool", [rows], pads=padding, **attributes
    )
    return unbatched(context, name, (x.shape[0], *(each.out for each in spatial)), x)


def _global_pooling(context: TranslationContext, kind: int, x: Value) -> Value:
    axes = [x.lead + axis for axis in range(1, len(x.shape))]
    if not axes:
        context.refuse("its input has no axis to pool over")
    op = "ReduceMean" if kind == _AVERAGE else "ReduceMax"
    name = context.emit(op, context.tensor(x), axes=axes, keepdims=1)
    return context.value(name, (x.shape[0],) + (1,) * len(axes), x.axes)


TRANSLATORS: Dict[str, Callable[[TranslationContext], Value]] = {"Pooling": _pooling}
