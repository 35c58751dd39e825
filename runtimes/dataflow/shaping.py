"""Operators that rearrange or repeat elements."""

from typing import Any, List, Optional, Sequence

from runtimes.dataflow.arithmetic import elementwise
from runtimes.dataflow.sizes import MAX_DIMENSIONS, ROWS, Product, Size, fresh, has_rows, over, times
from runtimes.dataflow.values import Value, as_rows, constant, mixed, propagate, repeats, rows, unsure


def normalize_axis(axis: int, rank: int) -> int:
    """Return an axis that may be negative as a non-negative one. Raises ValueError if it is out of range."""
    if not -rank <= axis < max(rank, 1):
        raise ValueError("axis %d of rank %d" % (axis, rank))
    return axis + rank if axis < 0 else axis


def shape_of(value: Value, start: Optional[int] = None, end: Optional[int] = None) -> Value:
    """Return the sizes as a vector, which is a constant whose contents are followed."""
    if value.dims is None:
        return propagate([value], [fresh()]) if value.tainted else constant([fresh()])
    dims = value.dims[start:end]
    return constant([len(dims)], dims)


def reshape(at: str, value: Value, target: Value, zero_copies: bool = True) -> Value:
    """Reshape to the sizes in `target`. -1 is the remaining size; 0 is the previous size if `zero_copies`."""
    if target.tainted:
        return propagate([value, target])
    if target.contents is None:
        rank = target.dims[0] if target.dims is not None and len(target.dims) == 1 else None
        if value.tainted:
            return propagate([value])
        if value.has_rows or repeats(value) or target.has_rows:
            return unsure("%s has a shape that is not followed" % at)
        return constant([fresh() for _ in range(rank)] if isinstance(rank, int) and rank < 64 else None)
    dims = _resolve(value, target.contents, zero_copies)
    if dims is None:
        if value.tainted or not (value.has_rows or repeats(value) or target.counts_rows):
            return propagate([value]) if value.tainted else constant([fresh() for _ in target.contents])
        return unsure("%s has a shape that is not followed" % at)
    return reshape_to(at, value, dims)


def _resolve(value: Value, target: Sequence[Any], zero_copies: bool) -> Optional[List[Size]]:
    dims = []  # type: List[Any]
    for index, size in enumerate(target):
        if size is None:
            dims.append(fresh())
        elif size == 0 and zero_copies:
            if value.dims is None or index >= len(value.dims):
                return None
            dims.append(value.dims[index])
        elif isinstance(size, Product):
            if size.factor < 0:
                return None
            dims.append(size)
        elif isinstance(size, float) or size < -1:
            return None
        else:
            dims.append(int(size))
    if -1 in dims:
        if value.dims is None or dims.count(-1) > 1:
            return None
        rest = over(times(*value.dims), times(*(size for size in dims if size != -1)))
        if rest is None:
            if repeats(value) or value.has_rows or any(map(has_rows, dims)):
                return None
            rest = fresh()
        dims[dims.index(-1)] = rest
    return dims


def reshape_to(at: str, value: Value, dims: Sequence[Size]) -> Value:
    """Return the same elements, in the same order, in a tensor with these sizes."""
    if value.tainted:
        return propagate([value], dims)
    if not value.has_rows and not repeats(value._replace(contents=None)):
        if any(map(has_rows, dims)):
            return unsure("%s distributes a constant over the rows" % at)
        return constant(dims, value.contents)
    source = as_rows(value)
    if source is None or source.axis is None or source.dims is None:
        return unsure("%s reshapes a constant that is repeated for each row" % at)
    row_axes = [axis for axis, size in enumerate(dims) if has_rows(size)]
    if not row_axes:
        return mixed("%s allows one number of rows only" % at, dims=dims)
    axis = row_axes[0]
    in_front = times(*source.dims[: source.axis], source.before)
    before = over(in_front, times(*dims[:axis]))
    share = over(dims[axis], ROWS)
    after = None if before is None or share is None else over(share, before)
    if len(row_axes) > 1 or before is None or after is None or has_rows(after):
        if value.has_rows and all(isinstance(size, int) or has_rows(size) for size in tuple(dims) + source.dims):
            return mixed("%s puts values of several rows together" % at, dims=dims)
        return unsure("%s has a shape in which the rows could not be found" % at, dims=dims)
    return rows(dims, axis, before, after)


def transpose(at: str, value: Value, order: Optional[Sequence[int]] = None) -> Value:
    """Permute the dimensions. `order`: for each dimension of the result, its previous index; None: reversed."""
    if value.dims is None:
        return value if value.tainted else constant()
    rank = len(value.dims)
    axes = [normalize_axis(axis, rank) for axis in order] if order is not None else list(range(rank))[::-1]
    if sorted(axes) != list(range(rank)):
        raise ValueError("%s is not a permutation of %d dimensions" % (axes, rank))
    if value.counts_rows and rank > 1:
        return unsure("%s moves the number of rows" % at)
    dims = tuple(value.dims[axis] for axis in axes)
    if value.axis is None:
        return value._replace(dims=dims, contents=value.contents if rank < 2 else None)
    return value._replace(dims=dims, axis=axes.index(value.axis))


