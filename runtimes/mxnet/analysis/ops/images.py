"""Convolution, pooling, resizing, and operators on boxes."""

from typing import Any, List, Optional, Sequence

from runtimes.dataflow import computing, shaping
from runtimes.dataflow.sizes import ROWS, Size, fresh
from runtimes.dataflow.values import Value, mixed, repeats, rows, unsure
from runtimes.dataflow.walk import Call

from ..file import numbers
from ..operators import rule


def _windows(call: Call, value: Value, channels: Any, spatial: Any, others: Sequence[Value]) -> Value:
    """`spatial` maps the spatial sizes of the input to those of the output."""
    rank, layout = value.rank, call.attribute("layout")
    if rank is None or rank < 3:
        return unsure("%s is not followed" % call.at, call.present)
    last = isinstance(layout, str) and layout.endswith("C")
    if isinstance(layout, str) and (layout[0] != "N" or not (last or layout[1] == "C")):
        return unsure("%s has an unusual layout" % call.at, call.present)
    if last:
        value = shaping.transpose(call.at, value, [0, rank - 1] + list(range(1, rank - 1)))
    if channels == "same":
        channels = (value.dims or ())[1]
    result = computing.windows(call.at, value, channels, spatial((value.dims or ())[2:]), others)
    if not last or result.rank != rank:
        return result
    return shaping.transpose(call.at, result, [0] + list(range(2, rank)) + [1])


def _output_sizes(call: Call, sizes: Sequence[Size]) -> Optional[List[Any]]:
    """Return the spatial sizes of the output, None for each that is unknown; None if the kernel does not match."""
    count = len(sizes)
    kernel = numbers(call.attribute("kernel", ()))
    if len(kernel) != count:
        return None
    strides, dilations = (numbers(call.attribute(name, ())) or (1,) * count for name in ("stride", "dilate"))
    pads, convention = numbers(call.attribute("pad", ())) or (0,) * count, call.attribute("pooling_convention", "valid")
    result = []  # type: List[Any]
    for size, window, stride, dilation, padding in zip(sizes, kernel, strides, dilations, pads):
        if not isinstance(size, int) or convention == "same":
            result.append(None)
            continue
        span = size + 2 * padding - (window - 1) * dilation - 1
        result.append((-(-span // stride) if convention == "full" else span // stride) + 1)
    return result


@rule("Convolution", "Convolution_v1")
def convolution(call: Call) -> Value:
    return _windows(
        call, call[0], call.attribute("num_filter"), lambda sizes: _output_sizes(call, sizes), call.present[1:]
    )


@rule("Deconvolution")
def deconvolution(call: Call) -> Value:
    return _windows(call, call[0], call.attribute("num_filter"), lambda sizes: None, call.present[1:])


@rule("Pooling", "Pooling_v1")
def pool(call: Call) -> Value:
    value = call[0]
    if value.axis not in (None, 0):
        return unsure("%s has the rows in an unusual dimension" % call.at)
    is_global = call.attribute("global_pool", False) in (True, 1)
    return _windows(call, value, "same", lambda s: [1] * len(s) if is_global else _output_sizes(call, s), [])


@rule("_contrib_BilinearResize2D _contrib_AdaptiveAvgPooling2D GridGenerator depth_to_space space_to_depth Crop")
def row_by_row(call: Call) -> Value:
    """The first input is [N, channels, height, width]. A second input, if any, only determines the size."""
    like = call.get(1)
    if like is not None and (like.tainted or like.axis not in (None, 0) or (repeats(like) and not like.has_rows)):
        return unsure("%s has a size that is not followed" % call.at, call.present)
    return _in_pairs(call, call.present[:1], [])


@rule("BilinearSampler SpatialTransformer Correlation")
def two_by_two(call: Call) -> Value:
    return _in_pairs(call, call.present[:2], [])


@rule("_contrib_DeformableConvolution")
def deformable(call: Call) -> Value:
    return _in_pairs(call, call.present[:2], call.present[2:])


@rule("UpSampling")
def upsampling(call: Call) -> Value:
    count = 1 if call.attribute("sample_type") == "bilinear" else len(call.present)
    return _in_pairs(call, call.present[:count], call.present[count:])


def _in_pairs(call: Call, values: List[Value], weights: List[Value]) -> Value:
    """Each row of one value is combined with the same row of the others, without broadcasting."""
    wrong = call.not_constant(weights)
    if wrong is not None:
        return wrong
    if any(value.rank not in (4, 2) for value in values) or len({value.has_rows for value in values}) > 1:
        return unsure("%s is not followed" % call.at, call.present)
    return computing.batch_first(call.at, values, [4])[0]


@rule("_contrib_MultiBoxDetection")
def detections(call: Call) -> Value:
    if call[0].rank != 3 or call[1].rank != 2 or call[0].has_rows != call[1].has_rows or call[2].has_rows:
        return unsure("%s is not followed" % call.at, call.present)
    return computing.batch_first(call.at, call.present, [3])[0]


@rule("_contrib_box_nms")
def suppression(call: Call) -> Any:
    """Each set of boxes (the last two dimensions) is processed separately."""
    value = call[0]
    if value.dims is None or len(value.dims) < 2:
        return [unsure("%s is not followed" % call.at, call.present)] * 2
    found = computing.along(call.at, value, [-2, -1], "compares the boxes of")
    return [found, unsure("%s numbers positions over all rows" % call.at)]


@rule("_contrib_box_decode")
def decode(call: Call) -> Value:
    if call[0].rank != 3 or call[1].has_rows or repeats(call[1]):
        return unsure("%s is not followed" % call.at, call.present)
    return computing.batch_first(call.at, call.present, [3])[0]


@rule("ROIPooling", "_contrib_ROIAlign", "_contrib_PSROIPooling", "_contrib_RROIAlign")
def regions(call: Call) -> Value:
    if call[0].axis == 0:
        return mixed("%s selects regions by the position of an image in the batch" % call.at, call.present)
    return unsure("%s is not followed" % call.at, call.present)


@rule("_image_normalize", "_image_to_tensor", "_image_resize", "_image_crop")
def image(call: Call) -> Value:
    value = call[0]
    if value.rank != 4 or value.axis != 0 or (value.before, value.after) != (1, 1):
        return unsure("%s is not followed" % call.at, call.present)
    return rows([ROWS, fresh(), fresh(), fresh()])
