"""How OpenVINO's operators treat the rows of a batch."""

from typing import Any, List, Optional

from runtimes.dataflow import computing, indexing, orders, shaping
from runtimes.dataflow.arithmetic import OPERATORS as ARITHMETIC
from runtimes.dataflow.arithmetic import arithmetic, elementwise
from runtimes.dataflow.sizes import fresh, over
from runtimes.dataflow.values import MAX_CONTENTS, Value, as_rows, constant, mixed, propagate, unsure
from runtimes.dataflow.walk import Call, Operators

_FOLLOWS_SIZES = """
    ShapeOf Reshape Squeeze Unsqueeze Gather Concat Split VariadicSplit Broadcast Tile Slice Range Convert Identity Add
    Subtract Multiply Divide Maximum Minimum Equal Less Greater Select If Loop Interpolate TopK
"""
OPERATORS = Operators({}, sized=frozenset(_FOLLOWS_SIZES.split()))
rule = OPERATORS.rule

_ARITHMETIC = {
    "Add": "add", "Subtract": "subtract", "Multiply": "multiply", "Divide": "divide", "Maximum": "maximum",
    "Minimum": "minimum", "Equal": "equal", "Less": "less", "Greater": "greater", "Select": "where",
}  # fmt: skip


@rule(*_ARITHMETIC)
def arithmetic_of(call: Call) -> Value:
    return _pdpd(call) or arithmetic(call.at, ARITHMETIC[_ARITHMETIC[call.node.operator]], *call.present)


@rule(
    """Abs Acos Acosh Asin Asinh Atan Atanh BitwiseAnd BitwiseLeftShift BitwiseNot BitwiseOr
        BitwiseRightShift BitwiseXor Ceiling Clamp Cos Cosh Elu Erf Exp FakeQuantize Floor FloorMod Gelu
        GreaterEqual HSigmoid HSwish HardSigmoid IsFinite IsInf IsNaN LessEqual Log LogicalAnd LogicalNot
        LogicalOr LogicalXor Mish Mod Negative NotEqual Power Relu Round ReLU Selu Sigmoid Sign Sin Sinh
        SoftPlus SoftSign Sqrt SquaredDifference Swish Tan Tanh"""
)
def each_element(call: Call) -> Value:
    return _pdpd(call) or elementwise(call.at, *call.present)


def _pdpd(call: Call) -> Optional[Value]:
    """Return a tainted value if shapes are aligned from their first dimensions on, as PaddlePaddle does."""
    if call.attribute("auto_broadcast") != "pdpd" or len({value.rank for value in call.present}) == 1:
        return None
    return unsure("%s is not followed" % call.at, call.present)


@rule("Convert")
def convert(call: Call) -> Value:
    to = str(call.attribute("destination_type", ""))
    kind = "boolean" if to == "boolean" else "float" if to in ("f16", "f32", "f64") else "integer"
    return arithmetic(call.at, ARITHMETIC[kind], call[0])


@rule("Identity")
def identity(call: Call) -> Value:
    return call[0]


@rule("PRelu", "BatchNormInference")
def with_parameters(call: Call) -> Value:
    """Handle operators with one tensor of rows and constants for each channel."""
    values = [value for value in call.present if value.has_rows or value.tainted]
    if len(values) != 1 or values[0].axis == 1:
        return unsure("%s is not followed" % call.at, call.present)
    return elementwise(call.at, values[0])


@rule("ShapeOf")
def shape(call: Call) -> Value:
    return shaping.shape_of(call[0])


@rule("Reshape")
def reshape(call: Call) -> Value:
    return shaping.reshape(call.at, call[0], call[1], bool(call.attribute("special_zero")))


@rule("Transpose")
def transpose(call: Call) -> Value:
    order = call.list_of("order", 1)
    return (
        propagate([order, call[0]]) if isinstance(order, Value) else shaping.transpose(call.at, call[0], order or None)
    )


@rule("Squeeze", "Unsqueeze")
def squeeze(call: Call) -> Value:
    return shaping.squeeze_or_unsqueeze(call.at, call.node.operator, call[0], call.list_of("axes", 1))


