"""Operations on elements: each value of the result comes from the values at its place.

CNTK broadcasts as numpy does: static shapes are aligned at their last dimensions (row-major), and
what has no dynamic axes goes with every row.
"""

from typing import Callable, Dict, List, Tuple

import numpy as np

from runtimes.onnx.graph import TYPES

from ..site import Site
from ..values import Value

# A logarithm's argument below the first gives the second, in CNTK.
_TINY, _LOG_OF_TINY = 1e-37, -85.1


def aligned(site: Site, values: List[Value]) -> Tuple[List[str], Tuple[int, ...], Tuple[str, ...]]:
    """Tensors that ONNX broadcasts as CNTK would, and the shape and axes of what comes out."""
    rank = max(len(value.shape) for value in values)
    axes = site.shared_axes(values)
    names = []
    for value in values:
        if value.axes and len(value.shape) < rank:
            value = site.reshape(value, (1,) * (rank - len(value.shape)) + value.shape)
        names.append(site.name(value))
    padded = [(1,) * (rank - len(value.shape)) + value.shape for value in values]
    return names, tuple(_size(site, sizes) for sizes in zip(*padded)), axes


def _size(site: Site, sizes: Tuple[int, ...]) -> int:
    told = {size for size in sizes if size != 1}
    if len(told - {-1}) > 1:
        site.refuse("its inputs have sizes %s in one place, which do not go together" % sorted(told))
    return max(told, default=1)


def _unary(op: str) -> Callable[[Site], Value]:
    def translated(site: Site) -> Value:
        (x,) = site.take(1)
        return site.value(site.emit(op, site.name(x)), x.shape, x.axes)

    return translated


def _nary(op: str) -> Callable[[Site], Value]:
    def translated(site: Site) -> Value:
        names, shape, axes = aligned(site, site.take(2))
        return site.value(site.emit(op, *names), shape, axes)

    return translated


def _same(site: Site) -> Value:
    """What only training sees."""
    (x,) = site.take(1)
    return x


def _compared(op: str, negated: bool = False) -> Callable[[Site], Value]:
    def translated(site: Site) -> Value:
        names, shape, axes = aligned(site, site.take(2))
        truth = site.emit(op, *names)
        truth = site.emit("Not", truth) if negated else truth
        return site.value(site.emit("Cast", truth, to=TYPES[site.dtype]), shape, axes)

    return translated


def _log(site: Site) -> Value:
    (x,) = site.take(1)
    return _logarithm(site, x)


def _logarithm(site: Site, x: Value) -> Value:
    if site.dtype == np.float16:
        return site.value(site.emit("Log", site.name(x)), x.shape, x.axes)
    tiny = site.graph.scalar(_TINY, site.dtype)
    is_tiny = site.emit("Less", site.name(x), tiny)
    found = site.emit("Log", site.emit("Max", site.name(x), tiny))
    low = site.graph.scalar(_LOG_OF_TINY, site.dtype)
    return site.value(site.emit("Where", is_tiny, low, found), x.shape, x.axes)


def _sqrt(site: Site) -> Value:
    """Of what is negative, CNTK takes 0."""
    (x,) = site.take(1)
    found = site.emit("Sqrt", site.emit("Max", site.name(x), site.graph.scalar(0, site.dtype)))
    return site.value(found, x.shape, x.axes)


def _reciprocal(site: Site) -> Value:
    (x,) = site.take(1)
    return site.value(inverse(site, x), x.shape, x.axes)


def inverse(site: Site, x: Value) -> str:
    """1/x, and 0 for 0."""
    name = site.name(x)
    if x.array is not None and x.array.all():
        return site.emit("Reciprocal", name)
    zero, one = (site.graph.scalar(number, site.dtype) for number in (0, 1))
    is_zero = site.emit("Equal", name, zero)
    # No infinity on the way either: converters make a product of the choice.
    found = site.emit("Reciprocal", site.emit("Where", is_zero, one, name))
    return site.emit("Where", is_zero, zero, found)


def _select(site: Site) -> Value:
    """Where the first is not zero the second, else the third."""
    names, shape, axes = aligned(site, site.take(3))
    zero = site.graph.scalar(0, site.dtype)
    chosen = site.emit("Not", site.emit("Equal", names[0], zero))
    return site.value(site.emit("Where", chosen, names[1], names[2]), shape, axes)


