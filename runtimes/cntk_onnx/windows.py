"""What convolution and pooling share: how CNTK places a window over an axis."""

from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

from runtimes.onnx.graph import TYPES

from .dictionary import Shape
from .site import Site
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
    site: Site, sizes: Sequence[int], reaches: Sequence[int], dilations: Sequence[int], ceil: bool = False
) -> List[Window]:
    """One for each axis, row-major, as the function's attributes place them. Refuses a window beyond its axis."""
    rank = len(sizes)
    strides = spread(site, site.attribute("strides", Shape, ()), rank, 1)
    automatic = spread(site, site.attribute("autoPadding", list, []), rank, False)
    lower = spread(site, site.attribute("lowerPad", Shape, ()), rank, 0)
    upper = spread(site, site.attribute("upperPad", Shape, ()), rank, 0)
    return [
        _window(site, *each, ceil=ceil) for each in zip(sizes, reaches, dilations, strides, automatic, lower, upper)
    ]


def spread(site: Site, told: Sequence[int], rank: int, default: int) -> List[int]:
    """An attribute of CNTK's (its order; one value for all axes, or fewer than there are) for each axis, row-major."""
    if len(told) > rank:
        site.refuse("it tells %d axes where its input has %d" % (len(told), rank))
    whole = list(told) * rank if len(told) == 1 else [*told, *[default] * (rank - len(told))]
    if not all(isinstance(value, int) for value in whole) or any(not 0 <= value <= _MAX_SIZE for value in whole):
        site.refuse("a stride, a size or a padding is no number")
    return whole[::-1]


def _window(
    site: Site, size: int, kernel: int, dilation: int, stride: int, automatic: int, lower: int, upper: int, ceil: bool
) -> Window:
    reach = (kernel - 1) * dilation + 1
    if kernel < 1 or stride < 1 or dilation < 1:
        site.refuse("its window or its stride has a size of 0")
    if not automatic:
        return Window(size, reach, stride, lower, upper, _out(site, size + lower + upper, reach, stride, ceil, size))
    if size < 0:
        if stride > 1:
            site.refuse("its padding depends on a size that only a request tells")
        return Window(size, reach, 1, (reach - 1) // 2, reach // 2, -1)
    out = (size - 1) // stride + 1
    extra = size - ((out - 1) * stride + 1)
    if ceil and extra:
        site.refuse("its last window's middle lies beyond its input, where CNTK reads whatever is there")
    # CNTK centres the windows: what no window's middle stands on is shared between the two ends.
    before = (reach - 1) // 2 - extra // 2
    return Window(size, reach, stride, before, (out - 1) * stride + reach - size - before, out)


def _out(site: Site, whole: int, reach: int, stride: int, ceil: bool, size: int) -> int:
    if size < 0:
        if ceil and stride > 1:
            site.refuse("its last window depends on a size that only a request tells")
        return -1
    if reach > whole:
        site.refuse("its window of %d is larger than its padded input of %d" % (reach, whole))
    return (whole - reach + (stride - 1 if ceil else 0)) // stride + 1


def batched(site: Site, x: Value) -> Tuple[str, Value]:
    """The tensor with exactly one leading axis, as ONNX's convolutions and pools want it."""
    name = site.name(x)
    if x.lead == 1:
        return name, x
    if x.lead == 0:
        return site.emit("Unsqueeze", name, site.graph.sizes(0)), x
    merged = site.emit("Reshape", name, site.graph.sizes(-1, *x.shape)) if site.definite(x.shape) else name
    return merged, x


def unbatched(site: Site, name: str, shape: Sequence[int], x: Value) -> Value:
    """The other way round, for a result of this static shape."""
    if x.lead == 1:
        return site.value(name, shape, x.axes)
    if x.lead == 0:
        return site.value(site.emit("Squeeze", name, site.graph.sizes(0)), shape, x.axes)
    ends = site.emit("Shape", site.name(x), end=2)
    site.definite(shape)
    whole = site.emit("Concat", ends, site.graph.sizes(*shape), axis=0)
    return site.value(site.emit("Reshape", name, whole), shape, x.axes)


def cropped(site: Site, rows: str, spatial: Sequence[Window]) -> str:
    """Without what no window reaches, which ONNX cannot say by a padding below zero."""
    axes = [place for place, each in enumerate(spatial) if each.lower < 0 or each.upper < 0]
    if not axes:
        return rows
    begins = [max(-spatial[place].lower, 0) for place in axes]
    ends = [spatial[place].size - max(-spatial[place].upper, 0) for place in axes]
    sizes = site.graph.sizes
    return site.emit("Slice", rows, sizes(*begins), sizes(*ends), sizes(*(place + 2 for place in axes)))


def wide(site: Site, op: str, inputs: List[str], **attributes: object) -> str:
    """ONNX Runtime computes these in float32 only, on the CPU: float64 goes through it."""
    if site.dtype != np.float64:
        return site.emit(op, *inputs, **attributes)
    narrow = [site.emit("Cast", name, to=TYPES[np.dtype(np.float32)]) for name in inputs]
    return site.emit("Cast", site.emit(op, *narrow, **attributes), to=TYPES[site.dtype])
