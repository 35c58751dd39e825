"""Replaces translations of torch.onnx (dynamo=False) in PyTorch 2.13.0 that compute wrong results.

It rounds integer divisions toward zero where PyTorch rounds down (`//`, `>>`), takes the logarithm of a sigmoid that
can be zero, and truncates floats by casting them to INT64.
"""

from typing import Any, List

import torch
from modelport_converter import fastpath
from torch.onnx._internal.torchscript_exporter import symbolic_helper, symbolic_opset9
from torch.onnx._internal.torchscript_exporter._type_utils import JitScalarType

from runtimes.conversion import Refused

OPSET = 17
_FLOATS = (JitScalarType.HALF, JitScalarType.BFLOAT16, JitScalarType.FLOAT, JitScalarType.DOUBLE)


def register() -> None:
    """Make torch.onnx use these translations in this process."""
    for name, symbolic in {**_SYMBOLICS, **fastpath.SYMBOLICS}.items():
        torch.onnx.register_custom_op_symbolic(name, symbolic, OPSET)


def _floor_divide(g: Any, a: Any, b: Any) -> Any:
    if _kind(a) in _FLOATS or _kind(b) in _FLOATS:
        return g.op("Floor", symbolic_opset9.true_divide(g, a, b))
    # ONNX's Div rounds toward zero, TensorFlow.js's rounds down. Correcting by the remainder is right for both: the
    # quotient is too large by one if the remainder is not zero and its sign differs from the divisor's.
    quotient = g.op("Div", a, b)
    remainder = g.op("Sub", a, g.op("Mul", quotient, b))
    zero = _integer(g, 0)
    signs_differ = g.op("Xor", g.op("Less", remainder, zero), g.op("Less", b, zero))
    too_large = g.op("And", g.op("Not", g.op("Equal", remainder, zero)), signs_differ)
    return g.op("Sub", quotient, g.op("Cast", too_large, to_i=_kind(a).onnx_type()))


def _trunc(g: Any, x: Any) -> Any:
    if _kind(x) not in _FLOATS:
        return x
    return g.op("Mul", g.op("Sign", x), g.op("Floor", g.op("Abs", x)))


def _frac(g: Any, x: Any) -> Any:
    return g.op("Sub", x, _trunc(g, x))


def _div(g: Any, a: Any, b: Any, *rounding: Any) -> Any:
    mode = symbolic_helper._maybe_get_const(rounding[0], "s") if rounding else None
    if mode == "floor":
        return _floor_divide(g, a, b)
    if mode == "trunc":
        floats = _kind(a) in _FLOATS or _kind(b) in _FLOATS
        return _trunc(g, symbolic_opset9.true_divide(g, a, b)) if floats else g.op("Div", a, b)
    return symbolic_opset9.true_divide(g, a, b)


def _right_shift(g: Any, a: Any, b: Any) -> Any:
    """An arithmetic shift, which is a division by a power of two that rounds down."""
    for power in _powers(g, a, b):
        a = _floor_divide(g, a, power)
    return a


def _left_shift(g: Any, a: Any, b: Any) -> Any:
    for power in _powers(g, a, b):
        a = g.op("Mul", a, power)
    return a


def _powers(g: Any, a: Any, b: Any) -> List[Any]:
    """Return factors whose product is 2**b. One factor is not enough, because 2**63 does not fit into an INT64."""
    shift = symbolic_helper._maybe_get_const(b, "t")
    if isinstance(shift, torch.Tensor) and shift.numel() == 1 and 0 <= int(shift) < 7:
        return [_integer(g, 1 << int(shift))]
    kind = _kind(a).onnx_type()
    count = g.op("Cast", b, to_i=kind)
    half = g.op("Div", count, g.op("Cast", _integer(g, 2), to_i=kind))
    two = g.op("Constant", value_t=torch.tensor(2.0))
    exponents = [g.op("Cast", each, to_i=JitScalarType.FLOAT.onnx_type()) for each in (half, g.op("Sub", count, half))]
    return [g.op("Cast", g.op("Pow", two, each), to_i=kind) for each in exponents]


def _log_sigmoid(g: Any, x: Any) -> Any:
    """log(sigmoid(|x|)) - max(-x, 0), whose sigmoid is at least 0.5."""
    log = g.op("Log", g.op("Sigmoid", g.op("Abs", x)))
    return g.op("Sub", log, g.op("Relu", g.op("Neg", x)))


def _kind(value: Any) -> Any:
    """Return the datatype of a value. Raises Refused if torch.onnx does not know it, since division depends on it."""
    kind = JitScalarType.from_value(value, JitScalarType.UNDEFINED)
    if kind == JitScalarType.UNDEFINED:
        raise Refused("torch.onnx cannot tell whether the model divides integers or floats")
    return kind


def _integer(g: Any, value: int) -> Any:
    return g.op("Constant", value_t=torch.tensor(value))


_SYMBOLICS = {
    "aten::floor_divide": _floor_divide,
    "aten::div": _div,
    "aten::trunc": _trunc,
    "aten::fix": _trunc,
    "aten::frac": _frac,
    "aten::bitwise_right_shift": _right_shift,
    "aten::bitwise_left_shift": _left_shift,
    "aten::__rshift__": _right_shift,
    "aten::__rshift_": _right_shift,
    "aten::__lshift__": _left_shift,
    "aten::__lshift_": _left_shift,
    "aten::log_sigmoid": _log_sigmoid,
}
