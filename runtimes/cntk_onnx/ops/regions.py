"""Parts of images: pooling of regions of interest, and crops."""

from typing import Callable, Dict

import numpy as np

from runtimes.onnx.builder import TYPES

from ..context import TranslationContext
from ..dictionary import Shape
from ..values import Value
from ..windows import emit_in_float32

_MAX_POOLING = 0
_CORNERS = 4
_MAX_SIZE = 1 << 12


def _roi_pooling(context: TranslationContext) -> Value:
    """The largest values in a grid over each region: [channels, height, width], [regions, 4] → [regions, channels, …].

    A region is (left, top, right, bottom). ONNX's regions have the number of their image in front.
    """
    x, regions = context.take(2)
    if context.attribute("poolingType", int) != _MAX_POOLING:
        context.refuse("it has another pooling than the maximum, which CNTK does not compute either")
    grid = list(context.attribute("roiOutputShape", Shape))[::-1]
    if len(grid) != 2 or not all(0 < size <= _MAX_SIZE for size in grid):
        context.refuse("its output has the shape %s" % grid)
    if len(x.shape) != 3 or len(regions.shape) != 2 or regions.shape[1] != _CORNERS:
        context.refuse("its inputs have the shapes %s and %s" % (list(x.shape), list(regions.shape)))
    if x.lead != 1 or regions.lead != 1:
        context.refuse("its inputs do not have one image and its regions per row, which is not covered")
    count, channels = context.static_product(regions.shape[:1]), context.static_product(x.shape[:1])
    sizes = context.graph.sizes
    rows = context.emit("Squeeze", context.emit("Shape", context.tensor(x), start=0, end=1))
    zero, one = (context.graph.constant(np.array(each, np.int64)) for each in (0, 1))
    images = context.emit("Reshape", context.emit("Range", zero, rows, one), sizes(-1, 1, 1))
    images = context.emit("Tile", context.emit("Cast", images, to=TYPES[context.dtype]), sizes(1, count, 1))
    numbered = context.emit("Concat", images, context.tensor(regions), axis=2)
    numbered = context.emit("Reshape", numbered, sizes(-1, 1 + _CORNERS))
    scale = context.attribute("spatialScale", float)
    pooled = emit_in_float32(
        context, "MaxRoiPool", [context.tensor(x), numbered], pooled_shape=grid, spatial_scale=scale
    )
    shape = (count, channels, *grid)
    return context.value(context.emit("Reshape", pooled, sizes(-1, *shape)), shape, x.axes)


def _crop(context: TranslationContext) -> Value:
    """Cut an image to the height and width of another one, from an offset on."""
    x, like = context.take(2)
    offset = context.attribute("offset", list, [])
    if len(offset) != 2 or not all(isinstance(each, int) and 0 <= each < 1 << 31 for each in offset):
        context.refuse("its offset is found from other functions, which is not covered")
    if len(x.shape) < 2 or len(like.shape) < 2:
        context.refuse("its inputs have the shapes %s and %s" % (list(x.shape), list(like.shape)))
    wanted = like.shape[-2:]
    context.static_product([*x.shape[-2:], *wanted])
    starts = list(offset)[::-1]
    if any(start + size > whole for start, size, whole in zip(starts, wanted, x.shape[-2:])):
        context.refuse("it cuts %s at %s, which is outside of %s" % (list(wanted), starts, list(x.shape[-2:])))
    first = x.lead + len(x.shape) - 2
    sizes = context.graph.sizes
    ends = [start + size for start, size in zip(starts, wanted)]
    name = context.emit("Slice", context.tensor(x), sizes(*starts), sizes(*ends), sizes(first, first + 1))
    return context.value(name, (*x.shape[:-2], *wanted), x.axes)


TRANSLATORS: Dict[str, Callable[[TranslationContext], Value]] = {"ROIPooling": _roi_pooling, "Crop": _crop}
