"""Operators that compute shapes, change them, or create tensors from them."""

from typing import Any

from runtimes.dataflow import indexing, shaping
from runtimes.dataflow.arithmetic import elementwise
from runtimes.dataflow.sizes import fresh, over, times
from runtimes.dataflow.values import MAX_CONTENTS, Value, constant, propagate, repeats, unsure
from runtimes.dataflow.walk import Call

from ..operators import rule, spelled


@rule("Shape", "VariableShape")
def shape(call: Call) -> Value:
    return shaping.shape_of(call[0])


@rule("ShapeN")
def shapes(call: Call) -> Any:
    return [shaping.shape_of(value) for value in call.present]


@rule("Size")
def size(call: Call) -> Value:
    dims = call[0].dims
    return constant([], [times(*dims)]) if dims is not None else shaping.shape_of(call[0])._replace(dims=())


@rule("Rank")
def rank(call: Call) -> Value:
    dims = call[0].dims
    return constant([], [len(dims)]) if dims is not None else shaping.shape_of(call[0])._replace(dims=())


@rule("Reshape")
def reshape(call: Call) -> Value:
    return shaping.reshape(call.at, call[0], call[1], zero_copies=False)


@rule("Transpose", "ConjugateTranspose")
def transpose(call: Call) -> Value:
    order = call.list_of("perm", 1)
    if isinstance(order, Value):
        return propagate([order, call[0]])
    return shaping.transpose(call.at, call[0], order)


@rule("ExpandDims")
def expand_dims(call: Call) -> Value:
    axes = call.list_of("dim", 1)
    if isinstance(axes, Value):
        return propagate([axes, call[0]])
    return shaping.unsqueeze(call.at, call[0], axes)


@rule("Squeeze")
def squeeze(call: Call) -> Value:
    return shaping.squeeze(call.at, call[0], call.attribute("squeeze_dims") or None)


@rule("Pack")
def pack(call: Call) -> Value:
    axis = call.attribute("axis", 0)
    parts = [shaping.unsqueeze(call.at, spelled(value), [axis]) for value in call.present]
    return indexing.concat(call.at, parts, axis)


@rule("Unpack")
def unpack(call: Call) -> Any:
    axis, count = call.attribute("axis", 0), call.attribute("num")
    parts = indexing.split(call.at, call[0], axis, [1] * count)
    return [shaping.squeeze(call.at, part, [axis]) if part.dims is not None else part for part in parts]


@rule("BroadcastTo")
def broadcast_to(call: Call) -> Value:
    return shaping.expand(call.at, call[0], call[1])


@rule("BroadcastArgs")
def broadcast_args(call: Call) -> Value:
    one, two = call[0], call[1]
    if one.tainted or two.tainted:
        return propagate([one, two])
    if one.contents is None or two.contents is None or None in one.contents + two.contents:
        known = not (one.has_rows or two.has_rows or repeats(one) or repeats(two))
        return constant([fresh()]) if known else unsure("%s is not followed" % call.at)
    result = elementwise(call.at, constant(one.contents), constant(two.contents))
    return propagate([result]) if result.tainted or result.dims is None else shaping.shape_of(result)


@rule("Tile")
def tile(call: Call) -> Value:
    return shaping.tile(call.at, call[0], call[1])


@rule("Fill")
def fill(call: Call) -> Value:
    result, number = shaping.fill_shape(call[0]), call[1]
    if number.tainted or result.tainted:
        return propagate([result, number])
    if number.has_rows:
        return unsure("%s is not followed" % call.at)
    count = times(*result.dims) if result.dims is not None else None
    if isinstance(count, int) and count <= MAX_CONTENTS and number.contents:
        return constant(result.dims, list(number.contents) * count)
    return unsure("%s repeats the number of rows" % call.at) if number.counts_rows else result


@rule("ZerosLike", "OnesLike")
def like(call: Call) -> Value:
    """The contents are constant; only the shape depends on the input."""
    value = call[0]
    if value.tainted:
        return propagate([value], value.dims)
    number = 0 if call.node.operator == "ZerosLike" else 1
    if value.dims is None:
        return unsure("%s has the shape of a tensor of unknown rank" % call.at) if value.has_rows else constant()
    count = times(*value.dims)
    few = isinstance(count, int) and count <= MAX_CONTENTS
    return constant(value.dims, [number] * count if few and isinstance(count, int) else None)


@rule("Range")
def sequence(call: Call) -> Value:
    return indexing.sequence(call.at, call[0], call[1], call[2])


@rule("LinSpace")
def spaced(call: Call) -> Value:
    wrong = call.not_constant(call.present)
    return wrong if wrong is not None else constant([fresh()])


@rule("InvertPermutation")
def inverted(call: Call) -> Value:
    order = call.list_of("x", 0)
    if isinstance(order, Value):
        return propagate([order]) if order.tainted else order
    return constant([len(order)], [order.index(axis) for axis in range(len(order))])


@rule("OneHot")
def one_hot(call: Call) -> Value:
    indices, depth, axis = call[0], call[1], call.attribute("axis", -1)
    wrong = call.not_constant(call.inputs[1:])
    if wrong is not None:
        return wrong
    added = shaping.unsqueeze(call.at, indices._replace(contents=None), [axis])
    if indices.counts_rows or added.tainted or added.dims is None:
        return unsure("%s is not followed" % call.at, [added]) if indices.counts_rows else added
    axis = axis + len(added.dims) if axis < 0 else axis
    size = depth.contents[0] if depth.contents and isinstance(depth.contents[0], int) else fresh()
    return added._replace(dims=added.dims[:axis] + (size,) + added.dims[axis + 1 :])


@rule("SpaceToBatchND", "BatchToSpaceND")
def blocks_and_rows(call: Call) -> Value:
    """In the first dimension, the position within a block precedes the row."""
    value, block = call[0], call.list_of("block_shape", 1)
    amounts = call.get(2)
    if isinstance(block, Value) or value.tainted or amounts is None:
        return unsure("%s is not followed" % call.at, call.present)
    if amounts.tainted or amounts.has_rows or repeats(amounts) or value.dims is None:
        return unsure("%s is not followed" % call.at, call.present)
    spatial = [fresh() for _ in block]
    dims = list(value.dims[1 + len(block) :])
    count = times(*block)
    if not value.has_rows:
        wrong = repeats(value)
        return unsure("%s is not followed" % call.at) if wrong else constant([fresh()] + spatial + dims)
    if value.axis != 0:
        return unsure("%s has the rows in an unusual dimension" % call.at)
    if call.node.operator == "SpaceToBatchND":
        return Value(tuple([times(value.dims[0], count)] + spatial + dims), 0, times(value.before, count), value.after)
    before = over(value.before, count)
    first = over(value.dims[0], count)
    if before is None or first is None:
        return unsure("%s merges rows" % call.at)
    return Value(tuple([first] + spatial + dims), 0, before, value.after)
