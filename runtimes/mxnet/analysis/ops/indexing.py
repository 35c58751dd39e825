"""Operators that slice, gather, concatenate or pad, and those on sequences with lengths."""

from typing import Any, List

from runtimes.dataflow import computing, indexing, shaping
from runtimes.dataflow.shaping import normalize_axis
from runtimes.dataflow.sizes import has_rows, over
from runtimes.dataflow.values import Value, as_rows, constant, mixed, propagate, repeats, rows, unsure, without_contents
from runtimes.dataflow.walk import Call

from ..file import numbers
from ..operators import rule

_END = (1 << 31) - 1


@rule("Concat", "concat")
def concat(call: Call) -> Value:
    return indexing.concat(call.at, call.present, call.attribute("dim", 1))


@rule("stack")
def stack(call: Call) -> Value:
    axis = call.attribute("axis", 0)
    return indexing.concat(call.at, [shaping.unsqueeze(call.at, each, [axis]) for each in call.present], axis)


@rule("SliceChannel", "split")
def split(call: Call) -> Any:
    value, axis, count = call[0], call.attribute("axis", 1), len(call.node.outputs)
    if value.dims is None or call.attribute("num_outputs") != count:
        return [unsure("%s is not followed" % call.at, call.present)] * count
    share = over(value.dims[normalize_axis(axis, len(value.dims))], count)
    parts = indexing.split(call.at, value, axis, [share] * count)
    if call.attribute("squeeze_axis", False) in (True, 1):
        if share != 1:
            return [unsure("%s is not followed" % call.at, call.present)] * count
        return [shaping.squeeze(call.at, part, [axis]) for part in parts]
    return parts


@rule("_split_v2")
def split_v2(call: Call) -> Any:
    value, axis, count = call[0], call.attribute("axis", 1), len(call.node.outputs)
    sections, starts = call.attribute("sections", 0), numbers(call.attribute("indices", ()))
    if value.dims is None or call.attribute("squeeze_axis", False) in (True, 1):
        return [unsure("%s is not followed" % call.at, call.present)] * count
    size = value.dims[normalize_axis(axis, len(value.dims))]
    if sections:
        return indexing.split(call.at, value, axis, [over(size, sections)] * count)
    bounds = list(starts) + [size if isinstance(size, int) else None]
    parts = [None if None in pair else pair[1] - pair[0] for pair in zip(bounds, bounds[1:])]
    return indexing.split(call.at, value, axis, parts if len(parts) == count else [None] * count)


@rule("slice")
def take_slice(call: Call) -> Value:
    value = call[0]
    begins, ends, steps = (numbers(call.attribute(name, ())) for name in ("begin", "end", "step"))
    for axis, (begin, end) in enumerate(zip(begins, ends)):
        step = steps[axis] if axis < len(steps) and steps[axis] is not None else 1
        begin = (0 if step > 0 else _END) if begin is None else begin
        end = (_END if step > 0 else -_END) if end is None else end
        value = indexing.take_slice(call.at, value, axis, begin, end, step)
        if value.dims is None:
            return value
    return value


@rule("slice_axis")
def slice_axis(call: Call) -> Value:
    end = call.attribute("end")
    return indexing.take_slice(
        call.at, call[0], call.attribute("axis"), call.attribute("begin", 0), _END if end is None else end
    )


@rule("slice_like")
def slice_like(call: Call) -> Value:
    value, like = call[0], call[1]
    if like.tainted or like.dims is None or value.dims is None:
        return unsure("%s is not followed" % call.at, call.present)
    for axis in numbers(call.attribute("axes")) or range(len(value.dims)):
        axis = normalize_axis(axis, len(value.dims))
        if has_rows(like.dims[axis]) and not value.has_rows:
            return unsure("%s slices at the number of rows" % call.at)
        value = indexing.take_slice(call.at, value, axis, 0, like.dims[axis])
        if value.dims is None:
            return value
    return value


@rule("Embedding")
def embedding(call: Call) -> Value:
    return indexing.gather(call.at, call[1], call[0], 0)


