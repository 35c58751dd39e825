"""Convolution, pooling and resizing. The channels are the last dimension."""

from typing import Any, List, Optional, Sequence

from runtimes.dataflow import computing, shaping
from runtimes.dataflow.sizes import ROWS, Size, fresh, times
from runtimes.dataflow.values import Value, constant, propagate, repeats, rows, unsure
from runtimes.dataflow.walk import Call

from ..operators import rule

_SAME = 0


def windows(at: str, value: Value, channels: Any, spatial: Optional[Sequence[Any]], others: Sequence[Value]) -> Value:
    """As `computing.windows`, but with the channels last."""
    rank = value.rank
    if rank is None or rank < 3:
        return unsure("%s works on a tensor of unknown rank" % at, [value])
    first = shaping.transpose(at, value, [0, rank - 1] + list(range(1, rank - 1)))
    result = computing.windows(at, first, channels, spatial, others)
    return result if result.rank != rank else shaping.transpose(at, result, [0] + list(range(2, rank)) + [1])


def _spatial(call: Call, value: Value, kernel: Sequence[Any]) -> Optional[List[Any]]:
    """Return the spatial sizes of the output; None for each that is unknown."""
    axes = "DHW"[-len(kernel) :]
    if value.dims is None or len(value.dims) != len(kernel) + 2:
        return None
    result = []  # type: List[Any]
    for size, window, axis in zip(value.dims[1:-1], kernel, axes):
        stride = call.attribute("Stride" + axis, 1)
        dilation = call.attribute("Dilation%sFactor" % axis, 1) or 1
        same = call.attribute("Padding", -1) == _SAME
        if same and stride == 1:
            result.append(size)
        elif not isinstance(size, int) or not isinstance(window, int) or not stride:
            result.append(None)
        elif same:
            result.append(-(-size // stride))
        else:
            result.append((size - (window - 1) * dilation - 1) // stride + 1)
    return result


@rule("CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D")
def convolution(call: Call) -> Value:
    value, weights = call[0], call[1].dims
    if weights is None:
        return unsure("%s is not followed" % call.at, call.present)
    if call.node.operator == "CONV_2D":
        channels: Size = weights[0]
        kernel: Sequence[Size] = weights[1:3]
    else:
        channels, kernel = weights[-1], weights[:3] if call.node.operator == "CONV_3D" else weights[1:3]
    return windows(call.at, value, channels, _spatial(call, value, kernel), call.present[1:])


@rule("TRANSPOSE_CONV", "CONV_3D_TRANSPOSE")
def transposed_convolution(call: Call) -> Value:
    target, weights, value = call[0], call[1].dims, call[2]
    output_sizes = target.contents or ()
    counts_rows = target.counts_rows and not value.has_rows
    if target.tainted or target.has_rows or counts_rows or weights is None or value.dims is None:
        return unsure("%s is not followed" % call.at, call.present)
    if value.has_rows and (value.axis != 0 or len(output_sizes) != len(value.dims) or output_sizes[0] != value.dims[0]):
        # A fixed first size is the batch for which the file was converted. Some kernels use it, others ignore it.
        return unsure("%s has a shape that is not followed" % call.at, call.present)
    channels = weights[0] if call.node.operator == "TRANSPOSE_CONV" else weights[3]
    return windows(call.at, value, channels, output_sizes[1:-1] or None, [call[1]] + call.present[3:])


@rule("MAX_POOL_2D", "AVERAGE_POOL_2D", "L2_POOL_2D")
def pool(call: Call) -> Value:
    value = call[0]
    if value.rank != 4 or value.axis == 3:
        return unsure("%s is not followed" % call.at, call.present)
    kernel = [call.attribute("FilterHeight"), call.attribute("FilterWidth")]
    return windows(call.at, value, (value.dims or ())[3], _spatial(call, value, kernel), [])


@rule("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
def resize(call: Call) -> Value:
    value = call[0]
    wrong = call.not_constant([call[1]])
    if wrong is not None:
        return wrong
    if value.rank != 4 or value.tainted or value.axis not in (None, 0) or (repeats(value) and not value.has_rows):
        return unsure("%s is not followed" % call.at, call.present)
    spatial = [fresh() if size is None else size for size in call[1].contents or (None, None)]
    dims = value.dims or ()
    return value._replace(dims=dims[:1] + tuple(spatial) + dims[3:], contents=None)


@rule("SPACE_TO_DEPTH", "DEPTH_TO_SPACE")
def blocks(call: Call) -> Value:
    value, size = call[0], call.attribute("BlockSize")
    result = computing.batch_first(call.at, call.present, [4])[0]
    if result.tainted or value.dims is None or not result.has_rows or not size:
        return result
    dims = list(value.dims)
    if not all(isinstance(each, int) for each in dims[1:]):
        return result
    down = call.node.operator == "SPACE_TO_DEPTH"
    sides = [each // size if down else each * size for each in dims[1:3]]
    return rows([dims[0]] + sides + [dims[3] * size * size if down else dims[3] // (size * size)])


@rule("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND")
def space_to_batch(call: Call) -> Value:
    """SPACE_TO_BATCH_ND repeats the batch for each position in a block; BATCH_TO_SPACE_ND undoes that."""
    value, block, cut = call[0], call[1], call[2]
    down = call.node.operator == "SPACE_TO_BATCH_ND"
    wrong = call.not_constant([block, cut])
    if wrong is not None or value.tainted:
        return wrong or propagate(call.present)
    if value.dims is None or block.contents is None or not all(isinstance(each, int) for each in block.contents):
        return unsure("%s is not followed" % call.at, call.present)
    if not value.has_rows:
        return unsure("%s is not followed" % call.at) if repeats(value) else constant()
    count = times(*block.contents)
    if value.axis != 0 or value.after != 1 or value.before != (1 if down else count):
        return unsure("%s has the rows in an unusual dimension" % call.at)
    amounts = cut.contents or ()
    sides: List[Size] = []
    for index, size in enumerate(value.dims[1 : 1 + len(block.contents)]):
        margins = amounts[2 * index : 2 * index + 2]
        if len(margins) == 2 and all(isinstance(each, int) for each in (size, *margins)):
            each = block.contents[index]
            sides.append((size + sum(margins)) // each if down else size * each - sum(margins))
        else:
            sides.append(fresh())
    rest = list(value.dims[1 + len(sides) :])
    return rows([times(count, ROWS) if down else ROWS] + sides + rest, 0, count if down else 1, 1)
