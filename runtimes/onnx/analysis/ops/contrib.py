"""Operators of ONNX Runtime's own domain."""

from typing import Any, Optional

from runtimes.dataflow import computing, shaping
from runtimes.dataflow.arithmetic import elementwise
from runtimes.dataflow.values import Value, mixed, propagate, repeats, unsure
from runtimes.dataflow.walk import Call

from ..operators import OPERATORS, rule

_MICROSOFT = "com.microsoft"

_EQUIVALENTS = {
    "Trilu": "Trilu", "QuantizeLinear": "QuantizeLinear", "DequantizeLinear": "DequantizeLinear", "Range": "Range",
    "Pad": "Pad", "Unique": "Unique", "GridSample": "GridSample", "LayerNormalization": "LayerNormalization",
    "SimplifiedLayerNormalization": "SimplifiedLayerNormalization", "Gelu": "Relu", "FastGelu": "Relu",
    "BiasGelu": "Relu", "QuickGelu": "Relu", "BiasAdd": "Relu", "FusedConv": "Conv", "FusedGemm": "Gemm",
}  # fmt: skip


def register_equivalents() -> None:
    """Register the operators that treat rows as a standard operator does."""
    for name, standard in _EQUIVALENTS.items():
        OPERATORS.rules[_MICROSOFT, name] = OPERATORS.rules["", standard]


@rule("FusedMatMul", "TransposeMatMul", domain=_MICROSOFT)
def fused_matmul(call: Call) -> Value:
    if call.attribute("transBatchA", 0) or call.attribute("transBatchB", 0):
        return unsure("%s is not followed" % call.at, call.present)
    sides = []
    for index, name in enumerate(("transA", "transB")):
        value = call[index]
        if call.attribute(name, 0) and value.dims is not None and len(value.dims) > 1:
            rank = len(value.dims)
            value = shaping.transpose(call.at, value, list(range(rank - 2)) + [rank - 1, rank - 2])
        sides.append(value)
    return computing.matmul(call.at, sides[0], sides[1])


@rule("DynamicQuantizeMatMul", "DynamicQuantizeLSTM", domain=_MICROSOFT)
def dynamic(call: Call) -> Any:
    count = len(call.node.outputs)
    if any(value.tainted for value in call.present):
        return [propagate(call.present)] * count
    if call[0].has_rows:
        return [mixed("%s takes one scale from all rows" % call.at)] * count
    return [unsure("%s is not followed" % call.at, call.present)] * count


@rule("MatMulIntegerToFloat", domain=_MICROSOFT)
def integer_to_float(call: Call) -> Value:
    others = [call.get(index) for index in range(2, 7)]
    given = [other for other in others if other is not None]
    if any(other.tainted for other in given):
        return propagate(call.present)
    if any(other.has_rows or repeats(other) for other in given):
        return unsure("%s is not followed" % call.at)
    return computing.matmul(call.at, call[0], call[1])


@rule("MatMulNBits", domain=_MICROSOFT)
def packed_matmul(call: Call) -> Value:
    value = call[0]
    if any(other.has_rows or other.tainted or repeats(other) for other in call.present[1:]):
        return unsure("%s is not followed" % call.at, call.present)
    return computing.along(call.at, value, [-1], "sums over", call.attribute("N"))


@rule("QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu", domain=_MICROSOFT)
def quantized_elements(call: Call) -> Value:
    binary = call.node.operator in ("QLinearAdd", "QLinearMul")
    operands = [call[0], call[3]] if binary else [call[0]]
    others = [value for value in call.present if not any(value is operand for operand in operands)]
    if any(other.has_rows or other.tainted or repeats(other) for other in others):
        return unsure("%s is not followed" % call.at, call.present)
    return elementwise(call.at, *operands)


@rule("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=_MICROSOFT)
def skip_normalization(call: Call) -> Any:
    total = elementwise(call.at, *call.present)
    result = computing.along(call.at, total, [-1], "normalizes over")
    statistic = computing.reduce(call.at, total, [-1], True)
    return [result, statistic, statistic, total][: len(call.node.outputs)]


_MASKS = {"Attention": 3, "QAttention": 5, "MultiHeadAttention": 4}  # which input the mask is


@rule("Attention", "QAttention", "MultiHeadAttention", domain=_MICROSOFT)
def attention(call: Call) -> Any:
    count = len(call.node.outputs)
    rank: Optional[int] = 3
    if call.node.operator == "MultiHeadAttention" and any(
        value is not None and value.has_rows != call[0].has_rows for value in call.inputs[1:3]
    ):
        return [unsure("%s is not followed" % call.at, call.present)] * count
    if count > 1 or call.get(4) is not None and call.node.operator == "Attention":
        rank = None  # cached keys and values have the rows in another dimension
    # A mask of lengths is a vector with one element per row. Other kinds of masks are not followed. A constant one has
    # as many rows as it has, or means something else for another number of rows.
    mask = call.get(_MASKS[call.node.operator])
    if mask is not None and not mask.has_rows:
        return [unsure("%s has a mask that is not followed" % call.at, call.present)] * count
    return computing.batch_first(call.at, call.present, [rank] * count)


@rule("EmbedLayerNormalization", domain=_MICROSOFT)
def embedding(call: Call) -> Any:
    return computing.batch_first(call.at, call.present, [3, 1, 3][: len(call.node.outputs)])


@rule("RotaryEmbedding", domain=_MICROSOFT)
def rotary(call: Call) -> Value:
    return computing.batch_first(call.at, call.present, [call[0].rank])[0]
