"""Operators that take parts of tensors, write into them, or join them."""

from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from runtimes.dataflow import sizes
from runtimes.dataflow.shaping import normalize_axis
from runtimes.dataflow.sizes import Product, Size, fresh, has_rows, over, times
from runtimes.dataflow.values import MAX_CONTENTS, Value, as_rows, constant, mixed, propagate, repeats, rows, unsure

# A slice that ends at or beyond this row is assumed to keep all rows of usual batches. It is reported as unknown
# instead of mixing, so that the trial decides.
_MANY_ROWS = 1024
_END = (1 << 31) - 1  # the end of a slice means the end of the dimension from here on; exporters write 2^31 - 1 or more


def concat(at: str, values: Sequence[Value], axis: int) -> Value:
    """Join tensors along one dimension."""
    if any(value.tainted for value in values):
        return propagate(values)
    shapes = [value.dims for value in values]
    if any(dims is None for dims in shapes):
        if any(value.has_rows or repeats(value) for value in values):
            return unsure("%s joins tensors of unknown rank" % at)
        return constant()
    rank = len(shapes[0] or ())
    if not rank or any(len(dims or ()) != rank for dims in shapes):
        raise ValueError("tensors of different ranks are joined")
    axis = normalize_axis(axis, rank)
    if not any(value.has_rows or repeats(value._replace(contents=None)) for value in values):
        return _concat_constants(values, axis)
    if not any(value.has_rows or value.counts_rows for value in values):
        repeated = {tuple(at for at, size in enumerate(value.dims or ()) if has_rows(size)) for value in values}
        if len(repeated) == 1 and axis not in next(iter(repeated)):
            return _concat_constants([value._replace(contents=None) for value in values], axis)
    sources = [as_rows(value) for value in values]
    return _concat_rows(at, [value for value in sources if value is not None], len(sources), axis)


def _concat_constants(values: Sequence[Value], axis: int) -> Value:
    contents = None  # type: Optional[List[Any]]
    if all(value.contents is not None and len(value.dims or ()) == 1 for value in values):
        contents = [element for value in values for element in value.contents or ()]
    if any(value.counts_rows for value in values) and (contents is None or len(contents) > MAX_CONTENTS):
        return unsure("a vector that counts the rows is joined with others")
    dims = list(values[0].dims or ())
    dims[axis] = _sum([(value.dims or ())[axis] for value in values])
    return constant(dims, contents)


def _sum(parts: Sequence[Size]) -> Size:
    result = 0  # type: Optional[Size]
    for part in parts:
        result = None if result is None else sizes.plus(result, part)
    return fresh() if result is None else result


def _concat_rows(at: str, values: Sequence[Value], count: int, axis: int) -> Value:
    first = next((value for value in values if value.has_rows), None)
    if first is None or len(values) < count or first.dims is None or first.axis is None:
        return unsure("%s joins constants that are repeated for each row" % at)
    rows_axis = first.axis
    for value in values:
        if value.axis is None:
            size = (value.dims or ())[rows_axis]
            if rows_axis == axis:
                return mixed("%s puts other values among the rows" % at)
            if isinstance(size, int):
                return mixed("%s allows one number of rows only" % at)
            return unsure("%s joins the rows with a constant of unknown size" % at)
        if (
            value.axis != rows_axis
            or value.after != first.after
            or (rows_axis != axis and value.before != first.before)
        ):
            return unsure("%s joins tensors with the rows in different dimensions" % at)
    dims = list(first.dims)
    if rows_axis != axis:
        dims[axis] = _sum([(value.dims or ())[axis] for value in values])
        return rows(dims, rows_axis, first.before, first.after)
    before = _sum([value.before for value in values])
    dims[axis] = times(before, sizes.ROWS, first.after)
    return rows(dims, rows_axis, before, first.after)


