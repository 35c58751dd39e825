"""Operators that reshape, transpose, repeat or broadcast."""

from typing import Any, List, Optional, Sequence

from runtimes.dataflow import shaping
from runtimes.dataflow.arithmetic import elementwise
from runtimes.dataflow.shaping import normalize_axis
from runtimes.dataflow.sizes import Product, Size, has_rows, over, times
from runtimes.dataflow.values import Value, constant, propagate, repeats, rows, unsure
from runtimes.dataflow.walk import Call

from ..file import numbers
from ..operators import rule


def _resolved(dims: Sequence[Size], codes: Sequence[int]) -> Optional[List[Size]]:
    """Resolve the codes in a shape of MXNet's; None if that is not possible.

    0 copies a size, -1 is inferred, -2 copies all remaining sizes, -3 merges two sizes, and -4 splits one into the
    next two.
    """
    result, source, position, rest = [], 0, 0, None  # type: List[Any], int, int, Optional[int]
    while position < len(codes):
        code = codes[position]
        position += 1
        if code == -2:
            result.extend(dims[source:])
            source = len(dims)
        elif code == -3:
            result.append(times(dims[source], dims[source + 1]))
            source += 2
        elif code == -4:
            one, two = codes[position], codes[position + 1]
            position += 2
            if one == -1 or two == -1:
                other = over(dims[source], two if one == -1 else one)
                if other is None:
                    return None
                one, two = (other, two) if one == -1 else (one, other)
            result.extend([one, two])
            source += 1
        elif code == -1:
            if rest is not None:
                return None
            rest = len(result)
            result.append(1)
            source += 1
        elif code == 0:
            result.append(dims[source])
            source += 1
        elif code > 0:
            result.append(code)
            source += 1
        else:
            return None
    if rest is not None:
        size = over(times(*dims), times(*result))
        if size is None:
            return None
        result[rest] = size
    return result


@rule("Reshape")
def reshape(call: Call) -> Value:
    value, codes = call[0], numbers(call.attribute("shape", ()))
    if value.tainted:
        return propagate([value])
    if value.dims is None or not codes:
        return unsure("%s is not followed" % call.at, call.present) if value.has_rows or repeats(value) else constant()
    backwards = call.attribute("reverse", False) in (True, 1)
    if backwards and -4 in codes:
        return unsure("%s is not followed" % call.at)
    dims = _resolved(value.dims[::-1] if backwards else value.dims, codes[::-1] if backwards else codes)
    if dims is None:
        return unsure("%s has a shape that is not followed" % call.at) if repeats(value) else constant()
    sizes = times(*value.dims), times(*dims)
    if sizes[0] != sizes[1] and not any(isinstance(size, Product) and size.symbols[-1] for size in sizes):
        # MXNet does not check the number of elements, and reads beyond the end of the tensor.
        return unsure("%s changes the number of elements" % call.at)
    return shaping.reshape_to(call.at, value, dims[::-1] if backwards else dims)


@rule("_np_reshape", "_npi_reshape")
def numpy_reshape(call: Call) -> Value:
    shape = numbers(call.attribute("newshape", ()))
    if 0 in shape or call.attribute("order", "C") != "C":
        return unsure("%s is not followed" % call.at, call.present)
    return shaping.reshape(call.at, call[0], constant([len(shape)], shape), zero_copies=False)


@rule("reshape_like")
def reshape_like(call: Call) -> Value:
    value, like = call[0], call[1]
    if like.tainted or like.dims is None or any("begin" in name or "end" in name for name in call.node.attributes):
        return unsure("%s is not followed" % call.at, call.present)
    return shaping.reshape_to(call.at, value, like.dims)


@rule("Flatten")
def flatten(call: Call) -> Value:
    return shaping.flatten(call.at, call[0], 1)


@rule("transpose", "_np_transpose")
def transpose(call: Call) -> Value:
    return shaping.transpose(call.at, call[0], numbers(call.attribute("axes")) or None)


@rule("SwapAxis")
def swap_axis(call: Call) -> Value:
    rank = call[0].rank
    if rank is None:
        return unsure("%s is not followed" % call.at, call.present)
    order = list(range(rank))
    one, two = (normalize_axis(call.attribute(name, 0), rank) for name in ("dim1", "dim2"))
    order[one], order[two] = two, one
    return shaping.transpose(call.at, call[0], order)


@rule("expand_dims")
def expand_dims(call: Call) -> Value:
    return shaping.unsqueeze(call.at, call[0], [call.attribute("axis")])


@rule("squeeze", "_np_squeeze")
def squeeze(call: Call) -> Value:
    axes = call.attribute("axis")
    return shaping.squeeze(call.at, call[0], None if axis_free(axes) else numbers(axes))


def axis_free(axes: Any) -> bool:
    """Whether no axes are named, which means all of them."""
    return axes is None or axes == ()


@rule("tile")
def tile(call: Call) -> Value:
    counts = numbers(call.attribute("reps", ()))
    rank = call[0].rank
    if rank is not None and len(counts) < rank:
        counts = (1,) * (rank - len(counts)) + counts
    return shaping.tile(call.at, call[0], constant([len(counts)], counts))


@rule("repeat")
def repeat(call: Call) -> Value:
    value, axis, count = call[0], call.attribute("axis"), call.attribute("repeats")
    if value.tainted or value.dims is None or not isinstance(count, int):
        return propagate([value]) if value.tainted else unsure("%s is not followed" % call.at, call.present)
    if repeats(value) and not value.has_rows:
        return unsure("%s repeats a value that is repeated for each row" % call.at)
    if axis is None:
        value, axis = shaping.reshape_to(call.at, value, [times(*value.dims)]), 0
    if value.dims is None:
        return value
    axis = normalize_axis(axis, len(value.dims))
    dims = [times(size, count) if each == axis else size for each, size in enumerate(value.dims)]
    if value.axis is None:
        return constant(dims)
    return rows(dims, value.axis, value.before, times(value.after, count) if axis == value.axis else value.after)


@rule("broadcast_to")
def broadcast_to(call: Call) -> Value:
    value, shape = call[0], numbers(call.attribute("shape", ()))
    if value.dims is None or len(value.dims) != len(shape):
        return unsure("%s is not followed" % call.at, call.present)
    dims = [size if target == 0 else target for size, target in zip(value.dims, shape)]
    return elementwise(call.at, value, constant(dims))


@rule("broadcast_axis", "broadcast_axes")
def broadcast_axis(call: Call) -> Value:
    value = call[0]
    axes, sizes = numbers(call.attribute("axis", ())), numbers(call.attribute("size", ()))
    if value.dims is None or len(axes) != len(sizes):
        return unsure("%s is not followed" % call.at, call.present)
    dims = list(value.dims)  # type: List[Any]
    for axis, size in zip(axes, sizes):
        dims[normalize_axis(axis, len(dims))] = size
    return elementwise(call.at, value, constant(dims))


@rule("broadcast_like")
def broadcast_like(call: Call) -> Value:
    value, like = call[0], call[1]
    if (
        value.tainted
        or like.tainted
        or value.dims is None
        or like.dims is None
        or call.attribute("lhs_axes") is not None
    ):
        return unsure("%s is not followed" % call.at, call.present)
    if like.has_rows and not value.has_rows and not any(map(has_rows, value.dims)):
        return elementwise(call.at, constant(value.dims), constant(like.dims))
    return elementwise(call.at, value, constant(like.dims))
