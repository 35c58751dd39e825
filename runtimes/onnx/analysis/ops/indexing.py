"""Operators that slice, gather, scatter, join and pad."""

from typing import Any, List, Optional, Tuple

from runtimes.dataflow import computing, indexing, orders, shaping
from runtimes.dataflow.shaping import normalize_axis
from runtimes.dataflow.sizes import Size, fresh, over
from runtimes.dataflow.values import Value, constant, mixed, propagate, repeats, unsure, without_contents
from runtimes.dataflow.walk import Call

from ..operators import rule


@rule("Concat")
def concat(call: Call) -> Value:
    return indexing.concat(call.at, call.present, call.attribute("axis", 0))


@rule("Split")
def split(call: Call) -> Any:
    parts = call.list_of("split", 1)
    count = len(call.node.outputs)
    if isinstance(parts, Value):
        return [propagate([parts, call[0]])] * count
    axis = call.attribute("axis", 0)
    if not parts:
        dims = call[0].dims
        whole = dims[normalize_axis(axis, len(dims))] if dims else None
        parts = _equal_parts(whole, call.attribute("num_outputs") or count)
    return indexing.split(call.at, call[0], axis, parts[:count] if len(parts) >= count else [None] * count)


def _equal_parts(whole: Any, count: int) -> List[Optional[Size]]:
    share = over(whole, count) if whole is not None else None
    if share is None and isinstance(whole, int):
        each = -(-whole // count)
        return [each] * (count - 1) + [whole - each * (count - 1)]
    return [share] * count


@rule("Slice")
def take_slice(call: Call) -> Value:
    operands = [call.get(index) for index in range(1, 5)]
    if call.version < 10:
        attributes = [call.attribute(name) for name in ("starts", "ends", "axes")]
        operands = [None if each is None else constant([len(each)], each) for each in attributes] + [None]
    starts, ends, axes, steps = operands
    if starts is None or ends is None:
        raise ValueError("a slice without bounds")
    bounds = [bound for bound in operands if bound is not None]
    value = call[0]
    if any(bound.tainted for bound in bounds) or value.tainted:
        return propagate([value] + bounds)
    if any(bound.has_rows for bound in bounds):
        return mixed("%s has bounds that depend on values of the batch" % call.at)
    count = (starts.dims or ends.dims or (None,))[0]
    if not isinstance(count, int) or (axes is not None and axes.contents is None):
        return unsure("%s has axes that are not followed" % call.at)
    for index, axis in enumerate((range(count) if axes is None else axes.contents) or ()):
        start, end = (bound.contents[index] if bound.contents else None for bound in (starts, ends))
        step = 1 if steps is None else steps.contents[index] if steps.contents else None
        value = indexing.take_slice(call.at, value, axis, start, end, step)
    return value


@rule("Gather")
def gather(call: Call) -> Value:
    return indexing.gather(call.at, call[0], call[1], call.attribute("axis", 0))


@rule("GatherElements")
def gather_elements(call: Call) -> Value:
    return indexing.gather_elements(call.at, call[0], call[1], call.attribute("axis", 0))


@rule("GatherND")
def gather_nd(call: Call) -> Value:
    return indexing.gather_nd(call.at, call[0], call[1], call.attribute("batch_dims", 0))


@rule("ScatterElements", "Scatter")
def scatter_elements(call: Call) -> Value:
    return indexing.scatter_elements(call.at, call[0], call[1], call[2], call.attribute("axis", 0))


@rule("ScatterND")
def scatter_nd(call: Call) -> Value:
    if any(value.has_rows or value.tainted or repeats(value) for value in call.present):
        # Unknown, and not mixing: exporters write masks with indices from NonZero, which may keep the rows independent.
        return unsure("%s writes values in a way that is not followed" % call.at)
    return constant(call[0].dims)


@rule("Pad")
def pad(call: Call) -> Value:
    amounts, axes = call.list_of("pads", 1), call.list_of("axes", 3)
    if isinstance(amounts, Value) or isinstance(axes, Value):
        known = call.get(1)
        if known is not None and not (known.tainted or known.has_rows or repeats(known)) and not axes:
            return indexing.pad(call.at, call[0], _pairs(known))
        return propagate([each for each in (amounts, axes, call[0]) if isinstance(each, Value)])
    value = call[0]
    if value.dims is None:
        return indexing.pad(call.at, value, None)
    rank, count = len(value.dims), len(amounts) // 2
    pairs = [(0, 0)] * rank  # type: List[Tuple[Any, Any]]
    for index, axis in enumerate(range(rank) if axes is None else axes):
        pairs[normalize_axis(axis, rank)] = (amounts[index], amounts[index + count])
    return indexing.pad(call.at, value, pairs)


def _pairs(amounts: Value) -> Optional[List[Tuple[Any, Any]]]:
    """Return the amounts, some of which are unknown, as pairs for each dimension."""
    if amounts.contents is None:
        return None
    half = len(amounts.contents) // 2
    return list(zip(amounts.contents[:half], amounts.contents[half:]))


@rule("OneHot")
def one_hot(call: Call) -> Value:
    indices, depth = call[0], call[1]
    if depth.tainted or depth.has_rows or repeats(depth):
        return unsure("%s has a depth that is not followed" % call.at, call.present)
    added = shaping.unsqueeze(call.at, without_contents(call.at, indices), [call.attribute("axis", -1)])
    if added.tainted or added.dims is None:
        return added
    axis = normalize_axis(call.attribute("axis", -1), len(added.dims))
    number = depth.contents[0] if depth.contents and isinstance(depth.contents[0], int) else fresh()
    return added._replace(dims=added.dims[:axis] + (number,) + added.dims[axis + 1 :])


@rule("CenterCropPad")
def crop(call: Call) -> Value:
    value, axes = call[0], call.attribute("axes")
    if value.dims is None or call[1].tainted or call[1].has_rows or repeats(call[1]):
        return unsure("%s is not followed" % call.at, call.present)
    return computing.along(call.at, value, range(len(value.dims)) if axes is None else axes, "cuts", None)


@rule("Trilu")
def triangle(call: Call) -> Value:
    return (
        computing.along(call.at, call[0], [-2, -1], "selects by position among")
        if len(call.present) == 1
        else (
            propagate(call.present)
            if any(each.tainted for each in call.present)
            else computing.along(call.at, call[0], [-2, -1], "selects by position among")
            if not (call[1].has_rows or repeats(call[1]))
            else unsure("%s is not followed" % call.at)
        )
    )


@rule("ReverseSequence")
def reverse_sequence(call: Call) -> Value:
    time, batch = call.attribute("time_axis", 0), call.attribute("batch_axis", 1)
    return orders.reverse_sequence(call.at, call[0], call[1], time, batch)


@rule("Compress")
def compress(call: Call) -> Value:
    value, kept, axis = call[0], call[1], call.attribute("axis")
    if value.tainted or kept.tainted:
        return propagate([value, kept])
    if kept.has_rows or axis is None and value.has_rows:
        return mixed("%s keeps a number of elements that depends on values" % call.at)
    if repeats(kept) or repeats(value) or axis is None:
        return (
            constant([fresh()]) if not repeats(kept) and not repeats(value) else unsure("%s is not followed" % call.at)
        )
    return computing.along(call.at, value, [axis], "takes some of", None)
