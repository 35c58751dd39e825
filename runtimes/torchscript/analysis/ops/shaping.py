"""Sizes, and operators that rearrange or repeat elements."""

from typing import Any, List

from runtimes.dataflow import shaping
from runtimes.dataflow.shaping import normalize_axis
from runtimes.dataflow.sizes import Product, fresh, has_rows, over, times
from runtimes.dataflow.values import Value, constant, mixed, propagate, repeats, rows, unsure
from runtimes.dataflow.walk import Call

from ..operators import Arguments, Items, NotFollowed, rule
from .indexing import part


@rule("size sym_size prim::shape")
def size(call: Call) -> Value:
    found = shaping.shape_of(call[0])
    axis = Arguments(call).get("dim")
    if axis is None:
        return found
    if call[0].dims is None:
        return found._replace(dims=())
    if axis.tainted or not axis.contents or not isinstance(axis.contents[0], int):
        return unsure("%s is not followed" % call.at)
    return part(call.at, found, 0, normalize_axis(axis.contents[0], len(call[0].dims)))


@rule("dim ndimension")
def rank(call: Call) -> Value:
    value = call[0]
    if value.dims is None:
        return propagate([value], []) if value.tainted else constant([])
    return constant([], [len(value.dims)])


@rule("numel sym_numel")
def count(call: Call) -> Value:
    value = call[0]
    if value.dims is None:
        return propagate([value], []) if value.tainted else constant([])
    return constant([], [times(*value.dims)])


@rule("view reshape _unsafe_view view_copy _reshape_alias reshape_copy")
def view(call: Call) -> Value:
    given = Arguments(call)
    target = given.get("size") or given.get("shape")
    if target is None:
        raise NotFollowed("size")  # a view with another datatype, which changes the sizes
    return shaping.reshape(call.at, given["self"], target, False)


@rule("view_as reshape_as")
def view_as(call: Call) -> Value:
    return shaping.reshape(call.at, call[0], shaping.shape_of(call[1]), False)


@rule("flatten ravel")
def flatten(call: Call) -> Value:
    given, value = Arguments(call), call[0]
    if value.dims is None:
        return propagate([value]) if value.tainted else constant()
    dims = value.dims
    start, end = (
        normalize_axis(given.number("start_dim", 0), len(dims)),
        normalize_axis(given.number("end_dim", -1), len(dims)),
    )
    if not dims or start == end:
        return value if dims else shaping.reshape_to(call.at, value, [1])
    return shaping.reshape_to(
        call.at, value, list(dims[:start]) + [times(*dims[start : end + 1])] + list(dims[end + 1 :])
    )


@rule("unflatten")
def unflatten(call: Call) -> Value:
    given, value = Arguments(call), call[0]
    target = given.numbers("sizes")
    if value.dims is None or target is None:
        raise NotFollowed("sizes")
    axis = normalize_axis(given.number("dim"), len(value.dims))
    if -1 in target:
        rest = over(value.dims[axis], times(*(each for each in target if each != -1)))
        if rest is None and has_rows(value.dims[axis]):
            raise NotFollowed("sizes")
        target = [(fresh() if rest is None else rest) if each == -1 else each for each in target]
    if value.tainted:
        return propagate([value])
    if not has_rows(value.dims[axis]) and not any(map(has_rows, target)):  # possible even if other sizes are unknown
        dims = value.dims[:axis] + tuple(target) + value.dims[axis + 1 :]
        new_axis = value.axis if value.axis is None or value.axis < axis else value.axis + len(target) - 1
        return value._replace(dims=dims, axis=new_axis)
    return shaping.reshape_to(call.at, value, list(value.dims[:axis]) + target + list(value.dims[axis + 1 :]))


@rule("squeeze squeeze_copy")
def squeeze(call: Call) -> Value:
    value, axes = call[0], Arguments(call).numbers("dim")
    if axes is None:
        return shaping.squeeze(call.at, value)
    if value.dims is None:
        return propagate([value]) if value.tainted else constant()
    dropped: List[int] = []
    for axis in axes:
        axis = normalize_axis(axis, len(value.dims))
        if has_rows(value.dims[axis]):
            return mixed("%s drops the dimension of the batch where that has one row" % call.at, [value])
        if isinstance(value.dims[axis], Product):
            if not (value.has_rows or value.tainted or repeats(value)):
                return constant()
            return unsure("%s drops a dimension of unknown size" % call.at, [value])
        if value.dims[axis] == 1:
            dropped.append(axis)
    return shaping.squeeze(call.at, value, dropped) if dropped else value


@rule("unsqueeze unsqueeze_copy")
def unsqueeze(call: Call) -> Value:
    return shaping.unsqueeze(call.at, call[0], [Arguments(call).number("dim")])


@rule("permute permute_copy")
def permute(call: Call) -> Value:
    return shaping.transpose(call.at, call[0], Arguments(call).numbers("dims"))