def squeeze(at: str, value: Value, axes: Optional[Sequence[int]] = None) -> Value:
    if value.dims is None:
        return value if value.tainted else constant()
    rank = len(value.dims)
    if axes is None:
        if value.has_rows or repeats(value._replace(contents=None)):
            return mixed("%s drops the dimension of the batch where that has one row" % at, [value])
        if any(isinstance(size, Product) for size in value.dims):
            return propagate([value]) if value.tainted else constant()
        axes = [index for index, size in enumerate(value.dims) if size == 1]
    dropped = {normalize_axis(axis, rank) for axis in axes}
    if value.axis in dropped or any(has_rows(value.dims[index]) for index in dropped):
        return mixed("%s allows one row only" % at, [value])
    dims = tuple(size for index, size in enumerate(value.dims) if index not in dropped)
    axis = None if value.axis is None else value.axis - sum(index < value.axis for index in dropped)
    return value._replace(dims=dims, axis=axis)


def unsqueeze(at: str, value: Value, axes: Sequence[int]) -> Value:
    if value.dims is None:
        return value if value.tainted else constant()
    rank = len(value.dims) + len(axes)
    if rank > MAX_DIMENSIONS:
        raise ValueError("a tensor has %d dimensions" % rank)
    added = {normalize_axis(axis, rank) for axis in axes}
    if len(added) < len(axes):
        raise ValueError("axes %s are not distinct" % (axes,))
    rest = iter(range(len(value.dims)))
    origins = [None if index in added else next(rest) for index in range(rank)]
    dims = tuple(1 if origin is None else value.dims[origin] for origin in origins)
    return value._replace(dims=dims, axis=None if value.axis is None else origins.index(value.axis))


def squeeze_or_unsqueeze(at: str, operator: str, value: Value, axes: Any) -> Value:
    """Follow ONNX's or OpenVINO's operator of such a name. axes: a sequence, or a Value if they are not known."""
    if isinstance(axes, Value):
        return propagate([axes, value])
    return squeeze(at, value, axes) if operator == "Squeeze" else unsqueeze(at, value, axes)


def flatten(at: str, value: Value, axis: int = 1) -> Value:
    """Reshape to two dimensions: those before the axis, and those from it on."""
    if value.dims is None:
        return value if value.tainted else constant([fresh(), fresh()])
    axis = axis + len(value.dims) if axis < 0 else axis
    return reshape_to(at, value, [times(*value.dims[:axis]), times(*value.dims[axis:])])


def expand(at: str, value: Value, target: Value) -> Value:
    """Broadcast to a shape."""
    if target.tainted:
        return propagate([value, target])
    if target.contents is None:
        if value.tainted:
            return propagate([value])
        if value.has_rows or repeats(value) or target.has_rows:
            return unsure("%s has a shape that is not followed" % at)
        return constant()
    if value.counts_rows:
        return unsure("%s repeats the number of rows" % at)
    return elementwise(at, value._replace(contents=None), fill_shape(target))


def fill_shape(shape: Value) -> Value:
    """Return a constant with this shape, filled with one number. The contents of `shape` may be unknown."""
    if shape.tainted:
        return propagate([shape])
    if shape.contents is None:
        return unsure("a shape depends on values", [shape]) if shape.has_rows else constant()
    return constant([fresh() if size is None or isinstance(size, float) else size for size in shape.contents])


def tile(at: str, value: Value, repeats_each: Value) -> Value:
    """Repeat the tensor along each dimension; `repeats_each` has the number of repetitions."""
    if value.tainted or repeats_each.tainted:
        return propagate([value, repeats_each])
    if value.counts_rows:
        return unsure("%s repeats the number of rows" % at)
    times_each = repeats_each.contents
    if times_each is None or value.dims is None:
        if value.has_rows or repeats(value) or repeats(repeats_each) or repeats_each.has_rows:
            return unsure("%s repeats in a way that is not followed" % at)
        return constant(None if value.dims is None else [fresh() for _ in value.dims])
    known = [fresh() if count is None else count for count in times_each]
    source = (1,) * (len(known) - len(value.dims)) + value.dims
    if len(known) < len(source) or len(known) > MAX_DIMENSIONS:
        raise ValueError("%d repeats for %d dimensions" % (len(known), len(source)))
    dims = [times(size, count) for size, count in zip(source, known)]
    if not value.has_rows:
        spreading = [index for index, count in enumerate(known) if has_rows(count)]
        if all(source[index] == 1 or has_rows(source[index]) for index in spreading):
            return constant(dims) if not spreading or not repeats(value) else unsure("%s repeats by the rows" % at)
        if len(spreading) == 1 and not repeats(value):
            after = over(dims[spreading[0]], ROWS)
            return rows(dims, spreading[0], 1, after) if after is not None else unsure("%s repeats by the rows" % at)
        return unsure("%s repeats by the rows" % at)
    axis = value.axis + len(dims) - len(value.dims)  # type: ignore[operator]
    if has_rows(known[axis]):
        return mixed("%s repeats the rows by their number" % at, dims=dims)
    return rows(dims, axis, times(value.before, known[axis]), value.after)
