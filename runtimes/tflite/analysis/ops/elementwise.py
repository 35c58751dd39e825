"""Elementwise operators."""

from runtimes.dataflow import shaping
from runtimes.dataflow.arithmetic import OPERATORS, arithmetic, elementwise
from runtimes.dataflow.sizes import has_rows
from runtimes.dataflow.values import Value, unsure
from runtimes.dataflow.walk import Call

from ..file import TYPE
from ..operators import rule


@rule(
    """ABS ATAN2 BITWISE_XOR BUCKETIZE COMPLEX_ABS COS DENSIFY DEQUANTIZE ELU EXP FAKE_QUANT GELU HARD_SWISH
        IMAG LEAKY_RELU LOG LOGISTIC POW PRELU QUANTIZE REAL RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 RIGHT_SHIFT ROUND
        RSQRT SIGN SIN SQRT SQUARE SQUARED_DIFFERENCE TANH ZEROS_LIKE"""
)
def each_element(call: Call) -> Value:
    return elementwise(call.at, *call.present)


@rule("ADD_N")
def added(call: Call) -> Value:
    """ADD_N does not broadcast."""
    shapes = [value.dims for value in call.present if value.dims]
    if any(1 in sizes and any(map(has_rows, sizes)) for sizes in zip(*shapes)):
        return unsure("%s combines tensors of different sizes" % call.at, call.present)
    return elementwise(call.at, *call.present)


_ARITHMETIC = {
    "ADD": "add", "SUB": "subtract", "MUL": "multiply", "DIV": "divide", "FLOOR_DIV": "divide", "FLOOR_MOD": "modulo",
    "EQUAL": "equal", "LESS": "less", "GREATER": "greater", "LOGICAL_NOT": "not", "LOGICAL_AND": "and",
    "LOGICAL_OR": "or", "MAXIMUM": "maximum", "MINIMUM": "minimum", "FLOOR": "floor", "CEIL": "ceil",
    "NEG": "negative", "NOT_EQUAL": "not equal", "LESS_EQUAL": "less or equal", "GREATER_EQUAL": "greater or equal",
}  # fmt: skip
_FLOAT, _BOOL, _INTEGER = (0, 1, 10), (6,), (2, 3, 4, 7, 9, 12, 15, 16)  # values of schema.TensorType


@rule(*_ARITHMETIC)
def arithmetic_of(call: Call) -> Value:
    activated = call.attribute("FusedActivationFunction", 0)
    if activated:
        return elementwise(call.at, *call.present)
    return arithmetic(call.at, OPERATORS[_ARITHMETIC[call.node.operator]], *call.present)


@rule("CAST")
def cast(call: Call) -> Value:
    to = call.attribute(TYPE)
    kind = "boolean" if to in _BOOL else "float" if to in _FLOAT else "integer" if to in _INTEGER else ""
    return arithmetic(call.at, OPERATORS[kind], call[0]) if kind else elementwise(call.at, call[0])


@rule("SELECT", "SELECT_V2")
def select(call: Call) -> Value:
    condition, one, two = call[0], call[1], call[2]
    rank = one.rank
    if call.node.operator == "SELECT" and condition.rank == 1 and rank is not None and rank > 1:
        # SELECT accepts a vector as a condition, with one flag per element of the first dimension.
        if one.dims and condition.dims and has_rows(one.dims[0]) != has_rows(condition.dims[0]):
            return unsure("%s is not followed" % call.at, call.present)
        condition = shaping.unsqueeze(call.at, condition, range(1, rank))
    return arithmetic(call.at, OPERATORS["where"], condition, one, two)
