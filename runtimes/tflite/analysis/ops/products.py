"""Matrix products."""

from runtimes.dataflow import computing, shaping
from runtimes.dataflow.sizes import fresh, over, times
from runtimes.dataflow.values import Value, constant, repeats, unsure
from runtimes.dataflow.walk import Call

from ..operators import rule


@rule("FULLY_CONNECTED")
def dense(call: Call) -> Value:
    """All dimensions except the last are rows of a matrix. If its size differs from the weights', LiteRT reshapes."""
    value, weights = call[0], call[1]
    if weights.tainted or weights.has_rows or repeats(weights) or value.tainted:
        wrong = call.not_constant(call.inputs[2:])
        if wrong is not None or value.rank != 2:
            return wrong or unsure("%s is not followed" % call.at, call.present)
        return computing.matmul(call.at, value, shaping.transpose(call.at, weights))
    wrong = call.not_constant(call.inputs[2:])
    if wrong is not None:
        return wrong
    if value.dims is None or weights.rank != 2:
        return unsure("%s is not followed" % call.at, call.present) if value.has_rows or repeats(value) else constant()
    units, width = weights.dims or ()
    if call.attribute("WeightsFormat", 0):
        units, width = fresh(), value.dims[-1]
    if not call.attribute("KeepNumDims", False):
        count = over(times(*value.dims), width)
        if count is None:
            return unsure("%s is not followed" % call.at, call.present)
        value = shaping.reshape_to(call.at, value, [count, width])
    return computing.along(call.at, value, [-1], "sums over", units)


@rule("BATCH_MATMUL")
def matmul(call: Call) -> Value:
    sides = []
    for index, name in enumerate(("AdjX", "AdjY")):
        value = call[index]
        if call.attribute(name, False) and value.rank is not None and value.rank > 1:
            order = list(range(value.rank - 2)) + [value.rank - 1, value.rank - 2]
            value = shaping.transpose(call.at, value, order)
        sides.append(value)
    return computing.matmul(call.at, sides[0], sides[1])
