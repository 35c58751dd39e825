"""Pooling in one to three dimensions, and over regions."""

from typing import Callable, Dict

from ..context import TranslationContext
from ..dictionary import Shape
from ..values import Value
from ..windows import batched, cropped, unbatched, wide, windows
from .convolution import pads

_MAX, _AVERAGE = 0, 1
_WHOLE_INPUT = -1


def _pooling(context: TranslationContext) -> Value:
    (x,) = context.take(1)
    kind, told = context.attribute("poolingType", int), context.attribute("poolingWindowShape", Shape)
    if kind not in (_MAX, _AVERAGE):
        context.refuse("it pools in a way %d that is not covered" % kind)
    rank = len(x.shape)
    if any(size == _WHOLE_INPUT for size in told) or not told:
        return _over_all(context, kind, x)
    if len(told) > rank or not 2 <= rank <= 4:
        context.refuse("its window has %d axes and its input %d" % (len(told), rank))
    reaches = [1] * (rank - len(told)) + list(told)[::-1]
    channels, *spatial = windows(
        context, x.shape, reaches, [1] * rank, ceil=context.attribute("ceilOutDim", bool, False)
    )
    if (channels.reach, channels.stride) != (1, 1):
        context.refuse("it also pools over the channels, which is not covered")
    rows, _ = batched(context, x)
    rows = cropped(context, rows, spatial)
    attributes = {"kernel_shape": reaches[1:], "strides": [each.stride for each in spatial]}
    ends = []
    for each in spatial:
        # As much as the last window reaches over the end, which `ceil` allows.
        over = (each.out - 1) * each.stride + each.reach - (each.size + each.lower + each.upper) if each.size > 0 else 0
        ends.append(max(over, 0))
    padding = pads(spatial)
    if any(ends):
        half = len(spatial)
        padding = padding[:half] + [upper + over for upper, over in zip(padding[half:], ends)]
    if kind == _AVERAGE:
        include = context.attribute("includePad", bool, False)
        if include and any(ends):
            context.refuse("it averages over padding beyond the end, which is not covered")
        attributes["count_include_pad"] = int(include)
    name = wide(context, "AveragePool" if kind == _AVERAGE else "MaxPool", [rows], pads=padding, **attributes)
    return unbatched(context, name, (x.shape[0], *(each.out for each in spatial)), x)


def _over_all(context: TranslationContext, kind: int, x: Value) -> Value:
    axes = [x.lead + place for place in range(1, len(x.shape))]
    if not axes:
        context.refuse("its input has no axis to pool over")
    op = "ReduceMean" if kind == _AVERAGE else "ReduceMax"
    name = context.emit(op, context.name(x), axes=axes, keepdims=1)
    return context.value(name, (x.shape[0],) + (1,) * len(axes), x.axes)


TRANSLATORS: Dict[str, Callable[[TranslationContext], Value]] = {"Pooling": _pooling}
