"""Operators that change the order along a dimension."""

from runtimes.dataflow.sizes import ROWS
from runtimes.dataflow.values import Value, constant, mixed, propagate, repeats, unsure


def reverse_sequence(at: str, value: Value, lengths: Value, time: int, batch: int) -> Value:
    """Reverse the first values along `time`; `lengths` has their number for each index along `batch`."""
    if value.tainted or lengths.tainted:
        return propagate([value, lengths])
    if value.axis == time:
        return mixed("%s reverses the rows" % at)
    if not value.has_rows and not lengths.has_rows and not repeats(value) and not repeats(lengths):
        return constant(value.dims)
    if value.axis != batch or (value.before, value.after) != (1, 1):
        return unsure("%s is not followed" % at)
    if lengths.has_rows and (lengths.before, lengths.after) != (1, 1):
        return unsure("%s is not followed" % at)
    if not lengths.has_rows and lengths.dims != (ROWS,):
        return unsure("%s is not followed" % at)
    return value
