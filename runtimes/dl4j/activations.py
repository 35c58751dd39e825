"""Activation functions as in ND4J's org.nd4j.linalg.activations.impl, in inference mode."""

import math
from typing import Callable, Dict, Optional, Tuple

from . import names
from .context import TranslationContext
from .settings import Settings, tagged
from .values import Value

Function = Callable[[TranslationContext, str, Settings], str]

# From ND4J's SELUOp.
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805
# From ND4J's RationalTanh: a * tanh(2x / 3), with a rational approximation of tanh.
_RATIONAL_SCALE, _RATIONAL_4 = 1.7159, 1.41645


def activated(context: TranslationContext, value: Value, axis: Optional[int] = None) -> Value:
    """Apply the layer's activation function.

    axis  the features' axis among the sizes, for softmax. Without it, softmax is refused except on feed-forward
          activations, because the axis that DL4J uses has changed between its versions
    """
    name, settings = chosen(context)
    if name == "softmax":
        if axis is None and len(value.sizes) != 1:
            context.refuse("softmax on activations of rank %d is not covered" % (len(value.sizes) + 1))
        return value._replace(name=context.emit("Softmax", value.name, axis=(axis or 0) + 1))
    return value._replace(name=_FUNCTIONS[name](context, value.name, settings))


def chosen(context: TranslationContext, field: str = "activationFn") -> Tuple[str, Settings]:
    """Return the name of a function, in lower case, and its parameters. Raises LoadError if it is not covered."""
    given, word = context.settings.get(field), context.settings.get("activationFunction")
    found = tagged(given)
    if found is not None:
        name, fields = found.kind, found.fields
    elif given is None and isinstance(word, str) and field == "activationFn":
        name, fields = word, {"alpha": context.settings.get("leakyreluAlpha")}
    elif given is None and field != "activationFn":
        name, fields = "sigmoid", {}
    else:
        context.refuse("its field '%s' names no activation function" % field)
    known = name.lower()
    known = known[len("activation") :] if known.startswith("activation") else known
    known = names.ACTIVATIONS.get(known, known)
    if known != "softmax" and known not in _FUNCTIONS:
        context.refuse("the activation function %.120s is not covered" % name)
    return known, Settings("%s, its activation function %s" % (context.settings.where, known), fields)


def _plain(op: str) -> Function:
    return lambda context, x, settings: context.emit(op, x)


def _identity(context: TranslationContext, x: str, settings: Settings) -> str:
    return x


def _cube(context: TranslationContext, x: str, settings: Settings) -> str:
    return context.emit("Mul", x, context.emit("Mul", x, x))


def _elu(context: TranslationContext, x: str, settings: Settings) -> str:
    return context.emit("Elu", x, alpha=settings.number("alpha", 1.0))


def _gelu(context: TranslationContext, x: str, settings: Settings) -> str:
    """x * sigmoid(1.702 x). The precise variant uses tanh, with its factor inside the power as in PreciseGELU."""
    if not settings.flag("precise", False):
        return context.emit("Mul", x, context.emit("Sigmoid", context.emit("Mul", x, context.scalar(1.702))))
    cube = _cube(context, context.emit("Mul", x, context.scalar(0.044715)), settings)
    inner = context.emit("Mul", context.emit("Add", x, cube), context.scalar(math.sqrt(2 / math.pi)))
    half = context.emit("Mul", x, context.scalar(0.5))
    return context.emit("Mul", half, context.emit("Add", context.emit("Tanh", inner), context.scalar(1.0)))


def _clip(context: TranslationContext, x: str, low: float, high: float) -> str:
    return context.emit("Clip", x, context.scalar(low), context.scalar(high))


def _hard_sigmoid(context: TranslationContext, x: str, settings: Settings) -> str:
    line = context.emit("Add", context.emit("Mul", x, context.scalar(0.2)), context.scalar(0.5))
    return _clip(context, line, 0.0, 1.0)


def _hard_tanh(context: TranslationContext, x: str, settings: Settings) -> str:
    return _clip(context, x, -1.0, 1.0)


