"""Branches and loops: what comes out of either way, and of any number of rounds."""

from typing import Callable, List, Sequence, Tuple

from runtimes.dataflow.sizes import Product, fresh, has_rows
from runtimes.dataflow.values import Value, join, mixed, repeats, unsure

MAX_ROUNDS = 4  # of a loop's body, until what it carries stays as it is


def is_stable(carried: Sequence[Value], joined: Sequence[Value], turn: int) -> bool:
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


def stack_rounds(value: Value, axis: int = 0) -> Value:
    """The results of all rounds beside each other, along a dimension of their own."""
    if value.tainted or value.dims is None:
        return value._replace(dims=None, contents=None) if not repeats(value) else unsure("rounds are counted", [value])
    if value.counts_rows:
        return unsure("the number of rows is collected in a loop")
    axis = axis + len(value.dims) + 1 if axis < 0 else axis
    dims = value.dims[:axis] + (fresh(),) + value.dims[axis:]
    place = None if value.axis is None else value.axis + (value.axis >= axis)
    return value._replace(dims=dims, axis=place, contents=None)


def forget_contents(value: Value) -> Value:
    """Without its contents, unless they tell of the number of rows."""
    return value if value.counts_rows else value._replace(contents=None)


def while_loop(
    at: str, carried: Sequence[Value], run: Callable[[List[Value]], Tuple[Value, List[Value]]]
) -> List[Value]:
    """What a loop gives that runs as often as a condition says; `run` gives that, and what one round makes of these."""
    count = len(carried)
    carried = [forget_contents(value) for value in carried]
    for turn in range(MAX_ROUNDS):
        goes_on, after = run(list(carried))
        if goes_on.mixes or goes_on.has_rows:
            return [mixed("%s runs until values of the batch say" % at, [goes_on])] * count
        if goes_on.unknown or repeats(goes_on):
            return [unsure("%s runs until what is not followed" % at, [goes_on])] * count
        if len(after) != count:
            raise ValueError("a round gives %d values of %d" % (len(after), count))
        joined = [join(at, old, forget_contents(new)) for old, new in zip(carried, after)]
        if is_stable(carried, joined, turn):
            return joined
        carried = joined
    return [unsure("%s is not followed" % at, carried)] * count
