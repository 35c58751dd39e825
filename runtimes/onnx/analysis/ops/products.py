"""Matrix products."""

from runtimes.dataflow import computing
from runtimes.dataflow.values import Value
from runtimes.dataflow.walk import Call

from ..operators import rule


@rule("Gemm")
def gemm(call: Call) -> Value:
    transposed = [bool(call.attribute(name, 0)) for name in ("transA", "transB")]
    return computing.gemm(call.at, call[0], call[1], call.get(2), transposed[0], transposed[1])


@rule("MatMul")
def matmul(call: Call) -> Value:
    return computing.matmul(call.at, call[0], call[1])


@rule("MatMulInteger")
def matmul_integer(call: Call) -> Value:
    return call.not_constant(call.inputs[2:]) or computing.matmul(call.at, call[0], call[1])


@rule("QLinearMatMul")
def quantized_matmul(call: Call) -> Value:
    others = [call.get(index) for index in (1, 2, 4, 5, 6, 7)]
    return call.not_constant(others) or computing.matmul(call.at, call[0], call[3])


@rule("Einsum")
def einsum(call: Call) -> Value:
    return computing.einsum(call.at, call.attribute("equation", ""), call.present)
