"""Elementwise operations.

CNTK broadcasts like numpy: static shapes are aligned at their last dimensions (row-major), and a value without dynamic
axes is repeated for every row.
"""

from typing import Callable, Dict, List, Tuple

import numpy as np

from runtimes.onnx.builder import TYPES

from ..context import TranslationContext
from ..values import Value

# In CNTK, the logarithm of any value below the first constant is the second.
_TINY, _LOG_OF_TINY = 1e-37, -85.1


def aligned(context: TranslationContext, values: List[Value]) -> Tuple[List[str], Tuple[int, ...], Tuple[str, ...]]:
    """Return tensors that ONNX broadcasts as CNTK would, and the static shape and dynamic axes of the result."""
    rank = max(len(value.shape) for value in values)
    axes = context.shared_axes(values)
    names = []
    for value in values:
        if value.axes and len(value.shape) < rank:
            value = context.reshape(value, (1,) * (rank - len(value.shape)) + value.shape)
        names.append(context.tensor(value))
    padded = [(1,) * (rank - len(value.shape)) + value.shape for value in values]
    return names, tuple(_size(context, sizes) for sizes in zip(*padded)), axes


def _size(context: TranslationContext, sizes: Tuple[int, ...]) -> int:
    others = {size for size in sizes if size != 1}
    if len(others - {-1}) > 1:
        context.refuse("its inputs have the sizes %s along the same axis, which do not match" % sorted(others))
    return max(others, default=1)


def _unary(op: str) -> Callable[[TranslationContext], Value]:
    def translated(context: TranslationContext) -> Value:
        (x,) = context.take(1)
        return context.value(context.emit(op, context.tensor(x)), x.shape, x.axes)

    return translated


def _nary(op: str) -> Callable[[TranslationContext], Value]:
    def translated(context: TranslationContext) -> Value:
        names, shape, axes = aligned(context, context.take(2))
        return context.value(context.emit(op, *names), shape, axes)

    return translated


def _same(context: TranslationContext) -> Value:
    """For operations that only have an effect in training."""
    (x,) = context.take(1)
    return x


def _compared(op: str, negated: bool = False) -> Callable[[TranslationContext], Value]:
    def translated(context: TranslationContext) -> Value:
        names, shape, axes = aligned(context, context.take(2))
        truth = context.emit(op, *names)
        truth = context.emit("Not", truth) if negated else truth
        return context.value(context.emit("Cast", truth, to=TYPES[context.dtype]), shape, axes)

    return translated


def _log(context: TranslationContext) -> Value:
    (x,) = context.take(1)
    return _logarithm(context, x)


def _logarithm(context: TranslationContext, x: Value) -> Value:
    if context.dtype == np.float16:
        return context.value(context.emit("Log", context.tensor(x)), x.shape, x.axes)
    tiny = context.graph.scalar(_TINY, context.dtype)
    is_tiny = context.emit("Less", context.tensor(x), tiny)
    found = context.emit("Log", context.emit("Max", context.tensor(x), tiny))
    low = context.graph.scalar(_LOG_OF_TINY, context.dtype)
    return context.value(context.emit("Where", is_tiny, low, found), x.shape, x.axes)


def _sqrt(context: TranslationContext) -> Value:
    """The square root, which in CNTK is 0 for negative values."""
    (x,) = context.take(1)
    found = context.emit("Sqrt", context.emit("Max", context.tensor(x), context.graph.scalar(0, context.dtype)))
    return context.value(found, x.shape, x.axes)


def _reciprocal(context: TranslationContext) -> Value:
    (x,) = context.take(1)
    return context.value(inverse(context, x), x.shape, x.axes)


def inverse(context: TranslationContext, x: Value) -> str:
    """1/x, which in CNTK is 0 for 0."""
    name = context.tensor(x)
    if x.array is not None and x.array.all():
        return context.emit("Reciprocal", name)
    zero, one = (context.graph.scalar(number, context.dtype) for number in (0, 1))
    is_zero = context.emit("Equal", name, zero)
    # Intermediate results must not be infinite either: some converters turn Where into products, and 0 * inf is NaN.
    found = context.emit("Reciprocal", context.emit("Where", is_zero, one, name))
    return context.emit("Where", is_zero, zero, found)


def _select(context: TranslationContext) -> Value:
    """The second input where the first is not zero, else the third."""
    names, shape, axes = aligned(context, context.take(3))
    zero = context.graph.scalar(0, context.dtype)
    chosen = context.emit("Not", context.emit("Equal", names[0], zero))
    return context.value(context.emit("Where", chosen, names[1], names[2]), shape, axes)


def _pow(context: TranslationContext) -> Value:
    """The power, which in CNTK is 0 for 0 to a negative power."""
    base, exponent = context.take(2)
    names, shape, axes = aligned(context, [base, exponent])
    if (base.array is not None and base.array.all()) or (exponent.array is not None and (exponent.array >= 0).all()):
        return context.value(context.emit("Pow", *names), shape, axes)
    zero, one = (context.graph.scalar(number, context.dtype) for number in (0, 1))
    is_infinite = context.emit("And", context.emit("Equal", names[0], zero), context.emit("Less", names[1], zero))
    # As in `inverse`, intermediate results must not be infinite either.
    found = context.emit("Pow", context.emit("Where", is_infinite, one, names[0]), names[1])
    return context.value(context.emit("Where", is_infinite, zero, found), shape, axes)


