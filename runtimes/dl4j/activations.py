"""Activation functions: ND4J's org.nd4j.linalg.activations.impl, in inference."""

import math
from typing import Callable, Dict, Optional, Tuple

from . import names
from .settings import Settings, tagged
from .site import Site
from .values import Value

Function = Callable[[Site, str, Settings], str]

# SELUOp of ND4J.
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805
# RationalTanh of ND4J: a * tanh(2x / 3), by a rational approximation of tanh.
_RATIONAL_SCALE, _RATIONAL_4 = 1.7159, 1.41645


def activated(site: Site, value: Value, axis: Optional[int] = None) -> Value:
    """Through the layer's own function.

    axis: that of the features among the sizes, for softmax. Without one, softmax is refused on anything but
    feed-forward activations: which axis DL4J takes has changed between its versions.
    """
    name, settings = chosen(site)
    if name == "softmax":
        if axis is None and len(value.sizes) != 1:
            site.refuse("softmax on activations of rank %d is not covered" % (len(value.sizes) + 1))
        return value._replace(name=site.emit("Softmax", value.name, axis=(axis or 0) + 1))
    return value._replace(name=_FUNCTIONS[name](site, value.name, settings))


def chosen(site: Site, field: str = "activationFn") -> Tuple[str, Settings]:
    """A function's name, in lower case, and its parameters. Refuses what is not covered."""
    given, word = site.settings.get(field), site.settings.get("activationFunction")
    found = tagged(given)
    if found is not None:
        name, fields = found.kind, found.fields
    elif given is None and isinstance(word, str) and field == "activationFn":
        name, fields = word, {"alpha": site.settings.get("leakyreluAlpha")}
    elif given is None and field != "activationFn":
        name, fields = "sigmoid", {}
    else:
        site.refuse("it tells no activation function in its field '%s'" % field)
    known = name.lower()
    known = known[len("activation") :] if known.startswith("activation") else known
    known = names.ACTIVATIONS.get(known, known)
    if known != "softmax" and known not in _FUNCTIONS:
        site.refuse("the activation function %.120s is not covered" % name)
    return known, Settings("%s, its activation function %s" % (site.settings.where, known), fields)


def _plain(op: str) -> Function:
    return lambda site, x, settings: site.emit(op, x)


def _identity(site: Site, x: str, settings: Settings) -> str:
    return x


def _cube(site: Site, x: str, settings: Settings) -> str:
    return site.emit("Mul", x, site.emit("Mul", x, x))


def _elu(site: Site, x: str, settings: Settings) -> str:
    return site.emit("Elu", x, alpha=settings.number("alpha", 1.0))


def _gelu(site: Site, x: str, settings: Settings) -> str:
    """x * sigmoid(1.702 x); the precise one by tanh, with its factor inside the power, as PreciseGELU has it."""
    if not settings.flag("precise", False):
        return site.emit("Mul", x, site.emit("Sigmoid", site.emit("Mul", x, site.scalar(1.702))))
    cube = _cube(site, site.emit("Mul", x, site.scalar(0.044715)), settings)
    inner = site.emit("Mul", site.emit("Add", x, cube), site.scalar(math.sqrt(2 / math.pi)))
    half = site.emit("Mul", x, site.scalar(0.5))
    return site.emit("Mul", half, site.emit("Add", site.emit("Tanh", inner), site.scalar(1.0)))


def _clip(site: Site, x: str, low: float, high: float) -> str:
    return site.emit("Clip", x, site.scalar(low), site.scalar(high))


def _hard_sigmoid(site: Site, x: str, settings: Settings) -> str:
    line = site.emit("Add", site.emit("Mul", x, site.scalar(0.2)), site.scalar(0.5))
    return _clip(site, line, 0.0, 1.0)


def _hard_tanh(site: Site, x: str, settings: Settings) -> str:
    return _clip(site, x, -1.0, 1.0)


def _leaky(site: Site, x: str, slope: float) -> str:
    return site.emit("LeakyRelu", x, alpha=slope)


def _leaky_relu(site: Site, x: str, settings: Settings) -> str:
    return _leaky(site, x, settings.number("alpha", 0.01))


def _random_relu(site: Site, x: str, settings: Settings) -> str:
    """In inference DL4J gives the middle of its range to ReLU: not as a slope, but as the least value."""
    return site.emit("Max", x, site.scalar((settings.number("l", 1 / 8) + settings.number("u", 1 / 3)) / 2))


def _mish(site: Site, x: str, settings: Settings) -> str:
    return site.emit("Mul", x, site.emit("Tanh", site.emit("Softplus", x)))


def _rational_tanh(site: Site, x: str, settings: Settings) -> str:
    y = site.emit("Mul", x, site.scalar(2 / 3))
    square = site.emit("Mul", y, y)
    fourth = site.emit("Mul", site.emit("Mul", square, square), site.scalar(_RATIONAL_4))
    below = site.emit("Add", site.emit("Add", site.emit("Abs", y), square), site.emit("Add", fourth, site.scalar(1.0)))
    tanh = site.emit("Sub", site.scalar(1.0), site.emit("Div", site.scalar(1.0), below))
    return site.emit("Mul", site.emit("Mul", tanh, site.emit("Sign", y)), site.scalar(_RATIONAL_SCALE))


def _rectified_tanh(site: Site, x: str, settings: Settings) -> str:
    return site.emit("Relu", site.emit("Tanh", x))


def _relu(site: Site, x: str, settings: Settings) -> str:
    """From the threshold on x, below it slope * (x - threshold); at most max."""
    threshold, slope = settings.number("threshold", 0.0), settings.number("negativeSlope", 0.0)
    if threshold == 0:
        found = site.emit("Relu", x) if slope == 0 else _leaky(site, x, slope)
    else:
        below = site.emit("Mul", site.emit("Sub", x, site.scalar(threshold)), site.scalar(slope))
        found = site.emit("Where", site.emit("GreaterOrEqual", x, site.scalar(threshold)), x, below)
    if settings.get("max") is None:
        return found
    return site.emit("Min", found, site.scalar(settings.number("max")))


def _relu6(site: Site, x: str, settings: Settings) -> str:
    return _clip(site, x, 0.0, 6.0)


def _selu(site: Site, x: str, settings: Settings) -> str:
    return site.emit("Selu", x, alpha=_SELU_ALPHA, gamma=_SELU_SCALE)


def _soft_sign(site: Site, x: str, settings: Settings) -> str:
    return site.emit("Div", x, site.emit("Add", site.emit("Abs", x), site.scalar(1.0)))


def _swish(site: Site, x: str, settings: Settings) -> str:
    return site.emit("Mul", x, site.emit("Sigmoid", x))


def _thresholded_relu(site: Site, x: str, settings: Settings) -> str:
    threshold = site.scalar(settings.number("theta", 1.0))
    return site.emit("Where", site.emit("Greater", x, threshold), x, site.scalar(0.0))


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
