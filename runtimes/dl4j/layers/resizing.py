"""Layers that upsample, pad, crop or rearrange their input. They have no parameters."""

import math
from typing import List, Sequence, Tuple

import numpy as np

from ..context import TranslationContext, format_sizes, padding_growth
from ..registry import LAYERS, Shape, covers, spatial
from ..settings import Settings
from ..values import Value

_END = (1 << 31) - 1
# By how much one layer may change one size. TranslationContext.value also bounds the product of all sizes.
_MAX_SIZE = 1 << 16


def _before_upsampling(settings: Settings, sizes: Tuple[int, ...]) -> Tuple[int, ...]:
    times = _times(settings, len(sizes))
    return tuple(-1 if size < 0 or size % each else size // each for size, each in zip(sizes, times))


def _before_padding(settings: Settings, sizes: Tuple[int, ...]) -> Tuple[int, ...]:
    before, after = _margins(settings, "padding", len(sizes))
    return tuple(max(size - sum(both), -1) for size, *both in zip(sizes, before, after))


def _before_cropping(settings: Settings, sizes: Tuple[int, ...]) -> Tuple[int, ...]:
    before, after = _margins(settings, "cropping", len(sizes))
    return tuple(size if size < 0 else size + sum(both) for size, *both in zip(sizes, before, after))


def _before_space_to_depth(settings: Settings, output: Shape) -> Shape:
    block = settings.integer("blockSize", minimum=1)

    def larger(settings: Settings, sizes: Tuple[int, ...]) -> Tuple[int, ...]:
        return tuple(size if size < 0 else size * block for size in sizes)

    found = spatial(2, larger, "NHWC")(settings, output)
    channels = 2 if settings.get("dataFormat") == "NHWC" else 0
    return tuple(-1 if axis == channels else size for axis, size in enumerate(found)) if found else None


@covers(
    LAYERS,
    "Upsampling2D",
    source="layers/convolution/upsampling/Upsampling2D",
    evidence="stored",
    infer_input=spatial(2, _before_upsampling, "NHWC"),
)
def upsampling_2d(context: TranslationContext) -> Value:
    last = context.channels_last("format", "NCHW", "NHWC")
    return context.restore_channels(
        _upsampled(context, context.channels_first(context.checked_input(3), last), 2), last
    )


@covers(
    LAYERS,
    "Upsampling1D",
    source="layers/convolution/upsampling/Upsampling1D",
    evidence="computed",
    infer_input=spatial(1, _before_upsampling),
)
def upsampling_1d(context: TranslationContext) -> Value:
    return _upsampled(context, context.checked_input(2), 1)


@covers(
    LAYERS,
    "Upsampling3D",
    source="layers/convolution/upsampling/Upsampling3D",
    evidence="computed",
    infer_input=spatial(3, _before_upsampling, "NDHWC"),
)
def upsampling_3d(context: TranslationContext) -> Value:
    last = context.channels_last("dataFormat", "NCDHW", "NDHWC")
    return context.restore_channels(
        _upsampled(context, context.channels_first(context.checked_input(4), last), 3), last
    )


def _times(settings: Settings, dimensions: int) -> Tuple[int, ...]:
    given = settings.get("size")
    if dimensions == 1 and isinstance(given, list) and given:
        times: Tuple[int, ...] = (settings.integers("size", len(given), minimum=1)[0],)
    else:
        times = settings.integers("size", dimensions, minimum=1)
    if any(each > _MAX_SIZE for each in times):
        settings.refuse(
            "its field 'size' is %s, and only factors up to %d are supported" % (format_sizes(times), _MAX_SIZE)
        )
    return times


def _upsampled(context: TranslationContext, value: Value, dimensions: int) -> Value:
    """Repeat each value along each dimension."""
    times = _times(context.settings, dimensions)
    scales = context.graph.constant(np.array([1, 1, *times], np.float32), "scales")
    name = _resized(context, value.name, scales)
    sizes = [size if size < 0 else size * each for size, each in zip(value.sizes[1:], times)]
    growth = math.prod(each for size, each in zip(value.sizes[1:], times) if size < 0)
    return context.value(name, [value.sizes[0], *sizes], value, growth)


def _resized(context: TranslationContext, name: str, scales: str) -> str:
    attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if context.dtype != np.float64:
        return context.graph.emit("Resize", [name, "", scales], context.kind, **attributes)
    single = context.graph.emit("Cast", [name], "single", to=1)
    resized = context.graph.emit("Resize", [single, "", scales], context.kind, **attributes)
    return context.graph.emit("Cast", [resized], context.kind, to=context.onnx_type)


@covers(
    LAYERS,
    "ZeroPaddingLayer",
    source="layers/convolution/ZeroPaddingLayer",
    evidence="stored",
    infer_input=spatial(2, _before_padding, "NHWC"),
)
def padding_2d(context: TranslationContext) -> Value:
    formats = [context.channels_last(field, "NCHW", "NHWC") for field in ("dataFormat", "cnn2dDataFormat")]
    return _padded(context, 2, any(formats))


@covers(
    LAYERS,
    "ZeroPadding1DLayer",
    source="layers/convolution/ZeroPadding1DLayer",
    evidence="computed",
    infer_input=spatial(1, _before_padding),
)
def padding_1d(context: TranslationContext) -> Value:
    return _padded(context, 1, False)


@covers(
    LAYERS,
    "ZeroPadding3DLayer",
    source="layers/convolution/ZeroPadding3DLayer",
    evidence="computed",
    infer_input=spatial(3, _before_padding),
)
def padding_3d(context: TranslationContext) -> Value:
    return _padded(context, 3, False)


def _padded(context: TranslationContext, dimensions: int, last: bool) -> Value:
    before, after = _margins(context.settings, "padding", dimensions)
    value = context.channels_first(context.checked_input(dimensions + 1), last)
    pads = context.graph.sizes(0, 0, *before, 0, 0, *after)
    sizes = [size if size < 0 else size + sum(both) for size, *both in zip(value.sizes[1:], before, after)]
    growth = math.prod(padding_growth(sum(both)) for size, *both in zip(value.sizes[1:], before, after) if size < 0)
    name = context.emit("Pad", value.name, pads, context.scalar(0.0))
    return context.restore_channels(context.value(name, [value.sizes[0], *sizes], value, growth), last)


@covers(
    LAYERS,
    "Cropping2D",
    source="layers/convolution/Cropping2DLayer",
    evidence="stored",
    infer_input=spatial(2, _before_cropping, "NHWC"),
)
def cropping_2d(context: TranslationContext) -> Value:
    return _cropped(context, 2, context.channels_last("dataFormat", "NCHW", "NHWC"))


@covers(
    LAYERS,
    "Cropping1D",
    source="layers/convolution/Cropping1DLayer",
    evidence="computed",
    infer_input=spatial(1, _before_cropping),
)
def cropping_1d(context: TranslationContext) -> Value:
    return _cropped(context, 1, False)


@covers(
    LAYERS,
    "Cropping3D",
    source="layers/convolution/Cropping3DLayer",
    evidence="computed",
    infer_input=spatial(3, _before_cropping),
)
def cropping_3d(context: TranslationContext) -> Value:
    return _cropped(context, 3, False)


def _cropped(context: TranslationContext, dimensions: int, last: bool) -> Value:
    before, after = _margins(context.settings, "cropping", dimensions)
    value = context.channels_first(context.checked_input(dimensions + 1), last)
    for axis, (start, stop) in enumerate(zip(before, after), 1):
        size = value.sizes[axis]
        if 0 <= size <= start + stop:
            context.refuse("it crops %d of %d" % (start + stop, size))
        if start or stop:
            end = -stop if stop else _END
            value = context.slice(value, axis, start, end, size if size < 0 else size - start - stop)
    return context.restore_channels(value, last)


def _margins(settings: Settings, field: str, dimensions: int) -> Tuple[Sequence[int], Sequence[int]]:
    """Return the numbers before and after each dimension. If the file has only one per dimension, it is for both."""
    given = settings.get(field)
    if isinstance(given, list) and len(given) == 2 * dimensions:
        numbers: List[int] = list(settings.integers(field, 2 * dimensions))
    else:
        numbers = [each for each in settings.integers(field, dimensions) for _ in range(2)]
    if any(number > _MAX_SIZE for number in numbers):
        settings.refuse(
            "its field '%s' is %s, and only sizes up to %d are supported" % (field, format_sizes(numbers), _MAX_SIZE)
        )
    return numbers[::2], numbers[1::2]


@covers(
    LAYERS,
    "SpaceToDepthLayer",
    source="layers/convolution/SpaceToDepth",
    evidence="computed",
    infer_input=_before_space_to_depth,
)
def space_to_depth(context: TranslationContext) -> Value:
    """The positions of a block become channels: all channels of its first position, then of the one to its right."""
    last = context.channels_last("dataFormat", "NCHW", "NHWC")
    value, block = (
        context.channels_first(context.checked_input(3), last),
        context.settings.integer("blockSize", minimum=1),
    )
    if any(size >= 0 and size % block for size in value.sizes[1:]):
        context.refuse("its block of %d does not divide %s" % (block, format_sizes(value.sizes[1:])))
    channels, *sizes = value.sizes
    if block > _MAX_SIZE:
        context.refuse("its block is larger than %d" % _MAX_SIZE)
    sizes = [
        channels if channels < 0 else channels * block * block,
        *(size if size < 0 else size // block for size in sizes),
    ]
    name = context.emit("SpaceToDepth", value.name, blocksize=block)
    return context.restore_channels(context.value(name, sizes, value), last)
