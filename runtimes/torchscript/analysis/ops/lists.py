"""Lists and tuples of tensors, and lists of numbers, which are treated as vectors."""

from typing import Any, List

from runtimes.dataflow.arithmetic import elementwise
from runtimes.dataflow.indexing import concat, take_slice
from runtimes.dataflow.indexing import split as parts
from runtimes.dataflow.shaping import normalize_axis
from runtimes.dataflow.sizes import has_rows, over
from runtimes.dataflow.values import MAX_CONTENTS, Value, constant, propagate, unsure
from runtimes.dataflow.walk import Call

from ..operators import APPEND, LIST, UNPACK, Arguments, Items, NotFollowed, items, rule
from .indexing import part

_FAR = 1 << 62
_MAX_LEAVES = 4096  # tensors in nested lists; the same list may be in another many times


@rule(LIST, "prim::TupleConstruct")
def made(call: Call) -> Any:
    if call.attribute("numbers"):
        given = [value._replace(dims=(1,), contents=value.contents or (None,)) for value in call.present]
        if len(given) > MAX_CONTENTS and any(value.counts_rows for value in given):
            return unsure("%s is too long to be followed" % call.at)
        return concat(call.at, given, 0) if given else constant([0], [])
    return _whole(call, Items(tuple(call.inputs)))


def _whole(call: Call, made: Items) -> Any:
    """Return the list, unless it contains too many tensors."""
    if sum(map(_leaves, made.items)) > _MAX_LEAVES:
        raise NotFollowed("a list of lists")
    return made


def _leaves(value: Any) -> int:
    return sum(map(_leaves, value.items)) if isinstance(value, Items) else 1


@rule(APPEND)
def longer(call: Call) -> Any:
    """Append to a list that a branch or loop has returned, whose elements `builder.py` does not know."""
    value = call[0]
    if isinstance(value, Items):
        return Items(value.items + tuple(call.inputs[1:]))
    if value.tainted or value.contents is None:
        raise NotFollowed("a list")
    more = [each._replace(dims=(1,), contents=each.contents or (None,)) for each in call.inputs[1:] if each is not None]
    if len(value.contents) + len(more) > MAX_CONTENTS:
        raise NotFollowed("a list")
    return concat(call.at, [value, *more], 0)


@rule("prim::DictConstruct")
def dictionary(call: Call) -> Any:
    """Return the values in their order. The keys are names of outputs, which are known otherwise."""
    return _whole(call, Items(tuple(call.inputs[1::2])))


@rule(UNPACK, "prim::TupleUnpack")
def unpacked(call: Call) -> Any:
    count, value = len(call.node.outputs), call[0]
    if not isinstance(value, Items) and value.contents is None:
        return [unsure("%s is not followed" % call.at, [value])] * count
    found = items(value)
    if len(found) != count:
        raise ValueError("%d elements for %d names" % (len(found), count))
    return found


@rule("__getitem__ getitem prim::TupleIndex")
def element(call: Call) -> Any:
    value, index = call[0], call[1]
    if isinstance(value, Items) or value.contents is not None:
        position = index.contents[0] if index.contents and not index.tainted else None
        if not isinstance(position, int):
            return (
                propagate([value, index]) if value.tainted or index.tainted else unsure("%s is not followed" % call.at)
            )
        return items(value)[position]
    if value.tainted or value.dims is None or len(value.dims) != 1 or call.attribute("names") == ("self", "other"):
        return unsure("%s is not followed" % call.at, [value, index])
    return part(call.at, value, 0, None)


@rule("prim::TupleSlice")
def some(call: Call) -> Any:
    return Items(tuple(items(call[0])[call.attribute("beg") : call.attribute("end")]))


@rule("len")
def length(call: Call) -> Value:
    value = call[0]
    if isinstance(value, Items):
        return constant([], [len(value.items)])
    if value.tainted or (value.dims is None or value.has_rows and not value.dims):
        return unsure("%s is not followed" % call.at, [value])
    if not value.dims:  # a string
        return constant([], [len(value.contents[0])] if value.contents and isinstance(value.contents[0], str) else None)
    return constant([], [value.dims[0]])


@rule("list prim::tolist")
def copied(call: Call) -> Any:
    value = call[0]
    return value if isinstance(value, Items) or value.contents is not None else elementwise(call.at, value)


@rule("__contains__")
def contains(call: Call) -> Value:
    return constant([]) if not any(value.tainted for value in call.present) else propagate(call.present)


@rule("split unsafe_split split_with_sizes split_with_sizes_copy")
def split(call: Call) -> Any:
    given = Arguments(call)
    value, axis = given["self"], given.number("dim", 0)
    sizes = given.numbers("split_sizes" if "split_sizes" in given else "split_size")
    if value.tainted or value.dims is None or sizes is None:
        return unsure("%s is not followed" % call.at, [value])
    if "split_sizes" not in given and given["split_size"].rank == 0:
        whole, each = value.dims[normalize_axis(axis, len(value.dims))], sizes[0]
        count = over(whole, each)
        if isinstance(whole, int) and isinstance(each, int) and each > 0:
            sizes = [min(each, whole - start) for start in range(0, whole, each)]
        elif isinstance(count, int) and count < _FAR and count > 0:
            sizes = [each] * min(count, 4096)
        elif has_rows(whole):
            return unsure("%s takes the rows apart" % call.at)
        else:
            return unsure("%s is not followed" % call.at)
    return Items(tuple(parts(call.at, value, axis, sizes)))


@rule("chunk unsafe_chunk tensor_split")
def chunk(call: Call) -> Any:
    given = Arguments(call)
    value, axis = given["self"], given.number("dim", 0)
    count = given.number("chunks" if "chunks" in given else "sections")
    if value.tainted or value.dims is None or not isinstance(count, int):
        return unsure("%s is not followed" % call.at, [value])
    whole = value.dims[normalize_axis(axis, len(value.dims))]
    sizes: List[Any] = []
    if isinstance(whole, int) and call.node.operator == "tensor_split":
        sizes = [whole // count + (index < whole % count) for index in range(count)]
    elif isinstance(whole, int):
        each = -(-whole // count)
        sizes = [min(each, whole - start) for start in range(0, whole, each)]
    elif over(whole, count) is not None:
        sizes = [over(whole, count)] * count
    elif has_rows(whole) or call.node.operator != "tensor_split":
        return unsure("%s splits a dimension that may not be divisible" % call.at)
    else:
        sizes = [None] * count
    return Items(tuple(parts(call.at, value, axis, sizes)))


@rule("unbind")
def unbind(call: Call) -> Any:
    given = Arguments(call)
    value, axis = given["self"], given.number("dim", 0)
    if value.tainted or value.dims is None:
        return unsure("%s is not followed" % call.at, [value])
    count = value.dims[normalize_axis(axis, len(value.dims))]
    if not isinstance(count, int) or count > 4096:
        return unsure("%s splits an unknown number of parts" % call.at, [value])
    return Items(tuple(part(call.at, value, axis, index) for index in range(count)))


def cut(call: Call, start: Any, end: Any, step: Any) -> Any:
    """Return a slice of a list."""
    if not isinstance(call[0], Items):
        return take_slice(call.at, call[0], 0, 0 if start is None else start, _FAR if end is None else end, step)
    if not all(bound is None or isinstance(bound, int) for bound in (start, end, step)):
        return unsure("%s is not followed" % call.at, [call[0]])
    return Items(call[0].items[start:end:step])
