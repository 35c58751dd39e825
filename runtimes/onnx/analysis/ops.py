"""What each operator of ONNX does to the rows; of ONNX Runtime's own ones see `ops_extra`."""

from typing import Any, Callable, List, Optional, Sequence, Tuple

from runtimes.dataflow import computing, indexing, shaping
from runtimes.dataflow.arithmetic import OPERATORS, arithmetic, elementwise
from runtimes.dataflow.shaping import placed
from runtimes.dataflow.sizes import ROWS, Size, fresh, has_rows, over, times
from runtimes.dataflow.values import Value, constant, mixed, repeats, rows, spread, unsure
from runtimes.onnx.analysis.walk import Call, either, loop, of_tensor, scan

Rule = Callable[[Call], Any]
RULES = {}  # type: Dict[Tuple[str, str], Rule]


def rule(*names: str, domain: str = "") -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        for name in names:
            RULES[domain, name] = function
        return function

    return register


def names(text: str) -> List[str]:
    return text.split()


def _besides(call: Call, others: Sequence[Optional[Value]]) -> Optional[Value]:
    """What is wrong with operands that have to be constants; None where nothing is."""
    given = [other for other in others if other is not None]
    if any(other.tainted for other in given):
        return spread(call.present)
    if any(other.has_rows or repeats(other) for other in given):
        return unsure("%s has parameters that depend on the inputs" % call.at)
    return None


@rule(
    *names(
        """Abs Acos Acosh Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Celu Clip Cos Cosh
        Elu Erf Exp Gelu HardSigmoid HardSwish IsInf IsNaN LeakyRelu Log Mish PRelu Pow Reciprocal Relu
        Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sum Swish Tan Tanh ThresholdedRelu Xor Mean
        ParametricSoftplus ScaledTanh Affine StringConcat RegexFullMatch"""
    )
)
def each_element(call: Call) -> Value:
    return elementwise(call.at, *call.present)


_ARITHMETIC = {
    "Add": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide", "Equal": "equal", "Less": "less",
    "Greater": "greater", "Not": "not", "And": "and", "Or": "or", "Max": "maximum", "Min": "minimum", "Mod": "modulo",
    "Where": "where", "Floor": "floor", "Ceil": "ceil",
}  # fmt: skip


@rule(*_ARITHMETIC)
def arithmetic_of(call: Call) -> Value:
    return arithmetic(call.at, OPERATORS[_ARITHMETIC[call.node.operator]], *call.present)


@rule("LessOrEqual", "GreaterOrEqual")
def less_or_equal(call: Call) -> Value:
    opposite = OPERATORS["greater" if call.node.operator == "LessOrEqual" else "less"]

    def operator(one: Any, two: Any) -> Any:
        result = opposite(one, two)
        return None if result is None else not result

    return arithmetic(call.at, operator, *call.present)


@rule("Neg")
def negative(call: Call) -> Value:
    return arithmetic(call.at, lambda one: OPERATORS["multiply"](one, -1), call[0])


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


# ---------------------------------------------------------------- shapes


@rule("Shape")
def shape(call: Call) -> Value:
    return shaping.shape_of(call[0], call.attribute("start"), call.attribute("end"))


@rule("Size")
def size(call: Call) -> Value:
    dims = call[0].dims
    return constant([], [times(*dims)]) if dims is not None else shaping.shape_of(call[0])._replace(dims=())


@rule("Reshape")
def reshape(call: Call) -> Value:
    return shaping.reshape(call.at, call[0], call[1], not call.attribute("allowzero", 0))


@rule("Flatten")
def flatten(call: Call) -> Value:
    return shaping.flatten(call.at, call[0], call.attribute("axis", 1))


@rule("Transpose")
def transpose(call: Call) -> Value:
    return shaping.transpose(call.at, call[0], call.attribute("perm"))