def _pow(site: Site) -> Value:
    """0 to a power below 0 is 0."""
    base, exponent = site.take(2)
    names, shape, axes = aligned(site, [base, exponent])
    if (base.array is not None and base.array.all()) or (exponent.array is not None and (exponent.array >= 0).all()):
        return site.value(site.emit("Pow", *names), shape, axes)
    zero, one = (site.graph.scalar(number, site.dtype) for number in (0, 1))
    is_endless = site.emit("And", site.emit("Equal", names[0], zero), site.emit("Less", names[1], zero))
    # No infinity on the way either: converters make a product of the choice.
    found = site.emit("Pow", site.emit("Where", is_endless, one, names[0]), names[1])
    return site.value(site.emit("Where", is_endless, zero, found), shape, axes)


def _clip(site: Site) -> Value:
    """What is below `low` becomes that, also where it is above `high`."""
    x, low, high = site.take(3)
    names, shape, axes = aligned(site, [x, low, high])
    found = site.emit("Min", site.emit("Max", names[0], names[1]), names[2])
    if low.array is None or high.array is None or not low.array.max(initial=-np.inf) <= high.array.min(initial=np.inf):
        found = site.emit("Where", site.emit("Less", names[0], names[1]), names[1], found)
    return site.value(found, shape, axes)


def _elu(site: Site) -> Value:
    (x,) = site.take(1)
    alpha = site.attribute("alpha", float, 1.0)
    return site.value(site.emit("Elu", site.name(x), alpha=alpha), x.shape, x.axes)


def _log_plus(site: Site) -> Value:
    """log(exp(a) + exp(b)), from the larger of the two on."""
    names, shape, axes = aligned(site, site.take(2))
    larger, smaller = site.emit("Max", *names), site.emit("Min", *names)
    below = site.emit("Sub", smaller, larger)
    if site.dtype == np.float64:  # of which ONNX Runtime has no Softplus
        rest = site.emit("Log", site.emit("Add", site.emit("Exp", below), site.graph.scalar(1, site.dtype)))
    else:
        rest = site.emit("Softplus", below)
    return site.value(site.emit("Add", larger, rest), shape, axes)


def _cast(site: Site) -> Value:
    from ..functions import DTYPES

    (x,) = site.take(1)
    dtype = DTYPES.get(site.attribute("newDataType", int))
    if dtype is None:
        site.refuse("it casts to a datatype that is not covered")
    return Value(site.emit("Cast", site.name(x), to=TYPES[dtype]), x.shape, x.axes, dtype)


def _cosine(site: Site) -> Value:
    """Of the angle between the rows, over all their values; 0 where one of them is 0."""
    a, b = site.take(2)
    if a.shape != b.shape:
        site.refuse("its inputs have the shapes %s and %s" % (list(a.shape), list(b.shape)))
    axes = site.shared_axes([a, b])
    if not a.axes or not b.axes:
        site.refuse("one of its inputs is the same for all rows, which is not covered")

    def summed(one: Value, other: Value) -> str:
        places = site.graph.sizes(*range(len(axes), len(axes) + len(a.shape)))
        product = site.emit("Mul", site.name(one), site.name(other))
        return site.emit("ReduceSum", product, places, keepdims=0) if a.shape else product

    lengths = [site.emit("Sqrt", summed(each, each)) for each in (a, b)]
    over = [inverse(site, site.value(name, (), axes)) for name in lengths]
    found = site.emit("Mul", summed(a, b), site.emit("Mul", *over))
    return site.value(found, (), axes)


_UNARY = {
    "Negate": "Neg", "Sigmoid": "Sigmoid", "StableSigmoid": "Sigmoid", "Tanh": "Tanh", "ReLU": "Relu", "Exp": "Exp",
    "Floor": "Floor", "Abs": "Abs", "Sin": "Sin", "Cos": "Cos", "Tan": "Tan", "Asin": "Asin", "Acos": "Acos",
    "Atan": "Atan", "Sinh": "Sinh", "Cosh": "Cosh", "Asinh": "Asinh", "Atanh": "Atanh",
}  # fmt: skip
_NARY = {"Plus": "Add", "Minus": "Sub", "ElementTimes": "Mul"}
TRANSLATORS: Dict[str, Callable[[Site], Value]] = {
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
    "Clip": _clip,
    "ELU": _elu,
    "LogPlus": _log_plus,
    "Cast": _cast,
    "CosDistance": _cosine,
}