@rule("transpose transpose_copy swapaxes swapdims t numpy_T mT adjoint")
def transpose(call: Call) -> Value:
    value, given = call[0], Arguments(call)
    if value.dims is None:
        return propagate([value]) if value.tainted else constant()
    if call.node.operator == "numpy_T" or (call.node.operator == "t" and len(value.dims) < 3):
        return shaping.transpose(call.at, value)
    names = [name for name in call.attribute("names") if name != "self"]
    axes = [normalize_axis(given.number(name), len(value.dims)) for name in names] or [-2, -1]
    order = list(range(len(value.dims)))
    order[axes[0]], order[axes[1]] = order[axes[1]], order[axes[0]]
    return shaping.transpose(call.at, value, order)


@rule("movedim moveaxis")
def movedim(call: Call) -> Value:
    value, given = call[0], Arguments(call)
    sources, targets = given.numbers("source") or [], given.numbers("destination") or []
    if value.dims is None:
        return propagate([value]) if value.tainted else constant()
    count = len(value.dims)
    moved = {normalize_axis(target, count): normalize_axis(source, count) for target, source in zip(targets, sources)}
    rest = iter(index for index in range(count) if index not in moved.values())
    return shaping.transpose(call.at, value, [moved[index] if index in moved else next(rest) for index in range(count)])


@rule("expand expand_copy broadcast_to")
def expand(call: Call) -> Value:
    value, sizes = call[0], Arguments(call)["size"]
    if value.dims is not None and sizes.contents is not None and not sizes.tainted:
        own = (1,) * (len(sizes.contents) - len(value.dims)) + value.dims
        kept = [old if new == -1 else new for old, new in zip(own, sizes.contents)]
        return shaping.expand(call.at, value, constant([len(kept)], kept))
    return shaping.expand(call.at, value, sizes)


@rule("expand_as")
def expand_as(call: Call) -> Value:
    return shaping.expand(call.at, call[0], shaping.shape_of(call[1]))


@rule("repeat tile")
def repeat(call: Call) -> Value:
    given = Arguments(call)
    value, counts = call[0], given["repeats" if "repeats" in given else "dims"]
    if call.node.operator == "tile" and counts.contents is not None and value.dims is not None:
        missing = len(value.dims) - len(counts.contents)
        counts = constant([len(value.dims)], (1,) * missing + counts.contents) if missing > 0 else counts
    return shaping.tile(call.at, value, counts)


@rule("repeat_interleave")
def repeat_interleave(call: Call) -> Any:
    given = Arguments(call)
    value, axis, times_each = given["self"], given.number("dim"), given["repeats"]
    if value.tainted or times_each.tainted:
        return propagate([value, times_each])
    if axis is None or value.dims is None or times_each.rank != 0 or times_each.contents is None:
        raise NotFollowed("repeats")
    number, axis = times_each.contents[0], normalize_axis(axis, len(value.dims))
    if number is None or has_rows(number) or (value.axis is None and repeats(value)):
        return unsure("%s is not followed" % call.at)
    dims = list(value.dims)
    dims[axis] = times(dims[axis], number)
    if value.axis is None:
        return constant(dims)
    return rows(dims, value.axis, value.before, times(value.after, number) if axis == value.axis else value.after)


@rule("unfold")
def unfold(call: Call) -> Any:
    """Return windows along a dimension, in a new dimension at the end."""
    given, value = Arguments(call), call[0]
    if value.dims is None or value.tainted or value.counts_rows:
        raise NotFollowed("self")
    axis = normalize_axis(given.number("dimension"), len(value.dims))
    if has_rows(value.dims[axis]):
        return unsure("%s moves windows over the rows" % call.at)
    dims = value.dims[:axis] + (fresh(),) + value.dims[axis + 1 :] + (given.number("size"),)
    return value._replace(dims=dims, contents=None)


@rule("pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle")
def pixel_shuffle(call: Call) -> Value:
    """The last three dimensions are channels, height and width."""
    value, factor = call[0], 1
    if value.dims is None or len(value.dims) < 3 or value.tainted or value.counts_rows:
        raise NotFollowed("self")
    if any(has_rows(size) for size in value.dims[-3:]):
        return unsure("%s is not followed" % call.at)
    channels, height, width = value.dims[-3:]
    if call.node.operator == "pixel_shuffle":
        factor = Arguments(call).number("upscale_factor")
        new = [over(channels, factor * factor), times(height, factor), times(width, factor)]  # type: Any
    elif call.node.operator == "pixel_unshuffle":
        factor = Arguments(call).number("downscale_factor")
        new = [times(channels, factor * factor), over(height, factor), over(width, factor)]
    else:
        new = [channels, height, width]
    dims = value.dims[:-3] + tuple(fresh() if size is None else size for size in new)
    return value._replace(dims=dims, contents=None)


@rule("broadcast_tensors meshgrid")
def together(call: Call) -> Any:
    value = call[0]
    if not isinstance(value, Items) or value.tainted or value.has_rows or value.counts_rows:
        return unsure("%s is not followed" % call.at, [value])
    if call.node.operator == "meshgrid" and all(each.rank == 1 for each in value.items):
        dims = [each.dims[0] for each in value.items]
        # The order of the first two dimensions depends on `indexing`, so their sizes are known only if they are equal.
        known = dims if len({str(size) for size in dims}) == 1 else [fresh() for _ in dims]
        return Items(tuple(constant(known) for _ in dims))
    return Items(tuple(constant() for _ in value.items))
