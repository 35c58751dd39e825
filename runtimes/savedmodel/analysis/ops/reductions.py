"""Operators along dimensions: reductions, sorting, normalization."""

from typing import Any

from runtimes.dataflow import computing
from runtimes.dataflow.arithmetic import OPERATORS, elementwise
from runtimes.dataflow.values import Value, as_rows, constant, mixed, propagate, repeats, unsure
from runtimes.dataflow.walk import Call

from ..operators import rule

# Reductions that can be computed on known contents.
_OF_CONTENTS = {"Prod": "multiply", "Sum": "add", "Max": "maximum", "Min": "minimum", "All": "and", "Any": "or"}


@rule("All", "Any", "EuclideanNorm", "Max", "Mean", "Min", "Prod", "Sum")
def reduce(call: Call) -> Value:
    value, axes = call[0], call.list_of("axis", 1)
    if isinstance(axes, Value):
        return unsure("%s has axes that are not followed" % call.at, [value, axes])
    kind = _OF_CONTENTS.get(call.node.operator)
    if kind and value.contents and len(value.dims or ()) == 1 and list(axes) in ([0], [-1]):
        result = value.contents[0]
        for element in value.contents[1:]:
            result = OPERATORS[kind](result, element)
        return constant([1] if call.attribute("keep_dims") else [], [result])
    if kind and value.contents and value.dims == ():
        return value
    return computing.reduce(call.at, value, axes, bool(call.attribute("keep_dims")))


@rule("L2Loss")
def l2_loss(call: Call) -> Value:
    return computing.reduce(call.at, call[0], None, False)


@rule("ArgMax", "ArgMin")
def arg_max(call: Call) -> Value:
    axes = call.list_of("axis", 1)
    if isinstance(axes, Value):
        return unsure("%s has an axis that is not followed" % call.at, [call[0], axes])
    return computing.reduce(call.at, call[0], axes, False, "compares")


@rule("Cumsum", "Cumprod", "CumulativeLogsumexp")
def cumulative(call: Call) -> Value:
    axes = call.list_of("axis", 1)
    if isinstance(axes, Value):
        return unsure("%s has an axis that is not followed" % call.at, [call[0], axes])
    return computing.along(call.at, call[0], axes, "sums over")


@rule("TopK", "TopKV2")
def top_k(call: Call) -> Any:
    count = [call.attribute("k")] if call.node.operator == "TopK" else call.list_of("k", 1)
    if isinstance(count, Value):
        wrong = call.not_constant([call[1]])
        if wrong is not None:
            return [wrong, wrong]
        count = [None]
    return [computing.along(call.at, call[0], [-1], "sorts", count[0])] * 2


@rule("Softmax", "LogSoftmax", "LRN")
def softmax(call: Call) -> Value:
    return computing.along(call.at, call[0], [-1], "normalizes over")


@rule("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def batch_normalization(call: Call) -> Any:
    value, count = call[0], len(call.node.outputs)
    others = call.present[1:]
    if any(each.tainted for each in call.present):
        return [propagate(call.present)] * count
    first = call.attribute("data_format", "NHWC").startswith("NC")
    channel = 1 if first else len(value.dims or ()) - 1
    if call.attribute("is_training", True) and value.has_rows:
        if value.axis != channel:
            return [mixed("%s in training mode uses the mean and variance of all rows" % call.at)] * count
        return _each_channel(call, value)
    if any(other.has_rows or repeats(other) for other in others) or (value.has_rows and value.axis == channel):
        return [unsure("%s is not followed" % call.at)] * count
    if call.attribute("is_training", True):
        return [unsure("%s is not followed" % call.at)] * count
    return [elementwise(call.at, value)] + [constant()] * (count - 1)


def _each_channel(call: Call, value: Value) -> Any:
    """Each row is a channel, which has its own mean and variance, as in LayerNormalization of Keras 2."""
    count = len(call.node.outputs)
    scale, offset = map(as_rows, call.present[1:3])
    for other in (scale, offset):
        if other is None or (other.axis, other.before, other.after) != (0, value.before, value.after):
            return [unsure("%s is not followed" % call.at)] * count
    assert scale is not None
    # Then means and variances, one for each channel; what is last has none of them.
    return [elementwise(call.at, value), *[scale._replace(contents=None)] * 4, constant()][:count]


@rule("DenseBincount")
def bin_count(call: Call) -> Value:
    """Counts in each row, or in all values if the input has one dimension."""
    value = call[0]
    if call[1].tainted or call[1].has_rows or repeats(call[1]):
        # Usually the size depends on the largest value, within the limits of the layer.
        return unsure("%s has a size that is not followed" % call.at)
    if value.rank == 1 and value.has_rows:
        return mixed("%s counts over all rows" % call.at)
    if value.rank != 2:
        return unsure("%s is not followed" % call.at, call.present)
    return computing.batch_first(call.at, call.present, [2])[0]


@rule("Bincount")
def global_bin_count(call: Call) -> Value:
    if any(value.tainted for value in call.present):
        return propagate(call.present)
    if any(value.has_rows for value in call.present):
        return mixed("%s counts over all rows" % call.at)
    return unsure("%s is not followed" % call.at) if any(map(repeats, call.present)) else constant()