@rule("Squeeze", "Unsqueeze")
def squeeze(call: Call) -> Value:
    axes = call.list_of("axes", 1)
    if isinstance(axes, Value):
        return spread([axes, call[0]])
    if call.node.operator == "Squeeze":
        return shaping.squeeze(call.at, call[0], axes)
    return shaping.unsqueeze(call.at, call[0], axes)


@rule("Expand")
def expand(call: Call) -> Value:
    return shaping.expand(call.at, call[0], call[1])


@rule("Tile")
def tile(call: Call) -> Value:
    return shaping.tile(call.at, call[0], call[1])


@rule("ConstantOfShape")
def constant_of_shape(call: Call) -> Value:
    result = shaping.filled(call[0])
    fill = call.attribute("value")
    count = times(*(result.dims or ())) if result.dims is not None and not result.tainted else None
    if isinstance(count, int) and count <= 64:
        number = fill.contents[0] if fill is not None and fill.contents else 0.0 if fill is None else None
        return constant(result.dims, [number] * count)
    return result


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


@rule("Range")
def sequence(call: Call) -> Value:
    return indexing.sequence(call.at, call[0], call[1], call[2])


@rule("Concat")
def concat(call: Call) -> Value:
    return indexing.concat(call.at, call.present, call.attribute("axis", 0))


@rule("Split")
def split(call: Call) -> Any:
    parts = call.list_of("split", 1)
    count = len(call.node.outputs)
    if isinstance(parts, Value):
        return [spread([parts, call[0]])] * count
    axis = call.attribute("axis", 0)
    if not parts:
        dims = call[0].dims
        whole = dims[placed(axis, len(dims))] if dims else None
        parts = _equal_parts(whole, call.attribute("num_outputs") or count)
    return indexing.split(call.at, call[0], axis, parts[:count] if len(parts) >= count else [None] * count)