def _clip(context: TranslationContext) -> Value:
    """Clip to [low, high]. A value below `low` becomes `low` even if that is above `high`."""
    x, low, high = context.take(3)
    names, shape, axes = aligned(context, [x, low, high])
    found = context.emit("Min", context.emit("Max", names[0], names[1]), names[2])
    if low.array is None or high.array is None or not low.array.max(initial=-np.inf) <= high.array.min(initial=np.inf):
        found = context.emit("Where", context.emit("Less", names[0], names[1]), names[1], found)
    return context.value(found, shape, axes)


def _elu(context: TranslationContext) -> Value:
    (x,) = context.take(1)
    alpha = context.attribute("alpha", float, 1.0)
    return context.value(context.emit("Elu", context.tensor(x), alpha=alpha), x.shape, x.axes)


def _log_plus(context: TranslationContext) -> Value:
    """log(exp(a) + exp(b)), computed as max + softplus(min - max) so that it cannot overflow."""
    names, shape, axes = aligned(context, context.take(2))
    larger, smaller = context.emit("Max", *names), context.emit("Min", *names)
    below = context.emit("Sub", smaller, larger)
    if context.dtype == np.float64:  # for which ONNX Runtime has no Softplus kernel
        rest = context.emit(
            "Log", context.emit("Add", context.emit("Exp", below), context.graph.scalar(1, context.dtype))
        )
    else:
        rest = context.emit("Softplus", below)
    return context.value(context.emit("Add", larger, rest), shape, axes)


def _cast(context: TranslationContext) -> Value:
    from ..functions import DTYPES

    (x,) = context.take(1)
    dtype = DTYPES.get(context.attribute("newDataType", int))
    if dtype is None:
        context.refuse("it casts to a datatype that is not covered")
    return Value(context.emit("Cast", context.tensor(x), to=TYPES[dtype]), x.shape, x.axes, dtype)


def _cosine(context: TranslationContext) -> Value:
    """The cosine of the angle between the rows, over all their values; 0 if either is 0."""
    a, b = context.take(2)
    if a.shape != b.shape:
        context.refuse("its inputs have the shapes %s and %s" % (list(a.shape), list(b.shape)))
    axes = context.shared_axes([a, b])
    if not a.axes or not b.axes:
        context.refuse("one of its inputs is the same for all rows, which is not covered")

    def summed(one: Value, other: Value) -> str:
        static_axes = context.graph.sizes(*range(len(axes), len(axes) + len(a.shape)))
        product = context.emit("Mul", context.tensor(one), context.tensor(other))
        return context.emit("ReduceSum", product, static_axes, keepdims=0) if a.shape else product

    lengths = [context.emit("Sqrt", summed(each, each)) for each in (a, b)]
    over = [inverse(context, context.value(name, (), axes)) for name in lengths]
    found = context.emit("Mul", summed(a, b), context.emit("Mul", *over))
    return context.value(found, (), axes)


_UNARY = {
    "Negate": "Neg", "Sigmoid": "Sigmoid", "StableSigmoid": "Sigmoid", "Tanh": "Tanh", "ReLU": "Relu", "Exp": "Exp",
    "Floor": "Floor", "Abs": "Abs", "Sin": "Sin", "Cos": "Cos", "Tan": "Tan", "Asin": "Asin", "Acos": "Acos",
    "Atan": "Atan", "Sinh": "Sinh", "Cosh": "Cosh", "Asinh": "Asinh", "Atanh": "Atanh",
}  # fmt: skip
_NARY = {"Plus": "Add", "Minus": "Sub", "ElementTimes": "Mul"}


def _filled(context: TranslationContext) -> Value:
    """One value in the shape of the input."""
    (x,) = context.take(1)
    value = context.graph.scalar(context.attribute("fillValue", float), context.dtype)
    return context.value(context.emit("Expand", value, context.emit("Shape", context.tensor(x))), x.shape, x.axes)


def _sign(context: TranslationContext) -> Value:
    """1 for positive values, -1 for all others."""
    (x,) = context.take(1)
    zero, one, minus = (context.graph.scalar(each, context.dtype) for each in (0, 1, -1))
    name = context.emit("Where", context.emit("Greater", context.tensor(x), zero), one, minus)
    return context.value(name, x.shape, x.axes)


TRANSLATORS: Dict[str, Callable[[TranslationContext], Value]] = {
    **{name: _unary(op) for name, op in _UNARY.items()},
    **{name: _nary(op) for name, op in _NARY.items()},
    **dict.fromkeys(("Dropout", "Pass", "NoOp", "StopGradient"), _same),
    "Equal": _compared("Equal"),
    "NotEqual": _compared("Equal", negated=True),
    "Less": _compared("Less"),
    "LessEqual": _compared("LessOrEqual"),
    "Greater": _compared("Greater"),
    "GreaterEqual": _compared("GreaterOrEqual"),
    "Log": _log,
    "Sqrt": _sqrt,
    "Reciprocal": _reciprocal,
    "Pow": _pow,
    "Select": _select,
    "ConstantOp": _filled,
    "StraightThrough": _sign,
    "Clip": _clip,
    "ELU": _elu,
    "LogPlus": _log_plus,
    "Cast": _cast,
    "CosDistance": _cosine,
}
