"""Operators along dimensions: reductions, sorting, normalization."""

from typing import Any

from runtimes.dataflow import computing
from runtimes.dataflow.arithmetic import OPERATORS
from runtimes.dataflow.sizes import fresh
from runtimes.dataflow.values import Value, constant, propagate, unsure
from runtimes.dataflow.walk import Call

from ..operators import rule


@rule("SUM", "MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ANY", "REDUCE_ALL")
def reduce(call: Call) -> Value:
    value, axes, keep = call[0], call.list_of("Axes", 1), bool(call.attribute("KeepDims", False))
    if not isinstance(axes, list) or (not axes and value.rank):
        return unsure("%s has axes that are not followed" % call.at, call.present)
    if call.node.operator == "REDUCE_PROD" and value.contents is not None and value.rank == 1:
        product = 1  # type: Any
        for element in value.contents:
            product = OPERATORS["multiply"](product, element)
        return constant([1] if keep else [], [product])
    return computing.reduce(call.at, value, axes, keep)


@rule("ARG_MAX", "ARG_MIN")
def arg_max(call: Call) -> Value:
    axes = call.list_of("Axis", 1)
    if not isinstance(axes, list):
        return unsure("%s has an axis that is not followed" % call.at, call.present)
    return computing.reduce(call.at, call[0], axes, False, "compares")


@rule("CUMSUM")
def cumulative(call: Call) -> Value:
    axes = call.list_of("Axis", 1)
    if not isinstance(axes, list):
        return unsure("%s has an axis that is not followed" % call.at, call.present)
    return computing.along(call.at, call[0], axes, "sums over")


@rule("TOPK_V2")
def top_k(call: Call) -> Any:
    count = call.get(1)
    wrong = call.not_constant([count])
    if wrong is not None:
        return [wrong] * 2
    known = (count.contents or (None,))[0] if count is not None else None
    return [computing.along(call.at, call[0], [-1], "sorts", fresh() if known is None else known)] * 2


@rule("SOFTMAX", "LOG_SOFTMAX", "L2_NORMALIZATION", "LOCAL_RESPONSE_NORMALIZATION")
def normalized(call: Call) -> Value:
    return computing.along(call.at, call[0], [-1], "normalizes over")


@rule("RFFT2D")
def transform(call: Call) -> Value:
    wrong = call.not_constant(call.inputs[1:])
    return wrong if wrong is not None else computing.along(call.at, call[0], [-2, -1], "transforms", None)


@rule("SEGMENT_SUM", "UNSORTED_SEGMENT_SUM", "UNSORTED_SEGMENT_MAX", "UNSORTED_SEGMENT_MIN", "UNSORTED_SEGMENT_PROD")
def segments(call: Call) -> Value:
    if any(value.tainted for value in call.present):
        return propagate(call.present)
    return unsure("%s is not followed" % call.at)