def _equal_parts(whole: Any, count: int) -> List[Optional[Size]]:
    share = over(whole, count) if whole is not None else None
    if share is None and isinstance(whole, int):
        each = -(-whole // count)
        return [each] * (count - 1) + [whole - each * (count - 1)]
    return [share] * count


@rule("Slice")
def take_slice(call: Call) -> Value:
    found = [call.get(place) for place in range(1, 5)]
    if call.version < 10:
        attributes = [call.attribute(name) for name in ("starts", "ends", "axes")]
        found = [None if each is None else constant([len(each)], each) for each in attributes] + [None]
    starts, ends, axes, steps = found
    if starts is None or ends is None:
        raise ValueError("a slice without bounds")
    bounds = [bound for bound in found if bound is not None]
    value = call[0]
    if any(bound.tainted for bound in bounds) or value.tainted:
        return spread([value] + bounds)
    if any(bound.has_rows for bound in bounds):
        return mixed("%s cuts where values say" % call.at)
    count = (starts.dims or ends.dims or (None,))[0]
    if not isinstance(count, int) or (axes is not None and axes.contents is None):
        return unsure("%s has axes that are not followed" % call.at)
    places = range(count) if axes is None else axes.contents
    for index, axis in enumerate(places or ()):
        start, end = (bound.contents[index] if bound.contents else None for bound in (starts, ends))
        step = 1 if steps is None else steps.contents[index] if steps.contents else None
        value = indexing.take_slice(call.at, value, axis, start, end, step)
    return value


@rule("Gather")
def gather(call: Call) -> Value:
    return indexing.gather(call.at, call[0], call[1], call.attribute("axis", 0))


@rule("GatherElements")
def gather_elements(call: Call) -> Value:
    return indexing.gather_elements(call.at, call[0], call[1], call.attribute("axis", 0))


@rule("GatherND")
def gather_nd(call: Call) -> Value:
    return indexing.gather_nd(call.at, call[0], call[1], call.attribute("batch_dims", 0))


@rule("ScatterElements", "Scatter")
def scatter_elements(call: Call) -> Value:
    return indexing.scatter_elements(call.at, call[0], call[1], call[2], call.attribute("axis", 0))


@rule("ScatterND")
def scatter_nd(call: Call) -> Value:
    if any(value.has_rows or value.tainted or repeats(value) for value in call.present):
        # Also where the places come from NonZero, as exporters write masks, each row may be written for itself.
        return unsure("%s writes values in a way that is not followed" % call.at)
    return constant(call[0].dims)


@rule("Pad")
def pad(call: Call) -> Value:
    amounts, axes = call.list_of("pads", 1), call.list_of("axes", 3)
    if isinstance(amounts, Value) or isinstance(axes, Value):
        known = call.get(1)
        if known is not None and not (known.tainted or known.has_rows or repeats(known)) and not axes:
            return indexing.pad(call.at, call[0], _partly(known))
        return spread([each for each in (amounts, axes, call[0]) if isinstance(each, Value)])
    value = call[0]
    if value.dims is None:
        return indexing.pad(call.at, value, None)
    rank, count = len(value.dims), len(amounts) // 2
    pairs = [(0, 0)] * rank  # type: List[Tuple[Any, Any]]
    for index, axis in enumerate(range(rank) if axes is None else axes):
        pairs[placed(axis, rank)] = (amounts[index], amounts[index + count])
    return indexing.pad(call.at, value, pairs)


def _partly(amounts: Value) -> Optional[List[Tuple[Any, Any]]]:
    """Amounts of which some are not known."""
    if amounts.contents is None:
        return None
    half = len(amounts.contents) // 2
    return list(zip(amounts.contents[:half], amounts.contents[half:]))


@rule("OneHot")
def one_hot(call: Call) -> Value:
    indices, depth = call[0], call[1]
    if depth.tainted or depth.has_rows or repeats(depth):
        return unsure("%s has a depth that is not followed" % call.at, call.present)
    added = shaping.unsqueeze(call.at, indices._replace(contents=None), [call.attribute("axis", -1)])
    if added.tainted or added.dims is None:
        return added
    place = placed(call.attribute("axis", -1), len(added.dims))
    number = depth.contents[0] if depth.contents and isinstance(depth.contents[0], int) else fresh()
    return added._replace(dims=added.dims[:place] + (number,) + added.dims[place + 1 :])


@rule("DepthToSpace", "SpaceToDepth", "Col2Im")
def blocks(call: Call) -> Value:
    rank = len(call[0].dims or ())
    return computing.batch_first(call.at, call.present, [4 if call.node.operator != "Col2Im" else rank + 1])[0]


@rule("CenterCropPad")
def crop(call: Call) -> Value:
    value, axes = call[0], call.attribute("axes")
    if value.dims is None or call[1].tainted or call[1].has_rows or repeats(call[1]):
        return unsure("%s is not followed" % call.at, call.present)
    return computing.along(call.at, value, range(len(value.dims)) if axes is None else axes, "cuts", None)


@rule("EyeLike")
def eye(call: Call) -> Value:
    value = call[0]
    if value.has_rows or value.tainted or repeats(value):
        return unsure("%s numbers the rows" % call.at, call.present)
    return constant(value.dims)


@rule("Trilu")
def triangle(call: Call) -> Value:
    return (
        computing.along(call.at, call[0], [-2, -1], "goes by the place among")
        if len(call.present) == 1
        else (
            spread(call.present)
            if any(each.tainted for each in call.present)
            else computing.along(call.at, call[0], [-2, -1], "goes by the place among")
            if not (call[1].has_rows or repeats(call[1]))
            else unsure("%s is not followed" % call.at)
        )
    )


@rule("ReverseSequence")
def reverse_sequence(call: Call) -> Value:
    value, lengths = call[0], call[1]
    batch, time = call.attribute("batch_axis", 1), call.attribute("time_axis", 0)
    if value.tainted or lengths.tainted:
        return spread(call.present)
    if value.axis == time:
        return mixed("%s reverses the rows" % call.at)
    if not value.has_rows and not lengths.has_rows and not repeats(value) and not repeats(lengths):
        return constant(value.dims)
    if value.axis != batch or (value.before, value.after) != (1, 1):
        return unsure("%s is not followed" % call.at)
    if lengths.has_rows and (lengths.before, lengths.after) != (1, 1):
        return unsure("%s is not followed" % call.at)
    if not lengths.has_rows and lengths.dims != (ROWS,):
        return unsure("%s is not followed" % call.at)
    return value


# ---------------------------------------------------------------- counts, random numbers, control


@rule("NonZero", "Unique", "NonMaxSuppression")
def counted(call: Call) -> Any:
    count = len(call.node.outputs)
    if any(value.tainted for value in call.present):
        return [spread(call.present)] * count
    if any(value.has_rows or repeats(value) for value in call.present):
        return [mixed("%s finds as many as values say, in all rows" % call.at)] * count
    return [constant([call[0].rank or fresh(), fresh()] if call.node.operator == "NonZero" else None)] * count


@rule("Compress")
def compress(call: Call) -> Value:
    value, kept, axis = call[0], call[1], call.attribute("axis")
    if value.tainted or kept.tainted:
        return spread([value, kept])
    if kept.has_rows or axis is None and value.has_rows:
        return mixed("%s keeps as many as values say" % call.at)
    if repeats(kept) or repeats(value) or axis is None:
        return (
            constant([fresh()]) if not repeats(kept) and not repeats(value) else unsure("%s is not followed" % call.at)
        )
    return computing.along(call.at, value, [axis], "takes some of", None)


@rule("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli")
def random(call: Call) -> Value:
    if call.attribute("seed") is not None:
        call.walk.writes.append("%s advances its generator" % call.at)
    return mixed("%s is random" % call.at, call.present)


@rule("Dropout")
def dropout(call: Call) -> Any:
    training = call.get(2) if call.version >= 12 else None
    result = [elementwise(call.at, call[0]), elementwise(call.at, call[0])]
    if training is None or (training.contents and not training.contents[0]):
        return result
    if training.contents and training.contents[0]:
        return [mixed("%s is random" % call.at, call.present)] * 2
    return [unsure("%s may be random" % call.at, call.present)] * 2


RULES["", "If"] = either
RULES["", "Loop"] = loop
RULES["", "Scan"] = scan

# ---------------------------------------------------------------- along dimensions


@rule(*names("ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum"),
      "ReduceSumSquare")  # fmt: skip
def reduce(call: Call) -> Value:
    value, axes = call[0], call.list_of("axes", 1)
    if isinstance(axes, Value):
        return unsure("%s has axes that are not followed" % call.at, [value, axes])
    if not axes:
        if call.attribute("noop_with_empty_axes", 0):
            return elementwise(call.at, value)
        axes = None
    if call.node.operator == "ReduceProd" and value.contents is not None and len(value.dims or ()) == 1:
        product = 1  # type: Any
        for element in value.contents:
            product = OPERATORS["multiply"](product, element)
        return constant([1] if call.attribute("keepdims", 1) else [], [product])
    return computing.reduce(call.at, value, axes, bool(call.attribute("keepdims", 1)))


@rule("ArgMax", "ArgMin")
def arg_max(call: Call) -> Value:
    return computing.reduce(
        call.at, call[0], [call.attribute("axis", 0)], bool(call.attribute("keepdims", 1)), "compares"
    )


@rule("CumSum", "CumProd")
def cumulative(call: Call) -> Value:
    axis = call.list_of("axis", 1)
    if isinstance(axis, Value):
        return unsure("%s has an axis that is not followed" % call.at, call.present)
    return computing.along(call.at, call[0], axis, "sums over")


@rule("TopK")
def top_k(call: Call) -> Any:
    count = call.list_of("k", 1)
    if isinstance(count, Value):
        return [spread([call[0], count])] * 2
    number = count[0] if isinstance(count, list) else count
    return [computing.along(call.at, call[0], [call.attribute("axis", -1)], "sorts", number)] * 2


@rule("Softmax", "LogSoftmax", "Hardmax")
def softmax(call: Call) -> Value:
    value = call[0]
    if call.version >= 13:
        axes = [call.attribute("axis", -1)]  # type: Any
    else:
        axis, rank = call.attribute("axis", 1), len(value.dims or ())
        axes = range(axis + rank if axis < 0 else axis, rank)
    return computing.along(call.at, value, axes, "normalises over")


@rule("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def layer_normalization(call: Call) -> Any:
    value, axis = call[0], call.attribute("axis", -1)
    if value.dims is None:
        return [unsure("%s works on a tensor of unknown rank" % call.at, call.present)] * 3
    over = range(placed(axis, len(value.dims)), len(value.dims))
    result = elementwise(call.at, computing.along(call.at, value, over, "normalises over"), *call.present[1:])
    statistic = computing.reduce(call.at, value, over, True)
    return [result, statistic, statistic][: max(len(call.node.outputs), 1)]


@rule("InstanceNormalization", "GroupNormalization", "LRN", "MeanVarianceNormalization", "LpNormalization")
def normalization(call: Call) -> Value:
    value, operator = call[0], call.node.operator
    if any(other.has_rows or other.tainted or repeats(other) for other in call.present[1:]) or value.dims is None:
        return unsure("%s is not followed" % call.at, call.present)
    over = range(1, len(value.dims))  # type: Any
    if operator == "MeanVarianceNormalization":
        over = call.attribute("axes") or [0, 2, 3]
    elif operator == "LpNormalization":
        over = [call.attribute("axis", -1)]
    return computing.along(call.at, value, over, "normalises over")


@rule("BatchNormalization")
def batch_normalization(call: Call) -> Any:
    value, count = call[0], len(call.node.outputs)
    if call.attribute("training_mode", 0):
        return [mixed("%s in training mode takes mean and variance of all rows" % call.at, call.present)] * count
    if count > 1 or value.axis == 1:
        return [unsure("%s is not followed" % call.at, call.present)] * count
    if any(other.has_rows or other.tainted or repeats(other) for other in call.present[1:]):
        return [unsure("%s is not followed" % call.at, call.present)]
    return [elementwise(call.at, value)]


@rule("Gemm")
def gemm(call: Call) -> Value:
    turned = [bool(call.attribute(name, 0)) for name in ("transA", "transB")]
    return computing.gemm(call.at, call[0], call[1], call.get(2), turned[0], turned[1])


@rule("MatMul")
def matmul(call: Call) -> Value:
    return computing.matmul(call.at, call[0], call[1])


@rule("MatMulInteger")
def matmul_integer(call: Call) -> Value:
    return _besides(call, call.inputs[2:]) or computing.matmul(call.at, call[0], call[1])


@rule("QLinearMatMul")
def quantized_matmul(call: Call) -> Value:
    others = [call.get(place) for place in (1, 2, 4, 5, 6, 7)]
    return _besides(call, others) or computing.matmul(call.at, call[0], call[3])


@rule("QuantizeLinear", "DequantizeLinear")
def quantize(call: Call) -> Value:
    return _besides(call, call.inputs[1:]) or elementwise(call.at, call[0])


@rule("DynamicQuantizeLinear")
def dynamic_quantize(call: Call) -> Any:
    value = call[0]
    if value.tainted:
        return [spread([value], value.dims), spread([value], []), spread([value], [])]
    if not value.has_rows and not repeats(value):
        return [constant(value.dims), constant([]), constant([])]
    reason = "%s takes one scale from all rows" % call.at
    return [mixed(reason, dims=value.dims), mixed(reason, dims=[]), mixed(reason, dims=[])]


@rule("Einsum")
def einsum(call: Call) -> Value:
    return computing.einsum(call.at, call.attribute("equation", ""), call.present)


@rule("Conv", "ConvInteger", "QLinearConv", "ConvTranspose", "DeformConv")
def convolution(call: Call) -> Value:
    value, weights = call[0], call[3 if call.node.operator == "QLinearConv" else 1]
    others = [other for other in call.present if other is not value]
    if call.node.operator == "DeformConv" and any(other.has_rows for other in others):
        return computing.batch_first(call.at, call.present, [value.rank])[0]
    known = [size if isinstance(size, int) else None for size in weights.dims or ()]
    turned = call.node.operator == "ConvTranspose"
    spatial = None if turned else _spatial(call, value, call.attribute("kernel_shape") or known[2:])
    return computing.windows(call.at, value, known[0] if known and not turned else None, spatial, others)


@rule("MaxPool", "AveragePool", "LpPool")
def pool(call: Call) -> Any:
    value = call[0]
    channels = value.dims[1] if value.dims is not None and len(value.dims) > 1 else None
    if value.axis == 1:  # channels are pooled apart
        return unsure("%s has the rows in an unusual dimension" % call.at)
    spatial = _spatial(call, value, call.attribute("kernel_shape"))
    pooled = computing.windows(call.at, value, channels, spatial)
    # The places of the maxima count over all rows.
    return [pooled, unsure("%s numbers places over all rows" % call.at, [value])]


@rule("MaxUnpool")
def unpool(call: Call) -> Value:
    return unsure("%s is not followed" % call.at, call.present)


@rule("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(call: Call) -> Value:
    rank = call[0].rank
    return (
        computing.reduce(call.at, call[0], range(2, rank or 2), True)
        if rank
        else unsure("%s works on a tensor of unknown rank" % call.at, call.present)
    )


def _spatial(call: Call, value: Value, kernel: Any) -> Optional[List[Any]]:
    """Sizes of the result's dimensions behind the first two, None for those that are not known."""
    if value.dims is None or not kernel or len(kernel) != len(value.dims) - 2:
        return None
    count = len(kernel)
    strides, dilations = (call.attribute(name) or [1] * count for name in ("strides", "dilations"))
    pads = call.attribute("pads") or [0] * 2 * count
    automatic = call.attribute("auto_pad", "NOTSET")
    result = []  # type: List[Any]
    for place in range(count):
        size, window = value.dims[2 + place], kernel[place]
        if not isinstance(size, int) or window is None:
            same = automatic == "NOTSET" and strides[place] == 1 and window is not None
            around = pads[place] + pads[place + count]
            result.append(size if same and around == (window - 1) * dilations[place] else None)
        elif automatic.startswith("SAME"):
            result.append(-(-size // strides[place]))
        else:
            around = 0 if automatic == "VALID" else pads[place] + pads[place + count]
            room = size + around - ((window - 1) * dilations[place] + 1)
            up = (strides[place] - 1) if call.attribute("ceil_mode", 0) else 0
            result.append(None if up else room // strides[place] + 1)
    return result


@rule("Resize", "Upsample")
def resize(call: Call) -> Value:
    value = call[0]
    old = call.node.operator == "Upsample" or call.version < 11
    scales = call.list_of("scales", 1 if old else 2)
    wanted = None if old else call.list_of("sizes", 3)
    others = [other for other in call.inputs[1:] if other is not None]
    if value.tainted or any(other.tainted or other.has_rows for other in others):
        return unsure("%s is not followed" % call.at, [value] + others)
    if value.dims is None:
        return unsure("%s works on a tensor of unknown rank" % call.at) if value.has_rows else constant()
    rank = len(value.dims)
    axes = [placed(axis, rank) for axis in call.attribute("axes") or range(rank)]
    factors = (scales if isinstance(scales, list) else None) or [None] * len(axes)
    sizes = call.get(3).contents if wanted is not None else None  # type: ignore[union-attr]
    sizes = sizes or [None] * len(axes)
    dims = list(value.dims)
    for axis, factor, size in zip(axes, factors, sizes):
        kept = factor == 1 or (size is not None and size == dims[axis])
        if kept:
            continue
        if any(has_rows(each) for each in (dims[axis], factor, size)):
            return unsure("%s resizes the dimension with the rows" % call.at)
        known = isinstance(dims[axis], int) and isinstance(factor, float)
        dims[axis] = size if isinstance(size, int) else int(dims[axis] * factor) if known else fresh()
    return value._replace(dims=tuple(dims), contents=None)


@rule("RNN", "LSTM", "GRU")
def recurrent(call: Call) -> Any:
    value, operator = call[0], call.node.operator
    count = 3 if operator == "LSTM" else 2
    if call.attribute("layout", 0) or value.dims is None:
        return [unsure("%s is not followed" % call.at, call.present)] * count
    states = [state for state in (call.get(5), call.get(6) if operator == "LSTM" else None) if state is not None]
    others = [other for other in (call.get(1), call.get(2), call.get(3), call.get(7)) if other is not None]
    wrong = computing.recurrent(call.at, value, states, call.get(4), others)
    if wrong is not None:
        return [wrong] * count
    directions = 2 if call.attribute("direction", "forward") == "bidirectional" else 1
    hidden = call.attribute("hidden_size") or fresh()
    last = rows([directions, value.dims[1], hidden], 1, value.before, value.after)
    return [rows([value.dims[0], directions, value.dims[1], hidden], 2, value.before, value.after), last, last][:count]


@rule("GridSample", "AffineGrid", "Det", "DFT", "STFT", "Attention", "RotaryEmbedding")
def row_by_row(call: Call) -> Any:
    operator, value = call.node.operator, call[0]
    if operator == "Attention":
        ranks = [value.rank] + [4] * (len(call.node.outputs) - 1)  # type: List[Optional[int]]
        if any(other.has_rows != value.has_rows for other in call.present[1:3]):
            return [unsure("%s is not followed" % call.at, call.present)] * len(ranks)
        return computing.batch_first(call.at, call.present, ranks)
    if operator == "AffineGrid":
        sizes = call[1]
        if sizes.counts_rows and (sizes.contents or (None,))[0] == ROWS and value.axis == 0:
            return rows([ROWS] + [fresh() for _ in range(len(sizes.contents or ()) - 1)])
        return unsure("%s is not followed" % call.at, call.present)
    if operator == "Det":
        return computing.reduce(call.at, value, [-2, -1], False)
    if operator == "DFT":
        axis = call.list_of("axis", 2) if call.version >= 20 else [call.attribute("axis", 1)]
        known = isinstance(axis, list) or axis is None
        return (
            computing.along(call.at, value, axis or [-2], "transforms", None)
            if known
            else unsure("%s is not followed" % call.at, call.present)
        )
    if operator == "STFT":
        return computing.batch_first(call.at, call.present, [4])[0]
    if operator == "GridSample":
        if value.has_rows != call[1].has_rows:
            return unsure("%s is not followed" % call.at, call.present)
    return computing.batch_first(call.at, call.present, [value.rank])[0]


@rule("RoiAlign", "MaxRoiPool")
def regions(call: Call) -> Value:
    if call[0].has_rows and (call[0].axis == 0):
        return mixed("%s takes regions by the place of a picture in the batch" % call.at, call.present)
    return unsure("%s is not followed" % call.at, call.present)


@rule("HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix")
def made(call: Call) -> Value:
    wrong = _besides(call, call.present)
    return wrong if wrong is not None else constant()


@rule("TfIdfVectorizer")
def tf_idf(call: Call) -> Value:
    if call[0].rank != 2:
        return unsure("%s is not followed" % call.at, call.present)
    return computing.batch_first(call.at, call.present, [2])[0]


@rule("StringSplit")
def string_split(call: Call) -> Any:
    if call[0].has_rows:
        return [mixed("%s pads to the longest of all rows" % call.at, call.present), elementwise(call.at, call[0])]
    return [unsure("%s is not followed" % call.at, call.present)] * 2


from runtimes.onnx.analysis import ops_extra  # noqa: E402,F401  registers its rules here