def split(at: str, value: Value, axis: int, parts: Sequence[Optional[Size]]) -> List[Value]:
    """Split along one dimension into parts of these sizes; None stands for an unknown size."""
    if value.tainted or value.dims is None:
        whole = value if value.tainted else constant()
        return [whole._replace(dims=None) for _ in parts]
    axis = normalize_axis(axis, len(value.dims))
    results = []
    offset = 0  # type: Optional[int]
    for part in parts:
        size = fresh() if part is None else part
        dims = [size if index == axis else old for index, old in enumerate(value.dims)]
        if has_rows(value.dims[axis]):
            equal = all(other == over(value.dims[axis], len(parts)) for other in parts)
            results.append(_part_of_rows(at, value, axis, dims, len(parts), equal))
            continue
        if has_rows(size):
            results.append(unsure("%s cuts at the number of rows" % at))
            continue
        contents = None
        if value.contents is not None and len(value.dims) == 1 and isinstance(size, int) and offset is not None:
            contents = value.contents[offset : offset + size]
            offset += size
        else:
            offset = None
        if value.counts_rows and contents is None:
            results.append(unsure("%s takes the number of rows apart" % at))
        else:
            results.append(value._replace(dims=tuple(dims), contents=contents))
    return results


def _part_of_rows(at: str, value: Value, axis: int, dims: List[Size], count: int, equal: bool) -> Value:
    """Return one of several parts of the dimension with the rows. If all are `equal`, each may contain all rows."""
    whole, part = (value.dims or dims)[axis], dims[axis]
    if count == 1 and part == whole:
        return value
    before = over(value.before, count)
    if value.axis == axis and equal and before is not None:
        return rows(dims, axis, before, value.after)
    if value.axis == axis and (value.before, value.after) == (1, 1) and (count > 1 or isinstance(part, int)):
        return mixed("%s takes the rows apart" % at)
    return unsure("%s takes the rows apart" % at)


def take_slice(
    at: str, value: Value, axis: int, start: Optional[Any], end: Optional[Any], step: Optional[Any] = 1
) -> Value:
    """Take a slice along one dimension. None as start, end or step is an unknown number, the same for all requests."""
    if value.tainted or value.dims is None:
        return value._replace(dims=None) if value.tainted else constant()
    axis = normalize_axis(axis, len(value.dims))
    size = value.dims[axis]
    whole = start == 0 and step == 1 and (end == size or (isinstance(end, int) and end >= _END))
    if whole:
        return value
    if any(has_rows(bound) for bound in (start, end, step)) and not has_rows(size):
        return unsure("%s cuts at the number of rows" % at)
    if has_rows(size):
        known = all(isinstance(bound, int) for bound in (start, end, step))
        if start == 0 and step == 1 and isinstance(end, int) and end >= _MANY_ROWS:
            return unsure("%s keeps %d rows at most" % (at, end))
        if value.axis == axis and (value.before, value.after) == (1, 1) and known:
            return mixed("%s takes some of the rows only" % at)
        if value.axis is None and known:
            return unsure("%s takes a part of values that are repeated for each row" % at)
        return unsure("%s cuts the dimension with the rows" % at)
    contents = None
    if value.contents is not None and len(value.dims) == 1:
        if all(isinstance(bound, int) for bound in (start, end, step)) and step:
            contents = value.contents[_bounds(start, end, step, len(value.contents))]
    if contents is None and value.counts_rows:
        return unsure("%s takes the number of rows apart" % at)
    length = len(contents) if contents is not None else _length(size, start, end, step)
    dims = value.dims[:axis] + (length,) + value.dims[axis + 1 :]
    return value._replace(dims=dims, contents=contents)


def _bounds(start: Any, end: Any, step: Any, size: int) -> slice:
    # Graphs write -size - 1 or less for "before the beginning", Python's slices None.
    return slice(start, None if step < 0 and end < -size else end, step)


def _length(size: Size, start: Any, end: Any, step: Any) -> Size:
    if isinstance(size, int) and all(isinstance(bound, int) for bound in (start, end, step)) and step:
        return len(range(size)[_bounds(start, end, step, size)])
    if start == 0 and step == 1 and isinstance(end, Product):
        return end
    return fresh()


