"""Operators of ONNX Runtime's own domain on quantized tensors: those that its quantization tool writes.

Each tensor comes with a scale and a zero point, which are constants.
"""

from typing import Any

from runtimes.dataflow import computing, indexing
from runtimes.dataflow.arithmetic import elementwise
from runtimes.dataflow.values import Value, unsure
from runtimes.dataflow.walk import Call

from ..operators import rule

_MICROSOFT = "com.microsoft"


@rule("QGemm", domain=_MICROSOFT)
def gemm(call: Call) -> Value:
    wrong = call.not_constant([call.get(index) for index in (1, 2, 4, 5, 7, 8)])
    transposed = [bool(call.attribute(name, 0)) for name in ("transA", "transB")]
    return wrong or computing.gemm(call.at, call[0], call[3], call.get(6), transposed[0], transposed[1])


@rule("QLinearConcat", domain=_MICROSOFT)
def concat(call: Call) -> Value:
    values, others = call.inputs[2::3], call.inputs[:2] + call.inputs[3::3] + call.inputs[4::3]
    wrong = call.not_constant(others)
    return wrong or indexing.concat(call.at, [each for each in values if each is not None], call.attribute("axis"))


@rule("QLinearWhere", domain=_MICROSOFT)
def where(call: Call) -> Value:
    wrong = call.not_constant([call.get(index) for index in (2, 3, 5, 6, 7, 8)])
    return wrong or elementwise(call.at, call[0], call[1], call[4])


@rule("QLinearSoftmax", domain=_MICROSOFT)
def softmax(call: Call) -> Value:
    axis, rank = call.attribute("axis", -1), call[0].rank
    if rank is None:
        return unsure("%s works on a tensor of unknown rank" % call.at, call.present)
    # Before opset 13, it normalizes over all dimensions from this one on.
    axes: Any = [axis] if call.attribute("opset", 13) >= 13 else range(axis + rank if axis < 0 else axis, rank)
    return call.not_constant(call.inputs[1:]) or computing.along(call.at, call[0], axes, "normalizes over")


@rule("QLinearGlobalAveragePool", "QLinearAveragePool", domain=_MICROSOFT)
def pool(call: Call) -> Value:
    value, last = call[0], call.attribute("channels_last", 0)
    wrong = call.not_constant(call.inputs[1:])
    if wrong is not None:
        return wrong
    if value.rank is None:
        return unsure("%s works on a tensor of unknown rank" % call.at, call.present)
    if call.node.operator == "QLinearGlobalAveragePool":
        return computing.reduce(call.at, value, range(1, value.rank - 1) if last else range(2, value.rank), True)
    if last or value.axis == 1:
        return unsure("%s is not followed" % call.at, call.present)
    assert value.dims is not None
    return computing.windows(call.at, value, value.dims[1], None)
