"""Branches and loops: what comes out of either way, and of any number of rounds."""

from typing import Sequence

from runtimes.dataflow.sizes import Product, fresh, has_rows
from runtimes.dataflow.values import Value, repeats, unsure

MOST_ROUNDS = 4  # of a loop's body, until what it carries stays as it is


def settled(carried: Sequence[Value], joined: Sequence[Value], turn: int) -> bool:
    """Whether another turn finds nothing new. A size that changed in a turn before is any size by now."""
    same = [(value.axis, value.before, value.after, value.mixes, value.unknown) for value in carried]
    if same != [(value.axis, value.before, value.after, value.mixes, value.unknown) for value in joined]:
        return False
    for old, new in zip(carried, joined):
        if old.dims is None or new.dims is None:
            if old.dims != new.dims:
                return False
            continue
        for size, other in zip(old.dims, new.dims):
            open_size = turn > 0 and isinstance(size, Product) and isinstance(other, Product)
            if size != other and (not open_size or has_rows(size) or has_rows(other)):
                return False
    return True


def stacked(value: Value, axis: int = 0) -> Value:
    """The results of all rounds beside each other, along a dimension of their own."""
    if value.tainted or value.dims is None:
        return value._replace(dims=None, contents=None) if not repeats(value) else unsure("rounds are counted", [value])
    if value.counts_rows:
        return unsure("the number of rows is collected in a loop")
    axis = axis + len(value.dims) + 1 if axis < 0 else axis
    dims = value.dims[:axis] + (fresh(),) + value.dims[axis:]
    place = None if value.axis is None else value.axis + (value.axis >= axis)
    return value._replace(dims=dims, axis=place, contents=None)
