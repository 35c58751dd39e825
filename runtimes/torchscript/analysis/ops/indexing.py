"""Operators that slice, index, join and pad."""

from typing import Any, List, Optional

import torch

from runtimes.dataflow import computing, indexing, shaping
from runtimes.dataflow.arithmetic import elementwise
from runtimes.dataflow.shaping import normalize_axis
from runtimes.dataflow.sizes import broadcast, fresh, has_rows
from runtimes.dataflow.values import Value, constant, mixed, propagate, repeats, rows, unsure
from runtimes.dataflow.walk import Call

from ..operators import NONE, Arguments, NotFollowed, items, rule

_FAR = 1 << 62


def part(at: str, value: Value, axis: int, index: Optional[Any]) -> Value:
    """Select one index of a dimension, and drop the dimension. index: None if unknown."""
    if value.tainted or value.dims is None:
        return propagate([value]) if value.tainted else constant()
    axis = normalize_axis(axis, len(value.dims))
    size = value.dims[axis]
    dims = value.dims[:axis] + value.dims[axis + 1 :]
    if has_rows(index):
        return unsure("%s takes elements by the number of rows" % at)
    if has_rows(size):
        if value.axis == axis:
            return mixed("%s takes values of particular rows" % at, dims=dims)
        if value.has_rows or index not in (0, -1) or value.counts_rows:
            return unsure("%s takes a part of values that are repeated for each row" % at)
        return constant(dims)
    contents = None
    if value.contents is not None and len(value.dims) == 1 and isinstance(index, int):
        contents = [value.contents[index]]
    elif value.counts_rows:
        return unsure("%s takes the number of rows apart" % at)
    if value.axis is None:
        return constant(dims, contents)
    return value._replace(dims=dims, axis=value.axis - (axis < value.axis))


@rule("select select_copy")
def select(call: Call) -> Value:
    given = Arguments(call)
    index = given["index"]
    if index.tainted:
        return propagate(call.present)
    found = index.contents[0] if index.contents else None
    return part(call.at, given["self"], given.number("dim"), found)


@rule("slice slice_copy narrow")
def take_slice(call: Call) -> Any:
    from .lists import cut

    given = Arguments(call)
    bounds = given.of("start end step length dim")
    if any(bound.tainted for bound in bounds):
        return propagate(call.present)
    start, end, step, length = (_bound(given.get(name)) for name in ("start", "end", "step", "length"))
    if "l" in given:  # a list
        return cut(call, start[0], end[0], step[0])
    value, axis = given["self"], given.number("dim", 0)
    first = 0 if start[0] is None and not start[1] else start[0]
    if call.node.operator == "narrow":
        return _narrow(call, value, axis, first, length[0])
    last = _FAR if end[0] is None and not end[1] else end[0]
    return indexing.take_slice(call.at, value, axis, first, last, step[0] if step[1] else 1)


def _bound(value: Optional[Value]) -> Any:
    """Return (the number, None if unknown; whether the argument is present)."""
    return (None, False) if value is None else ((value.contents or (None,))[0], True)


def _narrow(call: Call, value: Value, axis: int, start: Any, length: Any) -> Value:
    if value.tainted or value.dims is None or start == 0:
        return indexing.take_slice(call.at, value, axis, start, length)
    if isinstance(start, int) and isinstance(length, int) and start > 0:
        return indexing.take_slice(call.at, value, axis, start, start + length)
    return indexing.take_slice(call.at, value, axis, None, None)


@rule("cat concat concatenate quantized::cat")
def cat(call: Call) -> Value:
    given = Arguments(call)
    found = items(given["tensors"] if "tensors" in given else given["qx"])
    found = [value for value in found if value.dims != (0,)]  # an empty vector can be joined with any tensor
    return indexing.concat(call.at, found, given.number("dim", 0))


@rule("stack")
def stack(call: Call) -> Value:
    given = Arguments(call)
    axis = given.number("dim", 0)
    found = []
    for value in items(given["tensors"]):
        if value.counts_rows:
            return unsure("%s is not followed" % call.at)
        found.append(shaping.unsqueeze(call.at, value._replace(contents=None), [axis]))
    return indexing.concat(call.at, found, axis)


@rule("gather take_along_dim")
def gather(call: Call) -> Value:
    given = Arguments(call)
    index = given["index" if "index" in given else "indices"]
    if "indices" in given and not _same_except(given["self"], index, given.number("dim")):  # the indices are broadcast
        return unsure("%s takes values in a way that is not followed" % call.at, call.present)
    return indexing.gather_elements(call.at, given["self"], index, given.number("dim"))


def _same_except(one: Value, two: Value, axis: Any) -> bool:
    """Return whether all sizes are equal, except along one dimension."""
    if one.dims is None or two.dims is None or len(one.dims) != len(two.dims):
        return False
    excepted = normalize_axis(axis, len(one.dims))
    return all(a == b for index, (a, b) in enumerate(zip(one.dims, two.dims)) if index != excepted)


@rule("index_select")
def index_select(call: Call) -> Value:
    given = Arguments(call)
    return indexing.gather(call.at, given["self"], given["index"], given.number("dim"))


@rule("embedding quantized::embedding_byte")
def embedding(call: Call) -> Value:
    given = Arguments(call)
    return indexing.gather(call.at, given["weight"], given["indices"], 0)