def gather(at: str, value: Value, indices: Value, axis: int) -> Value:
    """Take `value` at `indices` along one dimension, which is replaced by the dimensions of `indices`."""
    if value.tainted or indices.tainted:
        return propagate([value, indices])
    if indices.counts_rows:
        return unsure("%s takes elements by the number of rows" % at)
    if value.dims is None or indices.dims is None:
        if value.has_rows or indices.has_rows or repeats(value) or repeats(indices):
            return unsure("%s takes from a tensor of unknown rank" % at)
        return constant()
    axis = normalize_axis(axis, len(value.dims))
    dims = value.dims[:axis] + indices.dims + value.dims[axis + 1 :]
    if has_rows(value.dims[axis]):
        if value.axis is None and not indices.has_rows and indices.contents == (0,) and not value.counts_rows:
            return constant(dims)  # the first of values that are all the same
        if value.axis == axis and (indices.has_rows or (value.before, value.after) == (1, 1)):
            if indices.has_rows or indices.contents is not None:
                return mixed("%s takes values of particular rows" % at)
        return unsure("%s takes values along the rows" % at)
    if value.has_rows:
        if indices.has_rows or repeats(indices):
            return mixed("%s pairs each row with every other" % at)
        assert value.axis is not None
        new_axis = value.axis if value.axis < axis else value.axis + len(indices.dims) - 1
        return rows(dims, new_axis, value.before, value.after)
    if repeats(value._replace(contents=None)) and (indices.has_rows or repeats(indices)):
        return unsure("%s takes from values that are repeated for each row" % at)
    if indices.has_rows:
        if value.counts_rows:
            return unsure("%s chooses among numbers of rows" % at)
        assert indices.axis is not None
        return rows(dims, indices.axis + axis, indices.before, indices.after)
    return _gather_constant(at, value, indices, dims)


def _gather_constant(at: str, value: Value, indices: Value, dims: Sequence[Size]) -> Value:
    contents = None
    if value.contents is not None and indices.contents is not None and len(value.dims or ()) == 1:
        size = len(value.contents)
        if all(isinstance(index, int) and -size <= index < size for index in indices.contents):
            contents = [value.contents[index] for index in indices.contents]
    if value.counts_rows and contents is None:
        return unsure("%s takes the number of rows apart" % at)
    return constant(dims, contents)


def gather_elements(at: str, value: Value, indices: Value, axis: int) -> Value:
    """Take one element of `value` for each index, at the same position in all dimensions except `axis`."""
    if value.tainted or indices.tainted:
        return propagate([value, indices])
    if value.dims is None or indices.dims is None or len(value.dims) != len(indices.dims):
        if value.has_rows or indices.has_rows or repeats(value) or repeats(indices):
            return unsure("%s takes from a tensor of unknown rank" % at)
        return constant(indices.dims)
    axis = normalize_axis(axis, len(value.dims))
    if value.counts_rows or indices.counts_rows:
        return unsure("%s computes with the number of rows" % at)
    source = as_rows(value)
    if source is not None and source.axis == axis:
        return mixed("%s takes values of particular rows" % at)
    if not indices.has_rows and not value.has_rows and not repeats(value) and not repeats(indices):
        return constant(indices.dims)
    index_rows = as_rows(indices)
    if (
        source is None
        or index_rows is None
        or not index_rows.has_rows
        or (index_rows.axis != axis and not source.has_rows)
    ):
        return unsure("%s takes values in a way that is not followed" % at)
    if source.has_rows and (source.axis, source.before, source.after) != (
        index_rows.axis,
        index_rows.before,
        index_rows.after,
    ):
        return unsure("%s takes values in a way that is not followed" % at)
    if any(has_rows(size) for dim, size in enumerate(source.dims or ()) if dim != source.axis):
        return unsure("%s takes values in a way that is not followed" % at)
    return rows(indices.dims, index_rows.axis or 0, index_rows.before, index_rows.after)