@rule("take")
def take(call: Call) -> Value:
    return indexing.gather(call.at, call[0], call[1], call.attribute("axis", 0))


@rule("pick", "choose_element_0index")
def pick(call: Call) -> Value:
    """Select one element along an axis for each position of the other axes."""
    value, index, axis = call[0], call[1], call.attribute("axis", -1)
    if axis is None or value.dims is None or index.dims is None:
        return unsure("%s is not followed" % call.at, call.present)
    if len(index.dims) == len(value.dims) - 1:
        index = shaping.unsqueeze(call.at, index, [normalize_axis(axis, len(value.dims))])
    found = indexing.gather_elements(call.at, value, index, axis)
    return found if call.attribute("keepdims", False) in (True, 1) else shaping.squeeze(call.at, found, [axis])


@rule("batch_take")
def batch_take(call: Call) -> Value:
    value, index = call[0], shaping.unsqueeze(call.at, call[1], [1])
    return shaping.squeeze(call.at, indexing.gather_elements(call.at, value, index, 1), [1])


@rule("gather_nd")
def gather_nd(call: Call) -> Value:
    """The coordinates are along the first dimension of the indices."""
    if call[1].rank is None:
        return unsure("%s is not followed" % call.at, call.present)
    order = list(range(1, call[1].rank)) + [0]
    return indexing.gather_nd(call.at, call[0], shaping.transpose(call.at, call[1], order))


@rule("one_hot")
def one_hot(call: Call) -> Value:
    added = shaping.unsqueeze(call.at, without_contents(call.at, call[0]), [-1])
    if added.tainted or added.dims is None:
        return added
    return added._replace(dims=added.dims[:-1] + (call.attribute("depth"),))


@rule("Pad", "pad")
def pad(call: Call) -> Value:
    amounts = numbers(call.attribute("pad_width", ()))
    return indexing.pad(call.at, call[0], list(zip(amounts[::2], amounts[1::2])))


@rule("reverse", "flip")
def reverse(call: Call) -> Value:
    return computing.along(call.at, call[0], numbers(call.attribute("axis")), "reverses")


@rule("SequenceMask", "SequenceReverse", "SequenceLast")
def sequences(call: Call) -> Value:
    """The input is [time, N, …], or [N, time, …] with `axis` 1. Lengths are optional, one per row."""
    value, time = call[0], call.attribute("axis", 0)
    last = call.node.operator == "SequenceLast"
    if value.tainted or value.dims is None or len(value.dims) < 2:
        return unsure("%s is not followed" % call.at, call.present)
    if value.axis == time and not (call.node.operator == "SequenceMask" and len(call.present) < 2):
        return mixed("%s goes from row to row" % call.at)
    if len(call.present) > 1:
        lengths = as_rows(call[1])
        if lengths is None or lengths.tainted or lengths.counts_rows or lengths.rank != 1:
            return unsure("%s has lengths that are not followed" % call.at, call.present)
        if lengths.has_rows and (value.axis, value.before, value.after) != (1 - time, lengths.before, lengths.after):
            return unsure("%s has lengths that are not followed" % call.at)
        if not lengths.has_rows and value.axis == 1 - time:
            return unsure("%s allows one number of rows only" % call.at)
    if not value.has_rows:
        return unsure("%s is not followed" % call.at) if repeats(value) else constant()
    if not last:
        return value._replace(contents=None)
    dims = [size for axis, size in enumerate(value.dims) if axis != time]
    return rows(dims, (value.axis or 0) - ((value.axis or 0) > time), value.before, value.after)


@rule("_contrib_boolean_mask", "_npi_boolean_mask", "_npx_nonzero", "_npi_unique")
def counted(call: Call) -> Any:
    count = len(call.node.outputs)  # type: int
    results: List[Value] = []
    if any(value.tainted for value in call.present):
        results = [propagate(call.present)] * count
    elif any(value.has_rows or repeats(value) for value in call.present):
        results = [mixed("%s returns a number of elements that depends on the values of all rows" % call.at)] * count
    return results or [constant()] * count
