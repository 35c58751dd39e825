"""How CNTK's convolution and pooling place windows along an axis."""

from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

from runtimes.onnx.builder import TYPES

from .context import TranslationContext
from .dictionary import Shape
from .values import Value

# Limit for windows, strides and paddings, above which ONNX Runtime's integer arithmetic overflows.
_MAX_SIZE = 1 << 31


class Window(NamedTuple):
    """The windows along one axis.

    size          size of the axis; -1 if dynamic
    reach         size of the window, including the gaps of dilation
    lower, upper  padding before and after; negative if elements are cropped
    out           number of windows; -1 if dynamic
    """

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
    """Return the windows along each axis, row-major. Raises LoadError if one is larger than its axis."""
    rank = len(sizes)
    strides = context.attribute("strides", Shape, ())
    if len(strides) == rank and strides[-1] < 0:  # left to CNTK, which then does not move along the channels
        strides = [*strides[:-1], reaches[0]]
    strides = per_axis(context, strides, rank, 1)
    automatic = per_axis(context, context.attribute("autoPadding", list, []), rank, False)
    lower = per_axis(context, context.attribute("lowerPad", Shape, ()), rank, 0)
    upper = per_axis(context, context.attribute("upperPad", Shape, ()), rank, 0)
    return [
        _window(context, *each, ceil=ceil) for each in zip(sizes, reaches, dilations, strides, automatic, lower, upper)
    ]


def per_axis(context: TranslationContext, values: Sequence[int], rank: int, default: int) -> List[int]:
    """Expand an attribute to one value per axis, row-major.

    values  in CNTK's order: one for all axes, or one for each of the first axes
    """
    if len(values) > rank:
        context.refuse("it has an attribute with values for %d axes, and its input has %d" % (len(values), rank))
    whole = list(values) * rank if len(values) == 1 else [*values, *[default] * (rank - len(values))]
    if not all(isinstance(value, int) for value in whole) or any(not 0 <= value <= _MAX_SIZE for value in whole):
        context.refuse("a stride, a size or a padding is not a number from 0 to %d" % _MAX_SIZE)
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
            context.refuse("its padding depends on a dynamic size, which is not covered")
        return Window(size, reach, 1, (reach - 1) // 2, reach // 2, -1)
    out = (size - 1) // stride + 1
    extra = size - ((out - 1) * stride + 1)
    if ceil and extra:
        context.refuse("the center of its last window is outside its input, where CNTK reads undefined memory")
    # CNTK centers the windows: the elements that are no window's center are divided between both ends.
    before = (reach - 1) // 2 - extra // 2
    return Window(size, reach, stride, before, (out - 1) * stride + reach - size - before, out)


def _out(context: TranslationContext, whole: int, reach: int, stride: int, ceil: bool, size: int) -> int:
    if size < 0:
        if ceil and stride > 1:
            context.refuse("its last window depends on a dynamic size, which is not covered")
        return -1
    if reach > whole:
        context.refuse("its window of %d is larger than its padded input of %d" % (reach, whole))
    return (whole - reach + (stride - 1 if ceil else 0)) // stride + 1


def batched(context: TranslationContext, x: Value) -> Tuple[str, Value]:
    """Return the tensor with exactly one batch axis, which ONNX's convolution and pooling require."""
    name = context.tensor(x)
    if x.lead == 1:
        return name, x
    if x.lead == 0:
        return context.emit("Unsqueeze", name, context.graph.sizes(0)), x
    if context.static_product(x.shape):
        name = context.emit("Reshape", name, context.graph.sizes(-1, *x.shape))
    return name, x


def unbatched(context: TranslationContext, name: str, shape: Sequence[int], x: Value) -> Value:
    """Undo `batched` for a result of this static shape."""
    if x.lead == 1:
        return context.value(name, shape, x.axes)
    if x.lead == 0:
        return context.value(context.emit("Squeeze", name, context.graph.sizes(0)), shape, x.axes)
    ends = context.emit("Shape", context.tensor(x), end=2)
    context.static_product(shape)
    whole = context.emit("Concat", ends, context.graph.sizes(*shape), axis=0)
    return context.value(context.emit("Reshape", name, whole), shape, x.axes)


def cropped(context: TranslationContext, rows: str, spatial: Sequence[Window]) -> str:
    """Slice off the elements that no window reaches, because ONNX does not support negative padding."""
    axes = [axis for axis, each in enumerate(spatial) if each.lower < 0 or each.upper < 0]
    if not axes:
        return rows
    begins = [max(-spatial[axis].lower, 0) for axis in axes]
    ends = [spatial[axis].size - max(-spatial[axis].upper, 0) for axis in axes]
    sizes = context.graph.sizes
    return context.emit("Slice", rows, sizes(*begins), sizes(*ends), sizes(*(axis + 2 for axis in axes)))


def emit_in_float32(context: TranslationContext, op: str, inputs: List[str], **attributes: object) -> str:
    """Emit a node for which ONNX Runtime has only an FP32 kernel on the CPU. FP64 is cast to FP32 and back."""
    if context.dtype != np.float64:
        return context.emit(op, *inputs, **attributes)
    narrow = [context.emit("Cast", name, to=TYPES[np.dtype(np.float32)]) for name in inputs]
    return context.emit("Cast", context.emit(op, *narrow, **attributes), to=TYPES[context.dtype])
