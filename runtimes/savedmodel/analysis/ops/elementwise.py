"""Elementwise operators, constants and conversions."""

from typing import Any

from runtimes.dataflow import shaping
from runtimes.dataflow.arithmetic import OPERATORS, arithmetic, elementwise
from runtimes.dataflow.values import Value, constant, mixed, propagate, repeats, unsure
from runtimes.dataflow.walk import Call, of_tensor

from ..operators import TABLE, is_a, marked, rule


@rule(
    """Abs Acos Acosh Angle ApproximateEqual AsString Asin Asinh Atan Atan2 Atanh BesselI0 BesselI0e BesselI1 BesselI1e
    Betainc BitwiseAnd BitwiseOr BitwiseXor Bucketize CheckNumerics CheckNumericsV2 Complex ComplexAbs Conj Cos Cosh
    DecodeBase64 Digamma DivNoNan Elu EncodeBase64 Erf Erfc Erfinv Exp Expm1 FakeQuantWithMinMaxArgs Igamma Igammac
    Imag Inv Invert IsFinite IsInf IsNan LeakyRelu LeftShift Lgamma Log Log1p MulNoNan Ndtri NextAfter
    Polygamma Pow Real Reciprocal RegexFullMatch Relu Relu6 RightShift Rint Round Rsqrt Selu Sigmoid Sign Sin
    Sinh Softplus Softsign Sqrt Square SquaredDifference StaticRegexFullMatch StaticRegexReplace StringJoin StringLength
    StringLower StringStrip StringToHashBucket StringToHashBucketFast StringToHashBucketStrong StringToNumber
    StringUpper Substr Tan Tanh TruncateMod UnicodeScript UnicodeTranscode Xdivy Xlog1py Xlogy Zeta"""
)
def each_element(call: Call) -> Value:
    return elementwise(call.at, *call.present)


_ARITHMETIC = {
    "Add": "add", "AddV2": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide", "RealDiv": "divide",
    "FloorDiv": "divide", "TruncateDiv": "divide", "FloorMod": "modulo", "Mod": "modulo", "Equal": "equal",
    "Less": "less", "Greater": "greater", "LogicalNot": "not", "LogicalAnd": "and", "LogicalOr": "or",
    "Maximum": "maximum", "Minimum": "minimum", "SelectV2": "where", "Floor": "floor", "Ceil": "ceil",
    "Neg": "negative", "NotEqual": "not equal", "LessEqual": "less or equal", "GreaterEqual": "greater or equal",
}  # fmt: skip


@rule(*_ARITHMETIC)
def arithmetic_of(call: Call) -> Value:
    return arithmetic(call.at, OPERATORS[_ARITHMETIC[call.node.operator]], *call.present)


@rule("AddN", "AccumulateNV2")
def add_all(call: Call) -> Value:
    result = call[0]
    for value in call.present[1:]:
        result = arithmetic(call.at, OPERATORS["add"], result, value)
    return result


@rule("Select")
def select(call: Call) -> Value:
    """A condition with one dimension selects whole slices of operands with more dimensions."""
    condition, one, two = call[0], call[1], call[2]
    rank = one.rank if one.rank is not None else two.rank
    if condition.rank is None or rank is None:
        return unsure("%s has operands of unknown rank" % call.at, call.present)
    if condition.rank == 1 and rank > 1:
        condition = shaping.unsqueeze(call.at, condition._replace(contents=None), range(1, rank))
        return elementwise(call.at, condition, one, two)
    return arithmetic(call.at, OPERATORS["where"], condition, one, two)


@rule("ClipByValue")
def clip(call: Call) -> Value:
    return arithmetic(
        call.at, OPERATORS["minimum"], arithmetic(call.at, OPERATORS["maximum"], call[0], call[1]), call[2]
    )