def _leaky(context: TranslationContext, x: str, slope: float) -> str:
    return context.emit("LeakyRelu", x, alpha=slope)


def _leaky_relu(context: TranslationContext, x: str, settings: Settings) -> str:
    return _leaky(context, x, settings.number("alpha", 0.01))


def _random_relu(context: TranslationContext, x: str, settings: Settings) -> str:
    """In inference, DL4J passes the middle of the range to ReLU as the threshold, not as the slope."""
    return context.emit("Max", x, context.scalar((settings.number("l", 1 / 8) + settings.number("u", 1 / 3)) / 2))


def _mish(context: TranslationContext, x: str, settings: Settings) -> str:
    return context.emit("Mul", x, context.emit("Tanh", context.emit("Softplus", x)))


def _rational_tanh(context: TranslationContext, x: str, settings: Settings) -> str:
    y = context.emit("Mul", x, context.scalar(2 / 3))
    square = context.emit("Mul", y, y)
    fourth = context.emit("Mul", context.emit("Mul", square, square), context.scalar(_RATIONAL_4))
    below = context.emit(
        "Add", context.emit("Add", context.emit("Abs", y), square), context.emit("Add", fourth, context.scalar(1.0))
    )
    tanh = context.emit("Sub", context.scalar(1.0), context.emit("Div", context.scalar(1.0), below))
    return context.emit("Mul", context.emit("Mul", tanh, context.emit("Sign", y)), context.scalar(_RATIONAL_SCALE))


def _rectified_tanh(context: TranslationContext, x: str, settings: Settings) -> str:
    return context.emit("Relu", context.emit("Tanh", x))


def _relu(context: TranslationContext, x: str, settings: Settings) -> str:
    """x if x >= threshold, else slope * (x - threshold); limited to max."""
    threshold, slope = settings.number("threshold", 0.0), settings.number("negativeSlope", 0.0)
    if threshold == 0:
        found = context.emit("Relu", x) if slope == 0 else _leaky(context, x, slope)
    else:
        below = context.emit("Mul", context.emit("Sub", x, context.scalar(threshold)), context.scalar(slope))
        found = context.emit("Where", context.emit("GreaterOrEqual", x, context.scalar(threshold)), x, below)
    if settings.get("max") is None:
        return found
    return context.emit("Min", found, context.scalar(settings.number("max")))


def _relu6(context: TranslationContext, x: str, settings: Settings) -> str:
    return _clip(context, x, 0.0, 6.0)


def _selu(context: TranslationContext, x: str, settings: Settings) -> str:
    return context.emit("Selu", x, alpha=_SELU_ALPHA, gamma=_SELU_SCALE)


def _soft_sign(context: TranslationContext, x: str, settings: Settings) -> str:
    return context.emit("Div", x, context.emit("Add", context.emit("Abs", x), context.scalar(1.0)))


def _swish(context: TranslationContext, x: str, settings: Settings) -> str:
    return context.emit("Mul", x, context.emit("Sigmoid", x))


def _thresholded_relu(context: TranslationContext, x: str, settings: Settings) -> str:
    threshold = context.scalar(settings.number("theta", 1.0))
    return context.emit("Where", context.emit("Greater", x, threshold), x, context.scalar(0.0))


_FUNCTIONS: Dict[str, Function] = {
    "cube": _cube,
    "elu": _elu,
    "gelu": _gelu,
    "hardsigmoid": _hard_sigmoid,
    "hardtanh": _hard_tanh,
    "identity": _identity,
    "lrelu": _leaky_relu,
    "mish": _mish,
    "rationaltanh": _rational_tanh,
    "rectifiedtanh": _rectified_tanh,
    "relu": _relu,
    "relu6": _relu6,
    "rrelu": _random_relu,
    "selu": _selu,
    "sigmoid": _plain("Sigmoid"),
    "softplus": _plain("Softplus"),
    "softsign": _soft_sign,
    "swish": _swish,
    "tanh": _plain("Tanh"),
    "thresholdedrelu": _thresholded_relu,
}
