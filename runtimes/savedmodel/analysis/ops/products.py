"""Matrix products."""

from runtimes.dataflow import computing, shaping
from runtimes.dataflow.values import Value
from runtimes.dataflow.walk import Call

from ..operators import rule


def _turned(call: Call, value: Value, name: str) -> Value:
    if not call.attribute(name) or value.dims is None or len(value.dims) < 2:
        return value
    rank = len(value.dims)
    return shaping.transpose(call.at, value, [*range(rank - 2), rank - 1, rank - 2])


@rule("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
def matmul(call: Call) -> Value:
    one, two = ("transpose_a", "transpose_b") if call.node.operator == "MatMul" else ("adj_x", "adj_y")
    return computing.matmul(call.at, _turned(call, call[0], one), _turned(call, call[1], two))


@rule("Einsum")
def einsum(call: Call) -> Value:
    return computing.einsum(call.at, call.attribute("equation", ""), call.present)
