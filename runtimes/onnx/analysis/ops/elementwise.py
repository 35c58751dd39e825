"""Elementwise operators, constants and conversions."""

from typing import Any

from runtimes.dataflow.arithmetic import OPERATORS, arithmetic, elementwise
from runtimes.dataflow.values import Value, constant, mixed, propagate, repeats, unsure
from runtimes.dataflow.walk import Call, of_tensor

from ..operators import rule


@rule(
    """Abs Acos Acosh Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Celu Clip Cos Cosh
        Elu Erf Exp Gelu HardSigmoid HardSwish IsInf IsNaN LeakyRelu Log Mish PRelu Pow Reciprocal Relu
        Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sum Swish Tan Tanh ThresholdedRelu Xor Mean
        ParametricSoftplus ScaledTanh Affine StringConcat RegexFullMatch"""
)
def each_element(call: Call) -> Value:
    return elementwise(call.at, *call.present)


_ARITHMETIC = {
    "Add": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide", "Equal": "equal", "Less": "less",
    "Greater": "greater", "Not": "not", "And": "and", "Or": "or", "Max": "maximum", "Min": "minimum", "Mod": "modulo",
    "Where": "where", "Floor": "floor", "Ceil": "ceil", "Neg": "negative", "LessOrEqual": "less or equal",
    "GreaterOrEqual": "greater or equal",
}  # fmt: skip


@rule(*_ARITHMETIC)
def arithmetic_of(call: Call) -> Value:
    return arithmetic(call.at, OPERATORS[_ARITHMETIC[call.node.operator]], *call.present)


@rule("Identity")
def identity(call: Call) -> Value:
    return call[0]


@rule("Cast")
def cast(call: Call) -> Value:
    to = call.attribute("to")
    kind = {9: "boolean", 1: "float", 10: "float", 11: "float"}.get(to, "integer" if to in range(2, 14) else "")
    return arithmetic(call.at, OPERATORS[kind], call[0]) if kind and to != 8 else elementwise(call.at, call[0])


@rule("CastLike")
def cast_like(call: Call) -> Value:
    return elementwise(call.at, call[0])


@rule("Constant")
def constant_node(call: Call) -> Value:
    for name, value in call.node.attributes.items():
        if name == "value" and value:
            return of_tensor(value)
        if name in ("value_int", "value_float"):
            return constant([], [value])
        if name in ("value_ints", "value_floats"):
            return constant([len(value)], value)
        if name == "value_string":
            return constant([])
        if name == "value_strings":
            return constant([len(value)])
    return constant()


@rule("QuantizeLinear", "DequantizeLinear")
def quantize(call: Call) -> Value:
    return call.not_constant(call.inputs[1:]) or elementwise(call.at, call[0])


@rule("DynamicQuantizeLinear")
def dynamic_quantize(call: Call) -> Any:
    value = call[0]
    if value.tainted:
        return [propagate([value], value.dims), propagate([value], []), propagate([value], [])]
    if not value.has_rows and not repeats(value):
        return [constant(value.dims), constant([]), constant([])]
    reason = "%s takes one scale from all rows" % call.at
    return [mixed(reason, dims=value.dims), mixed(reason, dims=[]), mixed(reason, dims=[])]


@rule("Dropout")
def dropout(call: Call) -> Any:
    training = call.get(2) if call.version >= 12 else None
    result = [elementwise(call.at, call[0]), elementwise(call.at, call[0])]
    if training is None or (training.contents and not training.contents[0]):
        return result
    if training.contents and training.contents[0]:
        return [mixed("%s is random" % call.at, call.present)] * 2
    return [unsure("%s may be random" % call.at, call.present)] * 2
