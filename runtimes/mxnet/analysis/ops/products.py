"""Matrix products, and attention."""

from typing import Any

from runtimes.dataflow import computing, shaping
from runtimes.dataflow.sizes import fresh, has_rows, over, times
from runtimes.dataflow.values import Value, constant, propagate, repeats, rows, unsure
from runtimes.dataflow.walk import Call

from ..operators import rule


def _flag(call: Call, name: str, default: bool = False) -> bool:
    return call.attribute(name, default) in (True, 1)


@rule("FullyConnected")
def dense(call: Call) -> Value:
    value = call[0]
    wrong = call.not_constant(call.inputs[1:])
    if wrong is not None:
        return wrong
    if value.tainted or not value.dims:
        return unsure("%s is not followed" % call.at, call.present) if value.tainted or value.has_rows else constant()
    if _flag(call, "flatten", True):
        value = shaping.reshape_to(call.at, value, [value.dims[0], times(*value.dims[1:])])
    return computing.along(call.at, value, [-1], "sums over", call.attribute("num_hidden"))


@rule("dot")
def dot(call: Call) -> Value:
    """Contract the last dimension of the first operand with the first dimension of the second."""
    sides = [call[0], call[1]]
    for index, name in enumerate(("transpose_a", "transpose_b")):
        if _flag(call, name):
            if sides[index].rank != 2:
                return unsure("%s is not followed" % call.at, call.present)
            sides[index] = shaping.transpose(call.at, sides[index])
    one, two = sides
    if one.tainted or two.tainted:
        return propagate(sides)
    if not one.dims or not two.dims:
        return unsure("%s is not followed" % call.at, call.present)
    left = ["a%d" % axis for axis in range(len(one.dims) - 1)]
    right = ["b%d" % axis for axis in range(len(two.dims) - 1)]
    return computing.contract(call.at, [(one, left + ["k"]), (two, ["k"] + right)], left + right)


def _batched(call: Call, one: Value, two: Value) -> Value:
    if one.rank != two.rank or one.rank is None or one.rank < 3:
        return unsure("%s is not followed" % call.at, call.present)
    if any(has_rows(size) != has_rows(other) for size, other in zip((one.dims or ())[:-2], (two.dims or ())[:-2])):
        return unsure("%s combines tensors of different sizes" % call.at, call.present)  # MXNet does not broadcast here
    sides = []
    for value, name in ((one, "transpose_a"), (two, "transpose_b")):
        rank = value.rank or 0
        order = list(range(rank - 2)) + [rank - 1, rank - 2]
        sides.append(shaping.transpose(call.at, value, order) if _flag(call, name) else value)
    return computing.matmul(call.at, sides[0], sides[1])


@rule("batch_dot", "_linalg_gemm2", "linalg_gemm2")
def batch_dot(call: Call) -> Value:
    if call.attribute("axis", -2) != -2:
        return unsure("%s is not followed" % call.at, call.present)
    return _batched(call, call[0], call[1])


@rule("_contrib_interleaved_matmul_selfatt_qk")
def attention_scores(call: Call) -> Value:
    """[time, N, 3 * features] to [N * heads, time, time]."""
    value, heads = call[0], call.attribute("heads")
    if value.tainted or not value.dims or len(value.dims) != 3 or value.axis != 1 or value.after != 1:
        return unsure("%s is not followed" % call.at, call.present)
    return rows([times(value.dims[1], heads), value.dims[0], value.dims[0]], 0, value.before, heads)


@rule("_contrib_interleaved_matmul_selfatt_valatt")
def attention_values(call: Call) -> Value:
    """[time, N, 3 * features] and weights [N * heads, time, time] to [time, N, features]."""
    value, weights, heads = call[0], call[1], call.attribute("heads")
    if value.tainted or weights.tainted or not value.dims or len(value.dims) != 3 or not weights.dims:
        return unsure("%s is not followed" % call.at, call.present)
    layout: Any = (value.axis, value.before, value.after, weights.axis, weights.before, weights.after)
    if layout != (1, 1, 1, 0, 1, heads) or repeats(value._replace(dims=value.dims[:1] + value.dims[2:])):
        return unsure("%s is not followed" % call.at, call.present)
    features = over(value.dims[2], 3)
    return rows([value.dims[0], value.dims[1], fresh() if features is None else features], 1)
