"""Convolutions, pooling and other operators on images, signals and volumes."""

from typing import Any, List, Optional

from runtimes.dataflow import computing, shaping
from runtimes.dataflow.sizes import fresh, has_rows, times
from runtimes.dataflow.values import Value, constant, mixed, propagate, repeats, unsure
from runtimes.dataflow.walk import Call

from ..operators import Arguments, NotFollowed, rule


def _each(numbers: Optional[List[Any]], count: int, otherwise: Any) -> List[Any]:
    found = numbers or [otherwise] * count
    return list(found) * count if len(found) == 1 else list(found)


def _windows(size: Any, window: Any, stride: Any, pad: Any, dilation: Any, up: bool) -> Any:
    """Return the number of windows along one dimension, or None if it is unknown."""
    if not all(isinstance(number, int) for number in (size, window, stride, pad, dilation)) or stride < 1 or up:
        return None
    return max((size + 2 * pad - dilation * (window - 1) - 1) // stride + 1, 0)


@rule(
    """conv1d conv2d conv3d _convolution convolution conv_transpose1d conv_transpose2d conv_transpose3d
    mkldnn_convolution"""
)
def convolution(call: Call) -> Value:
    given = Arguments(call)
    value, weight = given["input" if "input" in given else "self"], given["weight"]
    if value.dims is None or weight.dims is None:
        raise NotFollowed("weight")
    count, name = len(weight.dims) - 2, call.node.operator
    transposed = name.startswith("conv_transpose") or bool(given.number("transposed", False))
    channels, spatial = weight.dims[0], None  # type: Any
    if transposed:
        channels = times(weight.dims[1], given.number("groups", 1))
    if len(value.dims) == count + 1:
        value = shaping.unsqueeze(call.at, value, [0])
    elif len(value.dims) != count + 2:
        raise NotFollowed("input")
    padding = given.get("padding")
    if not transposed and (padding is None or padding.contents is None or not isinstance(padding.contents[0], str)):
        stride, dilation = (_each(given.numbers(each), count, 1) for each in ("stride", "dilation"))
        around = _each(given.numbers("padding"), count, 0)
        spatial = [
            _windows(
                value.dims[index + 2], weight.dims[index + 2], stride[index], around[index], dilation[index], False
            )
            for index in range(count)
        ]
    elif transposed:
        spatial = _transposed_sizes(given, value, weight, count)
    elif given.number("padding") == "same":
        spatial = list(value.dims[2:])
    found = computing.windows(call.at, value, channels, spatial, [weight, *given.of("bias")])
    unbatched = len((given.get("input") or given["self"]).dims or ()) == count + 1
    return shaping.squeeze(call.at, found, [0]) if unbatched and not found.tainted else found


def _transposed_sizes(given: Arguments, value: Value, weight: Value, count: int) -> List[Any]:
    stride, dilation = (_each(given.numbers(each), count, 1) for each in ("stride", "dilation"))
    around, more = (_each(given.numbers(each), count, 0) for each in ("padding", "output_padding"))
    result = []
    for index in range(count):
        size, window = (value.dims or ())[index + 2], (weight.dims or ())[index + 2]
        known = isinstance(size, int) and isinstance(window, int)
        whole = dilation[index] * (window - 1) + more[index] + 1 if known else 0
        result.append((size - 1) * stride[index] - 2 * around[index] + whole if known else None)
    return result


@rule(
    """max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d max_pool1d_with_indices
    max_pool2d_with_indices max_pool3d_with_indices lp_pool1d lp_pool2d quantized::max_pool2d mkldnn_max_pool2d"""
)
def pool(call: Call) -> Any:
    given, value = Arguments(call), call[0]
    count = int(next(character for character in call.node.operator if character.isdigit()))
    window = _each(given.numbers("kernel_size"), count, 1)
    stride = _each(given.numbers("stride") or window, count, 1)
    around, dilation = _each(given.numbers("padding"), count, 0), _each(given.numbers("dilation"), count, 1)
    up = bool(given.number("ceil_mode", False))

    def size_of(index: int, size: Any) -> Any:
        return _windows(size, window[index], stride[index], around[index], dilation[index], up)

    return [_along_last(call, value, count, size_of)] * len(call.node.outputs)


@rule(
    """adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
    adaptive_max_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d"""
)
def adaptive_pool(call: Call) -> Any:
    target = Arguments(call).get("output_size")
    count = int(next(character for character in call.node.operator if character.isdigit()))
    if target is None or target.tainted or target.counts_rows:
        raise NotFollowed("output_size")
    sizes = target.contents if target.contents is not None else [None] * count
    sizes = list(sizes) * count if len(sizes) == 1 else sizes
    return [_along_last(call, call[0], count, lambda index, size: sizes[index])] * len(call.node.outputs)


def _along_last(call: Call, value: Value, count: int, size_of: Any) -> Value:
    """Compute each value from a window along the last `count` dimensions."""
    if value.tainted or value.dims is None:
        return propagate([value]) if value.tainted else constant()
    if len(value.dims) < count + 1:
        raise NotFollowed("input")
    first = len(value.dims) - count
    if any(has_rows(size) for size in value.dims[first:]) or value.counts_rows:
        return (mixed if value.has_rows else unsure)("%s moves windows over the rows" % call.at)
    sizes = [size_of(index, size) for index, size in enumerate(value.dims[first:])]
    if any(has_rows(size) for size in sizes):
        return unsure("%s has one window for each row" % call.at)
    dims = value.dims[:first] + tuple(fresh() if size is None else size for size in sizes)
    return value._replace(dims=dims, contents=None)


@rule(
    """upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_bilinear2d upsample_bicubic2d
    upsample_trilinear3d upsample_linear1d _upsample_nearest_exact1d _upsample_nearest_exact2d
    _upsample_bilinear2d_aa _upsample_bicubic2d_aa __interpolate __upsample __upsample_bilinear __upsample_nearest"""
)
def upsample(call: Call) -> Value:
    given, value = Arguments(call), call[0]
    if value.dims is None or value.tainted:
        raise NotFollowed("input")
    count = len(value.dims) - 2
    target = given.get("output_size") or given.get("size")
    if target is not None and (target.tainted or target.counts_rows):
        raise NotFollowed("output_size")
    for other in given.of("scale_factors scale_factor scales scales_h scales_w scales_d"):
        if other.tainted or other.has_rows or repeats(other):
            raise NotFollowed("scale_factors")
    sizes = list(target.contents) if target is not None and target.contents is not None else [None] * count
    sizes = sizes * count if len(sizes) == 1 else sizes
    factors = given.get("scale_factors") or given.get("scale_factor")
    if target is None and factors is not None and factors.contents is not None:
        each = list(factors.contents) * (count if len(factors.contents) == 1 else 1)
        sizes = [
            int(size * factor) if isinstance(size, int) and isinstance(factor, (int, float)) else None
            for size, factor in zip(value.dims[2:], each)
        ]
    return _along_last(call, value, count, lambda index, size: sizes[index])


@rule("im2col col2im")
def columns(call: Call) -> Value:
    return computing.batch_first(call.at, [call[0]], [3 if call.node.operator == "im2col" else 4])[0]


@rule("grid_sampler grid_sampler_2d grid_sampler_3d")
def grid_sampler(call: Call) -> Value:
    if call[0].has_rows != call[1].has_rows:
        return unsure("%s is not followed" % call.at, call.present)
    return computing.batch_first(call.at, [call[0], call[1]], [call[0].rank])[0]


@rule("torchvision::roi_align torchvision::roi_pool torchvision::ps_roi_align")
def regions(call: Call) -> Any:
    count = len(call.node.outputs)
    if call[0].tainted or call[1].tainted:
        return [propagate(call.present)] * count
    if call[0].has_rows and call[0].axis == 0:
        return [mixed("%s takes regions by the index of an image in the batch" % call.at)] * count
    return [unsure("%s is not followed" % call.at, call.present)] * count


@rule("local_response_norm")
def response_norm(call: Call) -> Value:
    return computing.along(call.at, call[0], range(1, call[0].rank or 2), "normalizes over")


@rule("quantized::conv1d quantized::conv2d quantized::conv3d quantized::conv1d_relu quantized::conv2d_relu")
@rule("quantized::conv3d_relu")
def packed_convolution(call: Call) -> Value:
    wrong = call.not_constant(call.inputs[1:])
    return wrong if wrong is not None else computing.windows(call.at, call[0], None, None)