def gather_nd(at: str, value: Value, indices: Value, batch_dims: int = 0) -> Value:
    """Take elements at coordinates. The last dimension of `indices` has those after the common `batch_dims`."""
    if value.tainted or indices.tainted:
        return propagate([value, indices])
    if not (value.has_rows or indices.has_rows or repeats(value) or repeats(indices)):
        return constant()
    depth = indices.dims[-1] if indices.dims else None
    if value.dims is None or indices.dims is None or not isinstance(depth, int):
        return unsure("%s takes from a tensor of unknown rank" % at)
    dims = indices.dims[:-1] + value.dims[batch_dims + depth :]
    if indices.has_rows and indices.axis != len(indices.dims) - 1:
        same = (value.axis, value.before, value.after) == (indices.axis, indices.before, indices.after)
        in_common = (indices.axis or 0) < batch_dims  # there, a constant fits one number of rows only
        if (value.has_rows and same and in_common) or not (value.has_rows or repeats(value) or in_common):
            return rows(dims, indices.axis or 0, indices.before, indices.after)
    if value.has_rows and not (indices.has_rows or repeats(indices)) and (value.axis or 0) >= batch_dims + depth:
        return rows(dims, (value.axis or 0) - (batch_dims + depth) + len(indices.dims) - 1, value.before, value.after)
    return unsure("%s takes values in a way that is not followed" % at)


def scatter_elements(at: str, value: Value, indices: Value, updates: Value, axis: int) -> Value:
    """Write updates into `value` at the indices, at the same position in all dimensions except `axis`."""
    together = [value, indices, updates]
    if any(each.tainted for each in together):
        return propagate(together, value.dims)
    if not any(each.has_rows or repeats(each) for each in together):
        return constant(value.dims)
    sources = [as_rows(each) for each in together]
    first = sources[0]
    if first is None or first.dims is None or not first.has_rows:
        return unsure("%s writes values in a way that is not followed" % at)
    for each in sources:
        if each is None or (each.axis, each.before, each.after) != (first.axis, first.before, first.after):
            return unsure("%s writes values in a way that is not followed" % at)
    if first.axis == normalize_axis(axis, len(first.dims)):
        return mixed("%s writes into particular rows" % at, dims=first.dims)
    return rows(first.dims, first.axis or 0, first.before, first.after)


def pad(at: str, value: Value, amounts: Optional[Sequence[Tuple[Any, Any]]]) -> Value:
    """Pad by (before, after) for each dimension; None if the amounts are unknown but the same for all requests."""
    if value.tainted or value.dims is None:
        return value._replace(dims=None) if value.tainted else constant()
    if amounts is None or len(amounts) != len(value.dims):
        if value.has_rows or repeats(value):
            return unsure("%s pads by amounts that are not followed" % at)
        return constant([fresh() for _ in value.dims])
    if value.counts_rows:
        return unsure("%s pads the number of rows" % at)
    dims = []  # type: List[Size]
    for size, pair in zip(value.dims, amounts):
        if pair[0] == 0 and pair[1] == 0:
            dims.append(size)
        elif has_rows(size):
            if all(isinstance(amount, int) for amount in pair) and value.has_rows:
                return mixed("%s puts other values among the rows" % at)
            return unsure("%s pads along the rows" % at)
        elif any(has_rows(amount) for amount in pair):
            return unsure("%s pads by the number of rows" % at)
        else:
            known = isinstance(size, int) and all(isinstance(amount, int) for amount in pair)
            dims.append(size + pair[0] + pair[1] if known else fresh())
    return value._replace(dims=tuple(dims), contents=None)


def sequence(at: str, start: Value, limit: Value, delta: Value) -> Value:
    """Return the numbers from `start` up to, and without, `limit`."""
    bounds = [start, limit, delta]
    if any(bound.tainted for bound in bounds):
        return propagate(bounds)
    if any(bound.has_rows for bound in bounds):
        return mixed("%s has a length that depends on values" % at)
    if any(repeats(bound) for bound in bounds):
        return unsure("%s numbers the rows" % at)
    first, last, step = ((bound.contents or (None,))[0] for bound in bounds)
    if all(isinstance(number, int) for number in (first, last, step)) and step:
        numbers = range(first, last, step)
        return constant([len(numbers)], numbers if len(numbers) <= 64 else None)
    if first == 0 and step == 1 and isinstance(last, Product):
        return constant([last])
    if all(isinstance(number, (int, float)) for number in (first, last, step)) and step:
        return constant([max(int(np.ceil((last - first) / step)), 0)])
    return constant([fresh()])
