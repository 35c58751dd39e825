"""Operators along dimensions: reductions, sorting, normalization."""

from typing import Any

from runtimes.dataflow import computing
from runtimes.dataflow.arithmetic import OPERATORS, elementwise
from runtimes.dataflow.shaping import normalize_axis
from runtimes.dataflow.values import Value, constant, mixed, propagate, repeats, unsure
from runtimes.dataflow.walk import Call

from ..operators import rule


@rule(
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum",
    "ReduceSumSquare",
)
def reduce(call: Call) -> Value:
    value, axes = call[0], call.list_of("axes", 1)
    if isinstance(axes, Value):
        return unsure("%s has axes that are not followed" % call.at, [value, axes])
    if not axes:
        if call.attribute("noop_with_empty_axes", 0):
            return elementwise(call.at, value)
        axes = None
    if call.node.operator == "ReduceProd" and value.contents is not None and len(value.dims or ()) == 1:
        product = 1  # type: Any
        for element in value.contents:
            product = OPERATORS["multiply"](product, element)
        return constant([1] if call.attribute("keepdims", 1) else [], [product])
    return computing.reduce(call.at, value, axes, bool(call.attribute("keepdims", 1)))


@rule("ArgMax", "ArgMin")
def arg_max(call: Call) -> Value:
    return computing.reduce(
        call.at, call[0], [call.attribute("axis", 0)], bool(call.attribute("keepdims", 1)), "compares"
    )


@rule("CumSum", "CumProd")
def cumulative(call: Call) -> Value:
    axis = call.list_of("axis", 1)
    if isinstance(axis, Value):
        return unsure("%s has an axis that is not followed" % call.at, call.present)
    return computing.along(call.at, call[0], axis, "sums over")


@rule("TopK")
def top_k(call: Call) -> Any:
    count = call.list_of("k", 1)
    if isinstance(count, Value):
        return [propagate([call[0], count])] * 2
    number = count[0] if isinstance(count, list) else count
    return [computing.along(call.at, call[0], [call.attribute("axis", -1)], "sorts", number)] * 2


@rule("Softmax", "LogSoftmax", "Hardmax")
def softmax(call: Call) -> Value:
    value = call[0]
    if call.version >= 13:
        axes = [call.attribute("axis", -1)]  # type: Any
    else:
        axis, rank = call.attribute("axis", 1), len(value.dims or ())
        axes = range(axis + rank if axis < 0 else axis, rank)
    return computing.along(call.at, value, axes, "normalizes over")


@rule("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def layer_normalization(call: Call) -> Any:
    value, axis = call[0], call.attribute("axis", -1)
    if value.dims is None:
        return [unsure("%s works on a tensor of unknown rank" % call.at, call.present)] * 3
    over = range(normalize_axis(axis, len(value.dims)), len(value.dims))
    result = elementwise(call.at, computing.along(call.at, value, over, "normalizes over"), *call.present[1:])
    statistic = computing.reduce(call.at, value, over, True)
    return [result, statistic, statistic][: max(len(call.node.outputs), 1)]


@rule("InstanceNormalization", "GroupNormalization", "LRN", "MeanVarianceNormalization", "LpNormalization")
def normalization(call: Call) -> Value:
    value, operator = call[0], call.node.operator
    if any(other.has_rows or other.tainted or repeats(other) for other in call.present[1:]) or value.dims is None:
        return unsure("%s is not followed" % call.at, call.present)
    over = range(1, len(value.dims))  # type: Any
    if operator == "MeanVarianceNormalization":
        over = call.attribute("axes") or [0, 2, 3]
    elif operator == "LpNormalization":
        over = [call.attribute("axis", -1)]
    return computing.along(call.at, value, over, "normalizes over")


@rule("BatchNormalization")
def batch_normalization(call: Call) -> Any:
    value, count = call[0], len(call.node.outputs)
    if call.attribute("training_mode", 0):
        return [mixed("%s in training mode takes mean and variance of all rows" % call.at, call.present)] * count
    if count > 1 or value.axis == 1:
        return [unsure("%s is not followed" % call.at, call.present)] * count
    if any(other.has_rows or other.tainted or repeats(other) for other in call.present[1:]):
        return [unsure("%s is not followed" % call.at, call.present)]
    return [elementwise(call.at, value)]
