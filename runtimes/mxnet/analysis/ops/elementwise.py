"""Elementwise operators, operators that create tensors, and random operators."""

from typing import Any, Sequence

from runtimes.dataflow import computing, shaping
from runtimes.dataflow.arithmetic import elementwise
from runtimes.dataflow.sizes import ROWS, fresh, has_rows
from runtimes.dataflow.values import Value, constant, mixed, repeats, unsure
from runtimes.dataflow.walk import Call

from ..file import numbers
from ..operators import OPERATORS, rule

_ONE = """abs arccos arccosh arcsin arcsinh arctan arctanh cbrt ceil cos cosh degrees erf erfinv exp expm1 fix floor
    gamma gammaln log log10 log1p log2 logical_not negative radians rcbrt reciprocal relu rint round rsqrt sigmoid sign
    sin sinh softsign sqrt square tan tanh trunc hard_sigmoid Cast amp_cast clip identity _copy BlockGrad stop_gradient
    MakeLoss make_loss Activation smooth_l1 _contrib_quadratic _contrib_gradientmultiplier
    _contrib_round_ste _contrib_sign_ste IdentityAttachKLSparseReg cast_storage"""
_SCALAR = """plus minus rminus mul div rdiv mod rmod power rpower maximum minimum hypot equal not_equal greater
    greater_equal lesser lesser_equal logical_and logical_or logical_xor"""
_TWO = """add sub minus plus mul div mod power maximum minimum hypot equal not_equal greater greater_equal lesser
    lesser_equal logical_and logical_or logical_xor"""
# Those of the numpy interface, which broadcast as numpy does.
_NUMPY_ONE = """abs absolute arccos arccosh arcsin arcsinh arctan arctanh around cast cbrt ceil clip cos cosh degrees
    exp expm1 fix floor isfinite isinf isnan log log10 log1p log2 logical_not negative radians reciprocal rint sign sin
    sinh sqrt square tan tanh trunc where"""
_NUMPY_TWO = """add subtract multiply true_divide mod power maximum minimum hypot arctan2 copysign equal not_equal
    greater greater_equal less less_equal"""
_NUMPY_REVERSED = "subtract true_divide mod power arctan2 copysign"
_NUMPY = [
    *_NUMPY_ONE.split(),
    *(name + form for name in _NUMPY_TWO.split() for form in ("", "_scalar")),
    *("r%s_scalar" % name for name in _NUMPY_REVERSED.split()),
]


@rule(" ".join("_npi_" + name for name in _NUMPY), "_np_copy")
@rule(_ONE, " ".join("_%s_scalar" % name for name in _SCALAR.split()), " ".join("broadcast_" + n for n in _TWO.split()))
@rule("zeros_like ones_like")
def each_element(call: Call) -> Value:
    return elementwise(call.at, *call.present)


@rule("_contrib_div_sqrt_dim")
def scaled(call: Call) -> Value:
    value = call[0]
    if value.dims is not None and has_rows(value.dims[-1]):
        return unsure("%s divides by the number of rows" % call.at, [value])
    return elementwise(call.at, value)


@rule("elemwise_add elemwise_sub elemwise_mul elemwise_div _mod _power _maximum _minimum _hypot _equal _not_equal")
@rule(
    "_greater _greater_equal _lesser _lesser_equal _logical_and _logical_or _logical_xor add_n ElementWiseSum _grad_add"
)
def same_shapes(call: Call) -> Value:
    return _alike(call, call.present)


def _alike(call: Call, values: Sequence[Value]) -> Value:
    """These do not broadcast: MXNet infers an unknown size from the other operands."""
    known = [value.dims for value in values if value.dims is not None and not value.tainted]
    if len({len(dims) for dims in known}) > 1:
        return unsure("%s combines tensors of different ranks" % call.at, call.present)
    for sizes in zip(*known):
        if 1 in sizes and any(map(has_rows, sizes)):
            return unsure("%s combines tensors of different sizes" % call.at, call.present)
    return elementwise(call.at, *values)


@rule("where")
def where(call: Call) -> Value:
    condition, rank = call[0], call[1].rank
    if condition.rank == 1 and rank is not None and rank > 1:
        condition = shaping.unsqueeze(call.at, condition, range(1, rank))
    return _alike(call, [condition, call[1], call[2]])


