"""Convolutions, pooling and resizing."""

from typing import Any, List, Optional

from runtimes.dataflow import computing
from runtimes.dataflow.shaping import normalize_axis
from runtimes.dataflow.sizes import fresh, has_rows
from runtimes.dataflow.values import Value, constant, unsure
from runtimes.dataflow.walk import Call

from ..operators import rule


@rule("Conv", "ConvInteger", "QLinearConv", "ConvTranspose", "DeformConv")
def convolution(call: Call) -> Value:
    value, weights = call[0], call[3 if call.node.operator == "QLinearConv" else 1]
    others = [other for other in call.present if other is not value]
    if call.node.operator == "DeformConv":
        pairs = [each for each in (value, call.get(2), call.get(4)) if each is not None]
        if len({each.has_rows for each in pairs}) > 1:
            return unsure("%s is not followed" % call.at, call.present)
        wrong = call.not_constant([weights, call.get(3)])
        if wrong is not None:
            return wrong
        return computing.batch_first(call.at, call.present, [value.rank])[0]
    known = [size if isinstance(size, int) else None for size in weights.dims or ()]
    transposed = call.node.operator == "ConvTranspose"
    spatial = None if transposed else _spatial(call, value, call.attribute("kernel_shape") or known[2:])
    return computing.windows(call.at, value, known[0] if known and not transposed else None, spatial, others)


@rule("MaxPool", "AveragePool", "LpPool")
def pool(call: Call) -> Any:
    value = call[0]
    channels = value.dims[1] if value.dims is not None and len(value.dims) > 1 else None
    if value.axis == 1:  # each channel is pooled separately
        return unsure("%s has the rows in an unusual dimension" % call.at)
    spatial = _spatial(call, value, call.attribute("kernel_shape"))
    pooled = computing.windows(call.at, value, channels, spatial)
    # The indices of the maxima count over all rows.
    return [pooled, unsure("%s returns indices that count over all rows" % call.at, [value])]


@rule("MaxUnpool")
def unpool(call: Call) -> Value:
    return unsure("%s is not followed" % call.at, call.present)


@rule("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(call: Call) -> Value:
    rank = call[0].rank
    return (
        computing.reduce(call.at, call[0], range(2, rank or 2), True)
        if rank
        else unsure("%s works on a tensor of unknown rank" % call.at, call.present)
    )


def _spatial(call: Call, value: Value, kernel: Any) -> Optional[List[Any]]:
    """Return the sizes of the result's spatial dimensions, each None if unknown; None if all are."""
    if value.dims is None or not kernel or len(kernel) != len(value.dims) - 2:
        return None
    count = len(kernel)
    strides, dilations = (call.attribute(name) or [1] * count for name in ("strides", "dilations"))
    pads = call.attribute("pads") or [0] * 2 * count
    automatic = call.attribute("auto_pad", "NOTSET")
    result = []  # type: List[Any]
    for index in range(count):
        size, window = value.dims[2 + index], kernel[index]
        if not isinstance(size, int) or window is None:
            same = automatic == "NOTSET" and strides[index] == 1 and window is not None
            around = pads[index] + pads[index + count]
            result.append(size if same and around == (window - 1) * dilations[index] else None)
        elif automatic.startswith("SAME"):
            result.append(-(-size // strides[index]))
        else:
            around = 0 if automatic == "VALID" else pads[index] + pads[index + count]
            room = size + around - ((window - 1) * dilations[index] + 1)
            up = (strides[index] - 1) if call.attribute("ceil_mode", 0) else 0
            result.append(None if up else room // strides[index] + 1)
    return result


@rule("Resize", "Upsample")
def resize(call: Call) -> Value:
    value = call[0]
    old = call.node.operator == "Upsample" or call.version < 11
    scales = call.list_of("scales", 1 if old else 2)
    target = None if old else call.list_of("sizes", 3)
    others = [other for other in call.inputs[1:] if other is not None]
    if value.tainted or any(other.tainted or other.has_rows for other in others):
        return unsure("%s is not followed" % call.at, [value] + others)
    region = None if old else call.get(1)
    if value.counts_rows or (region is not None and region.counts_rows):
        return unsure("%s computes with the number of rows" % call.at)
    if value.dims is None:
        return unsure("%s works on a tensor of unknown rank" % call.at) if value.has_rows else constant()
    rank = len(value.dims)
    axes = [normalize_axis(axis, rank) for axis in call.attribute("axes") or range(rank)]
    factors = (scales if isinstance(scales, list) else None) or [None] * len(axes)
    sizes = call.get(3).contents if target is not None else None  # type: ignore[union-attr]
    sizes = sizes or [None] * len(axes)
    dims = list(value.dims)
    for axis, factor, size in zip(axes, factors, sizes):
        kept = factor == 1 or (size is not None and size == dims[axis])
        if kept:
            continue
        if any(has_rows(each) for each in (dims[axis], factor, size)):
            return unsure("%s resizes the dimension with the rows" % call.at)
        known = isinstance(dims[axis], int) and isinstance(factor, float)
        dims[axis] = size if isinstance(size, int) else int(dims[axis] * factor) if known else fresh()
    return value._replace(dims=tuple(dims), contents=None)


@rule("DepthToSpace", "SpaceToDepth", "Col2Im")
def blocks(call: Call) -> Value:
    rank = len(call[0].dims or ())
    return computing.batch_first(call.at, call.present, [4 if call.node.operator != "Col2Im" else rank + 1])[0]
