"""Loops: the values that are correct after any number of iterations."""

from typing import Callable, List, Sequence, Tuple

from runtimes.dataflow.sizes import Product, fresh, has_rows
from runtimes.dataflow.values import Value, join, mixed, repeats, unsure

# Iterations of a loop's body before the analysis gives up. More iterations follow more loops, and each nesting
# level multiplies their time.
MAX_ROUNDS = 4


def is_stable(carried: Sequence[Value], joined: Sequence[Value], iteration: int) -> bool:
    """Return whether another iteration would find nothing new.

    A size that is still a symbol after the first iteration stands for any size, so a different symbol is not new.
    """
    same = [(value.axis, value.before, value.after, value.mixes, value.unknown) for value in carried]
    if same != [(value.axis, value.before, value.after, value.mixes, value.unknown) for value in joined]:
        return False
    for old, new in zip(carried, joined):
        if old.dims is None or new.dims is None:
            if old.dims != new.dims:
                return False
            continue
        for size, other in zip(old.dims, new.dims):
            open_size = iteration > 0 and isinstance(size, Product) and isinstance(other, Product)
            if size != other and (not open_size or has_rows(size) or has_rows(other)):
                return False
    return True


def stack_rounds(value: Value, axis: int = 0) -> Value:
    """Return the results of all iterations, stacked along a new dimension."""
    if value.tainted or value.dims is None:
        return (
            value._replace(dims=None, contents=None)
            if not repeats(value)
            else unsure("iterations are counted", [value])
        )
    if value.counts_rows:
        return unsure("the number of rows is collected in a loop")
    axis = axis + len(value.dims) + 1 if axis < 0 else axis
    dims = value.dims[:axis] + (fresh(),) + value.dims[axis:]
    new_axis = None if value.axis is None else value.axis + (value.axis >= axis)
    return value._replace(dims=dims, axis=new_axis, contents=None)


def forget_contents(value: Value) -> Value:
    """Return the value without its contents, unless they depend on the number of rows."""
    return value if value.counts_rows else value._replace(contents=None)


def while_loop(
    at: str, carried: Sequence[Value], run: Callable[[List[Value]], Tuple[Value, List[Value]]]
) -> List[Value]:
    """Return the results of a loop that runs while a condition holds.

    run: returns the condition and the carried values after one iteration.
    """
    count = len(carried)
    carried = [forget_contents(value) for value in carried]
    for iteration in range(MAX_ROUNDS):
        condition, after = run(list(carried))
        if condition.mixes or condition.has_rows:
            return [mixed("%s runs until values of the batch end it" % at, [condition])] * count
        if condition.unknown or repeats(condition):
            return [unsure("%s has a condition that is not followed" % at, [condition])] * count
        if len(after) != count:
            raise ValueError("an iteration returns %d values instead of %d" % (len(after), count))
        joined = [join(at, old, forget_contents(new)) for old, new in zip(carried, after)]
        if is_stable(carried, joined, iteration):
            return joined
        carried = joined
    return [unsure("%s is not followed" % at, carried)] * count
