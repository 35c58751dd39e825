"""Convolution, pooling and resizing, with the channels last or first."""

from typing import Any, List, Optional, Sequence

from runtimes.dataflow import computing, shaping
from runtimes.dataflow.sizes import fresh, has_rows
from runtimes.dataflow.values import Value, as_rows, propagate, repeats, unsure
from runtimes.dataflow.walk import Call

from ..operators import rule


def _channels_last(call: Call) -> bool:
    return not call.attribute("data_format", "NHWC").startswith("NC")


def _windows(call: Call, value: Value, channels: Any, spatial: Any, others: Sequence[Value] = ()) -> Value:
    """As `computing.windows`, which expects the channels first. A constant repeated for each row counts as rows."""
    value = as_rows(value) or value
    rank = value.rank
    if rank is None or rank < 3 or value.tainted or not _channels_last(call):
        return computing.windows(call.at, value, channels, spatial, others)
    channels_first = shaping.transpose(call.at, value, [0, rank - 1, *range(1, rank - 1)])
    result = computing.windows(call.at, channels_first, channels, spatial, others)
    return shaping.transpose(call.at, result, [0, *range(2, rank), 1])


def _spatial(call: Call, value: Value, kernel: Sequence[Any]) -> Optional[List[Any]]:
    """Return the spatial sizes of the output, given those of the kernel. None if they are unknown."""
    if value.dims is None or len(value.dims) != len(kernel) + 2:
        return None
    first, padding = 1 if _channels_last(call) else 2, call.attribute("padding")
    strides = call.attribute("strides")
    dilations = call.attribute("dilations") or [1] * len(value.dims)
    result = []  # type: List[Any]
    for index, window in enumerate(kernel):
        axis = first + index
        size, stride = value.dims[axis], strides[axis]
        if padding == "SAME" and stride == 1:
            result.append(size)
        elif not isinstance(size, int) or not isinstance(window, int) or padding not in ("SAME", "VALID"):
            result.append(None)
        elif padding == "SAME":
            result.append(-(-size // stride))
        else:
            result.append(max((size - (window - 1) * dilations[axis] - 1) // stride + 1, 0))
    return result


@rule("Conv2D", "Conv3D", "DepthwiseConv2dNative", "Dilation2D")
def convolution(call: Call) -> Value:
    value, weights = call[0], call[1]
    known = [size if isinstance(size, int) else None for size in weights.dims or ()]
    if call.node.operator == "Dilation2D":
        return _windows(call, value, (known or [None])[-1], None, [weights])
    channels = known[-1] if known else None
    if call.node.operator.startswith("Depthwise"):
        channels = known[-1] * known[-2] if known and known[-1] and known[-2] else None  # type: ignore[operator]
    elif value.has_rows and value.axis == ((value.rank or 0) - 1 if _channels_last(call) else 1):
        return unsure("%s has the rows among the channels" % call.at)
    return _windows(call, value, channels, _spatial(call, value, known[:-2]), [weights])


@rule("Conv2DBackpropInput", "Conv3DBackpropInputV2")
def transposed_convolution(call: Call) -> Value:
    sizes, weights, value = call[0], call[1], call[2]
    if sizes.tainted or sizes.has_rows or (sizes.counts_rows and not value.has_rows):
        return unsure("%s has a size that is not followed" % call.at, call.present)
    result = _windows(call, value, None, None, [weights])
    if result.tainted or result.dims is None or not result.has_rows:
        return result
    output_sizes = sizes.contents or ()
    # The first size must be the number of rows, as it usually is, and the others must not depend on it.
    if (
        len(output_sizes) != len(result.dims)
        or output_sizes[0] != result.dims[0]
        or any(map(has_rows, output_sizes[1:]))
    ):
        return unsure("%s has a size that is not followed" % call.at)
    spatial = [fresh() if size is None else size for size in output_sizes[1:]]
    return result._replace(dims=(result.dims[0], *spatial))


@rule("AvgPool", "MaxPool", "AvgPool3D", "MaxPool3D", "MaxPoolV2", "MaxPoolWithArgmax")
def pool(call: Call) -> Any:
    value, operator = call[0], call.node.operator
    count = len(call.node.outputs)
    kernel, rank = call.attribute("ksize"), value.rank
    others = call.present[1:]
    if rank is None or value.tainted:
        return [propagate([value]) if value.tainted else unsure("%s is not followed" % call.at)] * count
    first, channel = (1, rank - 1) if _channels_last(call) else (2, 1)
    only_spatial = kernel is not None and (kernel[0], kernel[channel]) == (1, 1)
    if not only_spatial or value.axis == channel or any(other.has_rows or repeats(other) for other in others):
        return [unsure("%s is not followed" % call.at, call.present)] * count
    channels = value.dims[channel] if value.dims is not None else None
    result = _windows(call, value, channels, _spatial(call, value, kernel[first : first + rank - 2]))
    numbered = operator == "MaxPoolWithArgmax" and call.attribute("include_batch_in_index")
    return [result] + [unsure("%s numbers positions over all rows" % call.at) if numbered else result] * (count - 1)


@rule("ResizeArea", "ResizeBicubic", "ResizeBilinear", "ResizeNearestNeighbor", "ScaleAndTranslate", "AdjustContrastv2")
def resize(call: Call) -> Value:
    value, size = call[0], call[1]
    if any(each.tainted for each in call.present):
        return propagate(call.present)
    if any(each.has_rows or repeats(each) for each in call.present[1:]):
        return unsure("%s has parameters that depend on the inputs" % call.at)
    if value.dims is None or len(value.dims) != 4:
        return unsure("%s is not followed" % call.at, call.present)
    if call.node.operator == "AdjustContrastv2":
        return computing.along(call.at, value, [1, 2], "computes the mean over")
    if value.axis in (1, 2) or any(has_rows(value.dims[axis]) for axis in (1, 2)):
        return unsure("%s resizes the dimension with the rows" % call.at)
    known = size.contents if size.contents and len(size.contents) == 2 else (None, None)
    spatial = [fresh() if each is None else each for each in known]
    return value._replace(dims=(value.dims[0], *spatial, value.dims[3]), contents=None)


@rule("RGBToHSV", "HSVToRGB", "AdjustHue", "AdjustSaturation")
def colors(call: Call) -> Value:
    wrong = call.not_constant(call.inputs[1:])
    return wrong if wrong is not None else computing.along(call.at, call[0], [-1], "works along")


@rule("DepthToSpace", "SpaceToDepth", "ExtractImagePatches")
def blocks(call: Call) -> Value:
    return computing.batch_first(call.at, call.present, [call[0].rank])[0]


@rule("CombinedNonMaxSuppression")
def combined(call: Call) -> Any:
    """Selects boxes in each image separately."""
    boxes, scores = call[0], call[1]
    if boxes.rank != 4 or scores.rank != 3 or not (boxes.has_rows and scores.has_rows):
        return [unsure("%s is not followed" % call.at, call.present)] * 4
    return computing.batch_first(call.at, call.present, [3, 2, 2, 1])


@rule("ImageProjectiveTransformV2", "ImageProjectiveTransformV3")
def projected(call: Call) -> Value:
    value, transforms = call[0], call[1]
    wrong = call.not_constant(call.inputs[2:])
    if wrong is not None:
        return wrong
    if not transforms.has_rows and (transforms.dims or (None,))[0] != 1:
        return unsure("%s is not followed" % call.at, call.present)
    if value.rank != 4 or not value.has_rows:
        return unsure("%s is not followed" % call.at, call.present)
    return computing.batch_first(call.at, call.present, [4])[0]