@rule(
    """Identity StopGradient PreventGradient Snapshot EnsureShape ReadVariableOp DeepCopy DebugIdentity DebugIdentityV2
    DebugIdentityV3 DisableCopyOnRead"""
)
def identity(call: Call) -> Value:
    # The handle of a variable is represented by the variable's value. The handle of a table cannot be read.
    if call.node.operator == "ReadVariableOp" and is_a(call[0], TABLE):
        return constant()
    return call[0]


@rule("IdentityN")
def identities(call: Call) -> Any:
    return [value if value is not None else unsure("%s lacks a value" % call.at) for value in call.inputs]


@rule("PlaceholderWithDefault")
def default(call: Call) -> Value:
    """A placeholder that is not fed has its default."""
    return call[0]


@rule("GuaranteeConst")
def guaranteed(call: Call) -> Value:
    return call[0]


@rule("Cast")
def cast(call: Call) -> Value:
    to = call.attribute("DstT")
    kind = {10: "boolean", 1: "float", 2: "float", 14: "float", 19: "float"}.get(to, "")
    kind = kind or ("integer" if to in (3, 4, 5, 6, 9, 17, 22, 23) else "")
    return arithmetic(call.at, OPERATORS[kind], call[0]) if kind else elementwise(call.at, call[0])


@rule("Const")
def constant_node(call: Call) -> Value:
    return of_tensor(call.attribute("value"))


@rule("VarHandleOp", "Variable", "VariableV2")
def variable(call: Call) -> Value:
    shape = call.attribute("shape")
    return constant() if shape is None or None in shape else constant(shape)


@rule("HashTable", "HashTableV2", "MutableHashTable", "MutableHashTableV2")
def table(call: Call) -> Value:
    return marked(TABLE)


@rule("LookupTableFind", "LookupTableFindV2")
def lookup(call: Call) -> Value:
    if not is_a(call[0], TABLE):
        return unsure("%s may give several values for each key" % call.at, call.present)
    if call[2].tainted or call[2].has_rows or repeats(call[2]):
        return unsure("%s is not followed" % call.at, call.present)
    return elementwise(call.at, call[1])


@rule("LookupTableSize", "LookupTableSizeV2")
def table_size(call: Call) -> Value:
    return constant([])


@rule("BiasAdd", "BiasAddV1")
def bias(call: Call) -> Value:
    value, rank = call[0], call[0].rank
    wrong = call.not_constant(call.inputs[1:])
    if wrong is not None:
        return wrong
    last = call.attribute("data_format", "NHWC") != "NCHW"
    if value.has_rows and (rank is None or value.axis == (rank - 1 if last else 1)):
        return unsure("%s adds to the dimension with the rows" % call.at)
    return elementwise(call.at, value)


@rule("FakeQuantWithMinMaxVars")
def fake_quantization(call: Call) -> Value:
    return call.not_constant(call.inputs[1:]) or elementwise(call.at, call[0])


@rule("FakeQuantWithMinMaxVarsPerChannel")
def fake_quantization_per_channel(call: Call) -> Value:
    if call[0].axis is not None and call[0].axis == len(call[0].dims or ()) - 1:
        return unsure("%s has a scale for each row" % call.at)
    return call.not_constant(call.inputs[1:]) or elementwise(call.at, call[0])


@rule("QuantizeAndDequantizeV2", "QuantizeAndDequantizeV3", "QuantizeAndDequantizeV4")
def quantization(call: Call) -> Value:
    value = call[0]
    if value.tainted:
        return propagate([value], value.dims)
    if call.attribute("axis", -1) not in (-1, None):
        return unsure("%s is not followed" % call.at, call.present)
    if not call.attribute("range_given"):
        if value.has_rows:
            return mixed("%s computes one scale from all rows" % call.at, dims=value.dims)
        return unsure("%s is not followed" % call.at) if repeats(value) else constant(value.dims)
    return call.not_constant(call.inputs[1:]) or elementwise(call.at, value)


@rule("Placeholder")
def placeholder(call: Call) -> Value:
    """A placeholder that is not fed makes the run fail."""
    return unsure("%s is not given" % call.at)