@rule("Broadcast")
def broadcast(call: Call) -> Value:
    if call.attribute("mode") not in ("numpy", "bidirectional"):
        return unsure("%s is not followed" % call.at, call.present)
    return shaping.expand(call.at, call[0], call[1])


@rule("Tile")
def tile(call: Call) -> Value:
    return shaping.tile(call.at, call[0], call[1])


@rule("Range")
def sequence(call: Call) -> Value:
    numbers = [value.contents for value in call.present]
    if all(each is not None and isinstance(each[0], int) for each in numbers):
        made = range(*(int(each[0]) for each in numbers if each))  # such as all axes, for a reduction
        if len(made) <= MAX_CONTENTS:
            return constant([len(made)], made)
    return indexing.sequence(call.at, call[0], call[1], call[2])


@rule("Concat")
def concat(call: Call) -> Value:
    return indexing.concat(call.at, call.present, int(call.attribute("axis")))


@rule("Split", "VariadicSplit")
def split(call: Call) -> Any:
    count, axes, value = len(call.node.outputs), call.list_of("axis", 1), call[0]
    parts: Any = call.list_of("lengths", 2) if call.node.operator == "VariadicSplit" else None
    wrong = [each for each in (axes, parts) if isinstance(each, Value)]
    if wrong or value.dims is None:
        return [unsure("%s is not followed" % call.at, [value, *wrong])] * count
    axis = shaping.normalize_axis(int(axes[0]), len(value.dims))
    if parts is None or -1 in parts:
        parts = [over(value.dims[axis], count) if parts is None else None] * count
    return indexing.split(call.at, value, axis, parts)


@rule("Slice")
def take_slice(call: Call) -> Value:
    value, numbers = call[0], [call.list_of("bounds", index) for index in range(1, 5)]
    bounds = call.present[1:]
    if value.tainted or any(bound.tainted for bound in bounds):
        return propagate(call.present)
    if any(bound.has_rows for bound in bounds):
        return mixed("%s has bounds that depend on values of the batch" % call.at)
    starts, ends, steps, axes = (None if isinstance(each, Value) else each for each in numbers)
    count = (bounds[0].dims or (None,))[0]
    if not isinstance(count, int) or (call.get(4) is not None and axes is None):
        return unsure("%s has axes that are not followed" % call.at)
    for index in range(count):
        start, end, step = (each[index] if each else None for each in (starts, ends, steps))
        value = indexing.take_slice(call.at, value, axes[index] if axes else index, start, end, step)
    return value


@rule("Gather")
def gather(call: Call) -> Value:
    axis = call.list_of("axis", 2)
    if isinstance(axis, Value) or int(call.attribute("batch_dims", 0)):
        return unsure("%s is not followed" % call.at, call.present)
    return indexing.gather(call.at, call[0], call[1], int(axis[0]))


@rule("GatherElements")
def gather_elements(call: Call) -> Value:
    return indexing.gather_elements(call.at, call[0], call[1], int(call.attribute("axis")))


@rule("GatherND")
def gather_nd(call: Call) -> Value:
    return indexing.gather_nd(call.at, call[0], call[1], int(call.attribute("batch_dims", 0)))


@rule("Pad")
def pad(call: Call) -> Value:
    before, after = call.list_of("begin", 1), call.list_of("end", 2)
    if isinstance(before, Value) or isinstance(after, Value):
        return unsure("%s is not followed" % call.at, call.present)
    return indexing.pad(call.at, call[0], list(zip(before, after)))


@rule("ReverseSequence")
def reverse_sequence(call: Call) -> Value:
    return orders.reverse_sequence(
        call.at, call[0], call[1], int(call.attribute("seq_axis")), int(call.attribute("batch_axis"))
    )


@rule("MatMul")
def matmul(call: Call) -> Value:
    sides: List[Value] = []
    for index, name in enumerate(("transpose_a", "transpose_b")):
        value = call[index]
        if call.attribute(name) and value.dims is not None and len(value.dims) > 1:
            rank = len(value.dims)
            value = shaping.transpose(call.at, value, list(range(rank - 2)) + [rank - 1, rank - 2])
        sides.append(value)
    return computing.matmul(call.at, sides[0], sides[1])


