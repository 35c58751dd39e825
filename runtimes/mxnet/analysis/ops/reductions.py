"""Operators along dimensions: reductions, sorting, normalization."""

from typing import Any, Optional, Sequence

from runtimes.dataflow import computing
from runtimes.dataflow.arithmetic import elementwise
from runtimes.dataflow.shaping import normalize_axis
from runtimes.dataflow.values import Value, repeats, unsure
from runtimes.dataflow.walk import Call

from ..file import numbers
from ..operators import rule


def _axes(call: Call, value: Value) -> Optional[Sequence[int]]:
    axes = call.attribute("axis")
    if axes is None or axes == ():
        return None
    if call.attribute("exclude", False) in (True, 1):
        rank = len(value.dims or ())
        excluded = {normalize_axis(axis, rank) for axis in numbers(axes)}
        return [axis for axis in range(rank) if axis not in excluded]
    return numbers(axes)


@rule("sum mean max min prod nansum nanprod norm sum_axis max_axis min_axis _square_sum")
@rule("_np_sum _np_max _np_min _np_amax _np_amin _np_prod _np_any _np_all _npi_mean _npi_std _npi_var")
def reduce(call: Call) -> Value:
    if call[0].dims is None:
        return unsure("%s is not followed" % call.at, call.present)
    return computing.reduce(call.at, call[0], _axes(call, call[0]), call.attribute("keepdims", False) in (True, 1))


@rule("argmax", "argmin", "argmax_channel", "_npi_argmax", "_npi_argmin")
def arg_max(call: Call) -> Value:
    axes = [1] if call.node.operator == "argmax_channel" else _axes(call, call[0])
    return computing.reduce(call.at, call[0], axes, call.attribute("keepdims", False) in (True, 1), "compares")


@rule("topk")
def top_k(call: Call) -> Any:
    axis, kind = call.attribute("axis", -1), call.attribute("ret_typ", "indices")
    count = call.attribute("k", 1)
    size = 0 if kind == "mask" else count if count > 0 else None
    return [computing.along(call.at, call[0], None if axis is None else [axis], "sorts", size)] * len(call.node.outputs)


@rule("sort", "argsort")
def sort(call: Call) -> Value:
    axis = call.attribute("axis", -1)
    return computing.along(call.at, call[0], None if axis is None else [axis], "sorts")


@rule("cumsum", "_np_cumsum")
def cumulative(call: Call) -> Value:
    axis = call.attribute("axis")
    return computing.along(call.at, call[0], None if axis is None else [axis], "sums over")


@rule("softmax", "log_softmax", "softmin")
def softmax(call: Call) -> Value:
    if len(call.present) > 1:  # lengths
        return unsure("%s is not followed" % call.at, call.present)
    return computing.along(call.at, call[0], [call.attribute("axis", -1)], "normalizes over")


@rule("SoftmaxActivation", "InstanceNorm", "L2Normalization", "LRN", "GroupNorm")
def of_each_instance(call: Call) -> Value:
    """These normalize over dimensions after the first, at most over all of them."""
    value = call[0]
    wrong = call.not_constant(call.inputs[1:])
    if wrong is not None or value.rank is None or value.rank < 2:
        return wrong or unsure("%s is not followed" % call.at, call.present)
    return computing.along(call.at, value, range(1, value.rank), "normalizes over")


@rule("LayerNorm")
def layer_norm(call: Call) -> Any:
    value = computing.along(call.at, call[0], [call.attribute("axis", -1)], "normalizes over")
    wrong = call.not_constant(call.inputs[1:])
    return wrong or value


@rule("BatchNorm", "BatchNorm_v1", "_contrib_SyncBatchNorm", "_contrib_BatchNormWithReLU")
def batch_norm(call: Call) -> Value:
    """In inference mode, these normalize with the statistics in the file."""
    wrong = call.not_constant(call.inputs[1:])
    if wrong is not None:
        return wrong
    value, axis = call[0], call.attribute("axis", 1)
    if value.has_rows and value.axis == normalize_axis(axis, value.rank or 0):
        return unsure("%s has the rows among the channels" % call.at)
    return elementwise(call.at, value)


@rule("softmax_cross_entropy")
def cross_entropy(call: Call) -> Value:
    if call[1].tainted or (call[1].has_rows and not call[0].has_rows) or repeats(call[1]):
        return unsure("%s is not followed" % call.at, call.present)
    return computing.reduce(call.at, call[0], None, False)
