"""Elementwise operators."""

from typing import Any

from runtimes.dataflow import computing
from runtimes.dataflow.arithmetic import arithmetic, elementwise, unknown_number
from runtimes.dataflow.shaping import normalize_axis
from runtimes.dataflow.sizes import over
from runtimes.dataflow.values import Value, propagate, unsure
from runtimes.dataflow.walk import Call

from ..operators import Arguments, Items, rule
from .rows import counted, random

_SETTINGS = (
    "dtype layout device pin_memory memory_format generator non_blocking copy approximate rounding_mode out_dtype "
    "names implicit requires_grad"
).split()


@rule(
    """abs absolute acos acosh asin asinh atan atan2 arctan2 atanh bitwise_and bitwise_left_shift bitwise_not bitwise_or
    bitwise_right_shift bitwise_xor celu clamp clamp_min clamp_max clip cos cosh copysign deg2rad elu erf erfc erfinv
    exp exp2 expm1 frac gelu hardshrink hardsigmoid hardswish hardtanh heaviside hypot i0 isfinite isinf isnan isneginf
    isposinf isclose leaky_relu lerp lgamma digamma log log10 log1p log2 log_sigmoid logaddexp logaddexp2 logit
    logical_xor mish nan_to_num pow float_power polar threshold reciprocal relu relu6 rsqrt selu sgn sigmoid sign
    signbit silu sin sinc sinh softplus softshrink softsign sqrt square tan tanh tanhshrink xlogy masked_fill
    addcmul addcdiv rad2deg real imag conj angle complex __lshift__ __rshift__ __xor__ special_expit
    special_erf special_entr ldexp nextafter fill zero copy rsub fake_quantize_per_tensor_affine
    quantize_per_tensor dequantize quantized::add quantized::mul quantized::add_relu quantized::mul_relu
    quantized::hardswish quantized::leaky_relu quantized::sigmoid quantized::elu quantized::add_scalar
    quantized::mul_scalar"""
)
def each_element(call: Call) -> Value:
    return elementwise(call.at, *operands(call))


def operands(call: Call) -> Any:
    """Tensors and numbers, without what says of which sort the result is. Raises ValueError for a list."""
    found = Arguments(call).of(" ".join(name for name in call.attribute("names") or () if name not in _SETTINGS))
    if any(isinstance(value, Items) for value in found):
        raise ValueError("a list")
    return found


@rule(
    """contiguous clone detach alias lift_fresh lift_fresh_copy lift positive cpu cuda requires_grad resolve_conj
    resolve_neg prim::unchecked_cast prim::unchecked_unwrap_optional float double half bfloat16 type_as to _to_copy
    prim::profile data detach_copy alias_copy"""
)
def same(call: Call) -> Any:
    """The same elements, perhaps of another datatype."""
    value = call[0]
    if isinstance(value, Items) or value.contents is None or call.node.operator in ("clone", "contiguous", "detach"):
        return value
    if call.node.operator in ("to", "_to_copy", "type_as"):
        # Numbers with a fraction may lose it; whole ones stay what they are.
        return arithmetic(call.at, lambda one: None if isinstance(one, float) else _still_whole(one), value)
    return value


def _still_whole(one: Any) -> Any:
    return one if not isinstance(one, bool) else unknown_number(one)


@rule("int long short char byte bool")
def whole(call: Call) -> Value:
    if call[0].contents is not None:
        return arithmetic(call.at, lambda one: None if isinstance(one, (bool, float)) else one, call[0])
    return elementwise(call.at, call[0])


@rule("where")
def where(call: Call) -> Any:
    if len(call.present) == 1:
        return counted(call)
    return elementwise(call.at, *operands(call))


@rule("prelu")
def prelu(call: Call) -> Value:
    value, weight = call[0], call[1]
    wrong = call.not_constant([weight])
    if wrong is not None:
        return wrong
    if value.axis == 1 and weight.dims not in ((), (1,)):
        return unsure("%s has the rows in an unusual dimension" % call.at)
    return elementwise(call.at, value)


@rule("dropout feature_dropout alpha_dropout feature_alpha_dropout native_dropout")
def dropout(call: Call) -> Any:
    """Return the input if dropout is off. If it is on, the result is random, as `state.py` reports as well."""
    if call.node.operator != "native_dropout" and Arguments(call).number("train") is False:
        return call[0]
    if call[0].tainted:
        return [propagate([call[0]])] * len(call.node.outputs)
    return random(call)


@rule("glu")
def glu(call: Call) -> Value:
    value, axis = call[0], Arguments(call).number("dim", -1)
    size = over((value.dims or ())[normalize_axis(axis, len(value.dims or ()))], 2)
    return computing.along(call.at, value, [axis], "works along", size)