@rule("Einsum")
def einsum(call: Call) -> Value:
    return computing.einsum(call.at, str(call.attribute("equation")), call.present)


@rule("""ReduceL1 ReduceL2 ReduceLogicalAnd ReduceLogicalOr ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum""")
def reduce(call: Call) -> Value:
    axes = call.list_of("axes", 1)
    if isinstance(axes, Value):
        return unsure("%s has axes that are not followed" % call.at, call.present)
    return computing.reduce(call.at, call[0], axes, bool(call.attribute("keep_dims")))


@rule("CumSum", "MVN", "NormalizeL2")
def along(call: Call) -> Value:
    axes = call.list_of("axes", 1)
    if axes is None or isinstance(axes, Value):
        return unsure("%s has axes that are not followed" % call.at, call.present)
    return computing.along(call.at, call[0], axes, "sums over" if call.node.operator == "CumSum" else "normalizes over")


@rule("Softmax", "LogSoftmax")
def softmax(call: Call) -> Value:
    return computing.along(call.at, call[0], [int(call.attribute("axis"))], "normalizes over")


@rule("TopK")
def top_k(call: Call) -> Any:
    count = call.list_of("k", 1)
    if isinstance(count, Value):
        return [propagate([call[0], count])] * 2
    return [computing.along(call.at, call[0], [int(call.attribute("axis"))], "sorts", count[0])] * 2


@rule("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData")
def convolution(call: Call) -> Value:
    return computing.windows(call.at, call[0], None, None, call.present[1:])


@rule("AvgPool", "MaxPool", "AdaptiveAvgPool", "AdaptiveMaxPool")
def pool(call: Call) -> Any:
    value = call[0]
    if value.dims is None or value.axis == 1:
        return [unsure("%s is not followed" % call.at, call.present)] * 2
    # The indices of the maxima count over all rows.
    indices = unsure("%s returns indices that count over all rows" % call.at, [value])
    return [computing.windows(call.at, value, value.dims[1], None), indices]


@rule("Interpolate")
def interpolate(call: Call) -> Value:
    by_scales, value = call.attribute("shape_calculation_mode") == "scales", call[0]
    old = call.attribute("version") == "opset4"  # which has both sizes and scales
    target, axes = call[2 if old and by_scales else 1].contents, call.list_of("axes", 3 if old else 2)
    if value.tainted or value.dims is None or target is None or isinstance(axes, Value):
        return unsure("%s is not followed" % call.at, call.present)
    axes = [shaping.normalize_axis(axis, len(value.dims)) for axis in axes or range(len(value.dims))]
    changed = [axis for axis, size in zip(axes, target) if size != (1 if by_scales else value.dims[axis])]
    if value.axis in changed:
        return unsure("%s is not followed" % call.at, call.present)
    return computing.along(call.at, value, changed, "resizes", None)


@rule("LSTMSequence", "GRUSequence", "RNNSequence")
def recurrent(call: Call) -> Any:
    value = call[0]
    if value.axis == 1:
        return [mixed("%s runs from row to row, as over time" % call.at, call.present)] * 3
    given = [as_rows(each) or each for each in call.present]
    return computing.batch_first(call.at, given, [4, 3, 3][: len(call.node.outputs)])


@rule("DepthToSpace", "SpaceToDepth", "ShuffleChannels")
def blocks(call: Call) -> Value:
    return computing.batch_first(call.at, call.present, [call[0].rank])[0]


@rule("OneHot")
def one_hot(call: Call) -> Value:
    if call.not_constant(call.present[1:]) is not None:
        return unsure("%s is not followed" % call.at, call.present)
    axis, value = int(call.attribute("axis")), call[0]._replace(contents=None)
    added = shaping.unsqueeze(call.at, value, [axis])
    return added if added.tainted else computing.along(call.at, added, [axis], "writes along", fresh())


@rule("If", "Loop")
def by_value(call: Call) -> Any:
    count = len(call.node.outputs)
    for value in call.inputs[: 1 if call.node.operator == "If" else 2]:
        if value is not None and (value.mixes or value.has_rows):
            return [mixed("%s depends on values of the batch" % call.at, [value])] * count
    return [unsure("%s is not followed" % call.at, call.present)] * count
