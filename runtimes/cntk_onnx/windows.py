"""What convolution and pooling share: how CNTK places a window over an axis."""

from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

from runtimes.onnx.graph import TYPES

from .context import TranslationContext
from .dictionary import Shape
from .values import Value

# Of a window, a stride or a padding: beyond it ONNX Runtime's own sums overflow.
_MAX_SIZE = 1 << 31


class Window(NamedTuple):
    """Along one axis. size: of the axis, -1 where only a request tells; dilated: how far the window reaches."""

    size: int
    reach: int
    stride: int
    lower: int
    upper: int
    out: int


def windows(
    context: TranslationContext,
    sizes: Sequence[int],
    reaches: Sequence[int],
    dilations: Sequence[int],
    ceil: bool = False,
) -> List[Window]:
    """One for each axis, row-major, as the function's attributes place them. Refuses a window beyond its axis."""
    rank = len(sizes)
    strides = spread(context, context.attribute("strides", Shape, ()), rank, 1)
    automatic = spread(context, context.attribute("autoPadding", list, []), rank, False)
    lower = spread(context, context.attribute("lowerPad", Shape, ()), rank, 0)
    upper = spread(context, context.attribute("upperPad", Shape, ()), rank, 0)
    return [
        _window(context, *each, ceil=ceil) for each in zip(sizes, reaches, dilations, strides, automatic, lower, upper)
    ]


def spread(context: TranslationContext, told: Sequence[int], rank: int, default: int) -> List[int]:
    """An attribute of CNTK's (its order; one value for all axes, or fewer than there are) for each axis, row-major."""
    if len(told) > rank:
        context.refuse("it tells %d axes where its input has %d" % (len(told), rank))
    whole = list(told) * rank if len(told) == 1 else [*told, *[default] * (rank - len(told))]
    if not all(isinstance(value, int) for value in whole) or any(not 0 <= value <= _MAX_SIZE for value in whole):
        context.refuse("a stride, a size or a padding is no number")
    return whole[::-1]


def _window(
    context: TranslationContext,
    size: int,
    kernel: int,
    dilation: int,
    stride: int,
    automatic: int,
    lower: int,
    upper: int,
    ceil: bool,
) -> Window:
    reach = (kernel - 1) * dilation + 1
    if kernel < 1 or stride < 1 or dilation < 1:
        context.refuse("its window or its stride has a size of 0")
    if not automatic:
        return Window(size, reach, stride, lower, upper, _out(context, size + lower + upper, reach, stride, ceil, size))
    if size < 0:
        if stride > 1:
            context.refuse("its padding depends on a size that only a request tells")
        return Window(size, reach, 1, (reach - 1) // 2, reach // 2, -1)
    out = (size - 1) // stride + 1
    extra = size - ((out - 1) * stride + 1)
    if ceil and extra:
        context.refuse("its last window's middle lies beyond its input, where CNTK reads whatever is there")
    # CNTK centres the windows: what no window's middle stands on is shared between the two ends.
    before = (reach - 1) // 2 - extra // 2
    return Window(size, reach, stride, before, (out - 1) * stride + reach - size - before, out)


def _out(context: TranslationContext, whole: int, reach: int, stride: int, ceil: bool, size: int) -> int:
    if size < 0:
        if ceil and stride > 1:
            context.refuse("its last window depends on a size that only a request tells")
        return -1
    if reach > whole:
        context.refuse("its window of %d is larger than its padded input of %d" % (reach, whole))
    return (whole - reach + (stride - 1 if ceil else 0)) // stride + 1


def batched(context: TranslationContext, x: Value) -> Tuple[str, Value]:
    """The tensor with exactly one leading axis, as ONNX's convolutions and pools want it."""
    name = context.name(x)
    if x.lead == 1:
        return name, x
    if x.lead == 0:
        return context.emit("Unsqueeze", name, context.graph.sizes(0)), x
    merged = context.emit("Reshape", name, context.graph.sizes(-1, *x.shape)) if context.definite(x.shape) else name
    return merged, x


def unbatched(context: TranslationContext, name: str, shape: Sequence[int], x: Value) -> Value:
    """The other way round, for a result of this static shape."""
    if x.lead == 1:
        return context.value(name, shape, x.axes)
    if x.lead == 0:
        return context.value(context.emit("Squeeze", name, context.graph.sizes(0)), shape, x.axes)
    ends = context.emit("Shape", context.name(x), end=2)
    context.definite(shape)
    whole = context.emit("Concat", ends, context.graph.sizes(*shape), axis=0)
    return context.value(context.emit("Reshape", name, whole), shape, x.axes)


def cropped(context: TranslationContext, rows: str, spatial: Sequence[Window]) -> str:
    """Without what no window reaches, which ONNX cannot say by a padding below zero."""
    axes = [place for place, each in enumerate(spatial) if each.lower < 0 or each.upper < 0]
    if not axes:
        return rows
    begins = [max(-spatial[place].lower, 0) for place in axes]
    ends = [spatial[place].size - max(-spatial[place].upper, 0) for place in axes]
    sizes = context.graph.sizes
    return context.emit("Slice", rows, sizes(*begins), sizes(*ends), sizes(*(place + 2 for place in axes)))


def wide(context: TranslationContext, op: str, inputs: List[str], **attributes: object) -> str:
    """ONNX Runtime computes these in float32 only, on the CPU: float64 goes through it."""
    if context.dtype != np.float64:
        return context.emit(op, *inputs, **attributes)
    narrow = [context.emit("Cast", name, to=TYPES[np.dtype(np.float32)]) for name in inputs]
    return context.emit("Cast", context.emit(op, *narrow, **attributes), to=TYPES[context.dtype])