@rule("index")
def index(call: Call) -> Value:
    value, indices = call[0], items(call[1])
    kinds = (call.attribute("dtypes") or [None, None])[1] or [None] * len(indices)
    axes = [axis for axis, each in enumerate(indices) if each != NONE]
    chosen = [indices[axis] for axis in axes]
    if value.tainted or any(each.tainted for each in chosen):
        return propagate([value] + chosen)
    if value.dims is None or any(each.dims is None for each in chosen):
        if value.has_rows or repeats(value) or any(each.has_rows or repeats(each) for each in chosen):
            return unsure("%s is not followed" % call.at)
        return constant()
    dtypes = [kinds[axis] for axis in axes]
    if any(kind in (torch.bool, torch.uint8) and each.has_rows for kind, each in zip(dtypes, chosen)):
        return mixed("%s finds a number of elements that depends on the values of all rows" % call.at)
    if len(chosen) == 1 and value.has_rows and chosen[0].has_rows:  # indices of rows, or a mask
        return mixed("%s takes values of particular rows" % call.at)
    if len(chosen) == 1 and dtypes[0] in (torch.int64, torch.int32):
        return indexing.gather(call.at, value, chosen[0], axes[0])
    if any(each.has_rows or repeats(each) for each in chosen):
        return unsure("%s takes values in a way that is not followed" % call.at)
    return _constant_index(call, value, axes, chosen)


def _constant_index(call: Call, value: Value, axes: List[int], chosen: List[Value]) -> Value:
    """Index by constants: numbers, or masks with one dimension."""
    assert value.dims is not None
    if any(each.rank != 1 for each in chosen) or axes != list(range(axes[0], axes[0] + len(axes))):
        if value.has_rows or repeats(value):
            return unsure("%s takes values in a way that is not followed" % call.at)
        return constant()
    if value.axis in axes:
        return mixed("%s takes values of particular rows" % call.at)
    if any(has_rows(value.dims[axis]) for axis in axes) or value.counts_rows:
        return unsure("%s takes a part of values that are repeated for each row" % call.at)
    dims = value.dims[: axes[0]] + (fresh(),) + value.dims[axes[0] + len(axes) :]
    if value.axis is None:
        return constant(dims)
    return rows(dims, value.axis - (len(axes) - 1 if value.axis > axes[0] else 0), value.before, value.after)


@rule("roll")
def roll(call: Call) -> Value:
    axes = Arguments(call).numbers("dims")
    return computing.along(call.at, call[0], axes or None, "moves values along")


@rule("flip")
def flip(call: Call) -> Value:
    return computing.along(call.at, call[0], Arguments(call).numbers("dims"), "reverses")


@rule("rot90 diagonal diag_embed")
def not_followed(call: Call) -> Value:
    if any(value.has_rows or repeats(value) or value.tainted for value in call.present):
        return unsure("%s is not followed" % call.at, call.present)
    return constant()


@rule("tril triu")
def triangle(call: Call) -> Value:
    value = call[0]
    if value.tainted or value.dims is None:
        return propagate([value]) if value.tainted else constant()
    if any(has_rows(size) for size in value.dims[-2:]) or value.counts_rows:
        return unsure("%s treats each row differently" % call.at)
    return value._replace(contents=None)


@rule("pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d")
@rule("replication_pad3d")
def pad(call: Call) -> Value:
    given = Arguments(call)
    value, amounts = given["self"], given["pad" if "pad" in given else "padding"]
    if amounts.tainted or amounts.contents is None:
        raise NotFollowed("pad")
    known = list(amounts.contents)
    if value.dims is None or len(known) > 2 * len(value.dims):
        return indexing.pad(call.at, value, None)
    around = list(zip(known[::2], known[1::2]))[::-1]
    around = [(0, 0)] * (len(value.dims) - len(around)) + around
    return indexing.pad(call.at, value, around)


@rule("slice_scatter select_scatter")
def slice_scatter(call: Call) -> Value:
    """Return a tensor with a part replaced by values of the same row or a constant."""
    given = Arguments(call)
    value, source = given["self"], given["src"]
    if value.tainted or source.tainted:
        return propagate([value, source])
    if value.dims is None or value.counts_rows or source.counts_rows:
        raise NotFollowed("self")
    axis = normalize_axis(given.number("dim", 0), len(value.dims))
    if has_rows(value.dims[axis]):
        start, end = (given.numbers("start") or [0])[0], (given.numbers("end") or [_FAR])[0]
        whole = start == 0 and (end == value.dims[axis] or (isinstance(end, int) and end >= 1 << 31))
        if "index" in given or not whole or given.number("step", 1) != 1:
            return unsure("%s writes along the rows" % call.at)
    if any(each.contents and any(map(has_rows, each.contents)) for each in given.of("start end step index")):
        return unsure("%s writes at an index that depends on the number of rows" % call.at)
    if "index" in given:
        source = shaping.unsqueeze(call.at, source._replace(contents=None), [axis])
    elif source.dims is not None and not has_rows(value.dims[axis]):
        source = source._replace(dims=source.dims[:axis] + (1,) + source.dims[axis + 1 :], contents=None)
    return elementwise(call.at, value._replace(contents=None), source)


@rule("one_hot")
def one_hot(call: Call) -> Value:
    given = Arguments(call)
    value, count = given["self"], given.number("num_classes", -1)
    if value.tainted or value.dims is None:
        return unsure("%s is not followed" % call.at, [value])
    if count == -1 and value.has_rows:
        return mixed("%s has a number of classes that depends on the values of all rows" % call.at)
    found = shaping.unsqueeze(call.at, elementwise(call.at, value), [-1])
    size = broadcast([count]) if isinstance(count, int) and count > 0 else fresh()
    return found if found.tainted else found._replace(dims=(found.dims or ())[:-1] + (size,))