@rule("LeakyReLU")
def leaky(call: Call) -> Value:
    """In inference mode, not even `rrelu` is random."""
    if call.attribute("act_type") == "prelu" and len(call.present) > 1:
        wrong = call.not_constant(call.inputs[1:])
        if wrong is not None or call[0].axis == 1:
            return wrong if wrong is not None else unsure("%s has the rows among the channels" % call.at)
    return elementwise(call.at, call[0])


@rule("Dropout")
def dropout(call: Call) -> Value:
    if call.attribute("mode") == "always" and call.attribute("p", 0.5):
        return mixed("%s is random" % call.at, call.present)
    return elementwise(call.at, call[0])


@rule("_zeros", "_ones", "_full")
def filled(call: Call) -> Value:
    """MXNet infers a size of 0. If the result then matches the other operands, it is the number of rows."""
    shape = numbers(call.attribute("shape", ()))
    if shape.count(0) > 1 or any(size < 0 for size in shape) or not shape:
        return unsure("%s has a shape that is not followed" % call.at)
    return constant([size or ROWS for size in shape])


@rule("_arange", "_eye", "_linspace")
def created(call: Call) -> Value:
    if call.attribute("infer_range", False):
        return unsure("%s has a length that MXNet infers" % call.at)
    return constant()


@rule("_contrib_MultiBoxPrior")
def anchors(call: Call) -> Value:
    """Depends only on the sizes of the image."""
    value = call[0]
    if value.rank != 4 or any(has_rows(size) for size in (value.dims or ())[2:]):
        return unsure("%s is not followed" % call.at, [value])
    return constant([1, fresh(), 4])


@rule("_contrib_arange_like")
def arange_like(call: Call) -> Value:
    value, axis = call[0], call.attribute("axis")
    if value.tainted or value.dims is None or axis is None or call.attribute("repeat", 1) != 1:
        return unsure("%s is not followed" % call.at, call.present)
    size = value.dims[shaping.normalize_axis(axis, len(value.dims))]
    return unsure("%s numbers the rows" % call.at) if has_rows(size) else constant([size])


@rule("_contrib_quantize_v2")
def quantize(call: Call) -> Any:
    value = call[0]
    if call.attribute("min_calib_range") is None or call.attribute("max_calib_range") is None:
        if value.has_rows:
            return [mixed("%s computes one scale from all rows" % call.at)] * 3
        return [unsure("%s is not followed" % call.at, call.present)] * 3
    return [elementwise(call.at, value), constant([1]), constant([1])]


def _random(call: Call) -> Any:
    return [mixed("%s is random" % call.at, call.present)] * len(call.node.outputs)


_DRAWN = "exponential gamma generalized_negative_binomial negative_binomial normal poisson randint uniform multinomial"
_IMAGES = "brightness color_jitter contrast flip_left_right flip_top_bottom hue lighting saturation"
for _name in _DRAWN.split():
    for _form in ("_random_%s", "_random_%s_like", "_sample_%s", "_npi_%s"):
        OPERATORS.rules["", _form % _name] = _random
for _name in ["_image_random_" + kind for kind in _IMAGES.split()]:
    OPERATORS.rules["", _name] = _random
for (
    _name
) in "_shuffle _sample_unique_zipfian _npi_choice _npi_bernoulli _npi_gumbel _npi_shuffle _npi_normal_n".split():
    OPERATORS.rules["", _name] = _random
RANDOM = frozenset([_name for (_, _name), each in OPERATORS.rules.items() if each is _random])


@rule("SoftmaxOutput")
def softmax_output(call: Call) -> Value:
    """The label, which is the second input, is only used in training."""
    value = call[0]
    if value.rank is None or value.rank < 2:
        return unsure("%s is not followed" % call.at, [value])
    return computing.along(call.at, value, range(1, value.rank), "normalizes over")


@rule("LinearRegressionOutput", "LogisticRegressionOutput", "MAERegressionOutput", "SVMOutput")
def regression(call: Call) -> Value:
    return elementwise(call.at, call[0])


@rule("shape_array")
def shape_array(call: Call) -> Value:
    return shaping.shape_of(call[0])


@rule("size_array")
def size_array(call: Call) -> Value:
    wrong = call[0].tainted or repeats(call[0])
    return unsure("%s counts the rows" % call.at, call.present) if wrong else constant([1])
