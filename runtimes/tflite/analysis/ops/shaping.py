"""Operators that compute shapes, change them, or create tensors from them."""

from typing import Any, List

from runtimes.dataflow import indexing, shaping, sizes
from runtimes.dataflow.sizes import fresh, has_rows, times
from runtimes.dataflow.values import MAX_CONTENTS, Value, constant, propagate, repeats, unsure
from runtimes.dataflow.walk import Call

from ..operators import rule


@rule("SHAPE")
def shape(call: Call) -> Value:
    return shaping.shape_of(call[0])


@rule("RANK")
def rank(call: Call) -> Value:
    return constant([], None if call[0].rank is None else [call[0].rank])


@rule("RESHAPE")
def reshape(call: Call) -> Value:
    target = call.get(1)
    if target is None or (target.dims is not None and len(target.dims) != 1):
        sizes_ = list(call.attribute("NewShape") or [])
        if not sizes_ or 0 in sizes_:
            return unsure("%s has a shape that is not followed" % call.at, call.present)
        target = constant([len(sizes_)], sizes_)
    if target.contents is not None and 0 in target.contents:
        return unsure("%s has a shape that is not followed" % call.at, call.present)
    return shaping.reshape(call.at, call[0], target, zero_copies=False)


@rule("SQUEEZE")
def squeeze(call: Call) -> Value:
    axes = call.attribute("SqueezeDims")
    return shaping.squeeze(call.at, call[0], axes or None)


@rule("EXPAND_DIMS")
def expand_dims(call: Call) -> Value:
    axes = call.list_of("Axis", 1)
    if not isinstance(axes, list):
        return unsure("%s has an axis that is not followed" % call.at, call.present)
    return shaping.unsqueeze(call.at, call[0], axes)


@rule("TRANSPOSE")
def transpose(call: Call) -> Value:
    order = call.list_of("Perm", 1)
    if not isinstance(order, list):
        return unsure("%s has an order that is not followed" % call.at, call.present)
    return shaping.transpose(call.at, call[0], order)


@rule("BROADCAST_TO")
def broadcast_to(call: Call) -> Value:
    return shaping.expand(call.at, call[0], call[1])


@rule("BROADCAST_ARGS")
def broadcast_args(call: Call) -> Value:
    one, two = call[0], call[1]
    if one.tainted or two.tainted:
        return propagate([one, two])
    if one.contents is None or two.contents is None:
        if one.has_rows or two.has_rows or one.counts_rows or two.counts_rows:
            return unsure("%s is not followed" % call.at)
        return constant([fresh()])
    rank = max(len(one.contents), len(two.contents))
    result: List[Any] = []
    for pair in zip(*([1] * (rank - len(each.contents or ())) + list(each.contents or ()) for each in (one, two))):
        size = None if None in pair else sizes.broadcast(pair)
        if size is None and any(map(has_rows, pair)):
            return unsure("%s is not followed" % call.at)
        result.append(size)
    return constant([rank], result)


@rule("TILE")
def tile(call: Call) -> Value:
    return shaping.tile(call.at, call[0], call[1])


@rule("FILL")
def fill(call: Call) -> Value:
    value = call[1]
    result = shaping.fill_shape(call[0])
    if value.tainted or result.tainted:
        return propagate([value, result])
    if value.has_rows or repeats(value):
        return unsure("%s is not followed" % call.at, call.present)
    count = times(*result.dims) if result.dims is not None else None
    if value.contents and isinstance(count, int) and count <= MAX_CONTENTS:
        return constant(result.dims, list(value.contents) * count)
    return result


@rule("RANGE")
def sequence(call: Call) -> Value:
    return indexing.sequence(call.at, call[0], call[1], call[2])


@rule("MATRIX_DIAG")
def diagonal(call: Call) -> Value:
    value = call[0]
    if value.tainted or not value.dims:
        return propagate([value]) if value.tainted else constant()
    if value.axis == len(value.dims) - 1 or (repeats(value) and not value.has_rows):
        return unsure("%s is not followed" % call.at, call.present)
    return value._replace(dims=value.dims + value.dims[-1:], contents=None)
