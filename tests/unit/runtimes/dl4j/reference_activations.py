"""Activation functions at inference: org.nd4j.linalg.activations.impl and the native ops below (libnd4j ops.h).

Where ND4J differs from what the name suggests:
- Softmax is over the LAST axis, whatever the rank. A convolution with it (NCHW) is normalized over the width.
  Loss layers and RnnOutputLayer reshape to 2-D first, so theirs is over the channels.
- RReLU at inference is RectifiedLinear with the cutoff (l + u) / 2: max(x, (l + u) / 2), no leak at all.
- GELU is x · sigmoid(1.702 x) unless `precise`; the precise one has x + (0.044715 x)³, the factor inside the power.
- ReLU with a threshold other than 0: slope · (x - threshold) below it, x from it on; then min(., max).
  ReLU with threshold 0 or none is LeakyReLU. max is applied last, also to a leak.
- RationalTanh is 1.7159 · an approximation of tanh(2x / 3). HardSigmoid is 0.2 x + 0.5.
- ThresholdedReLU is x above theta, else 0 (strictly above).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray
Configuration = dict[str, Any]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softmax(x: Array, axis: int = -1) -> Array:
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def softplus(x: Array) -> Array:
    return np.logaddexp(0, x)


def relu(x: Array, conf: Configuration) -> Array:
    """ActivationReLU.getActivation"""
    threshold, slope = conf.get("threshold") or 0.0, conf.get("negativeSlope") or 0.0
    out = np.where(x >= threshold, x, slope * (x - threshold))
    return out if conf.get("max") is None else np.minimum(out, conf["max"])


def gelu(x: Array, conf: Configuration) -> Array:
    if conf.get("precise"):
        return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + (0.044715 * x) ** 3)))
    return x * sigmoid(1.702 * x)


def rational_tanh(x: Array) -> Array:
    scaled = 2 / 3 * x
    return 1.7159 * np.sign(scaled) * (1 - 1 / (1 + np.abs(scaled) + scaled**2 + 1.41645 * scaled**4))


def selu(x: Array) -> Array:
    scale, alpha = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def elu(x: Array, alpha: float) -> Array:
    return np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0)))


FUNCTIONS: dict[str, Callable[[Array, Configuration], Array]] = {
    "Cube": lambda x, conf: x**3,
    "ELU": lambda x, conf: elu(x, conf.get("alpha", 1.0)),
    "GELU": gelu,
    "HardSigmoid": lambda x, conf: np.clip(0.2 * x + 0.5, 0, 1),
    "HardTanH": lambda x, conf: np.clip(x, -1, 1),
    "Identity": lambda x, conf: x,
    "LReLU": lambda x, conf: np.where(x < 0, conf.get("alpha", 0.01) * x, x),
    "Mish": lambda x, conf: x * np.tanh(softplus(x)),
    "RReLU": lambda x, conf: np.maximum(x, (conf.get("l", 1 / 8) + conf.get("u", 1 / 3)) / 2),
    "RationalTanh": lambda x, conf: rational_tanh(x),
    "ReLU": relu,
    "ReLU6": lambda x, conf: np.clip(x, 0, 6),
    "RectifiedTanh": lambda x, conf: np.maximum(0, np.tanh(x)),
    "SELU": lambda x, conf: selu(x),
    "Sigmoid": lambda x, conf: sigmoid(x),
    "SoftPlus": lambda x, conf: softplus(x),
    "SoftSign": lambda x, conf: x / (1 + np.abs(x)),
    "Softmax": lambda x, conf: softmax(x),
    "Swish": lambda x, conf: x * sigmoid(x),
    "TanH": lambda x, conf: np.tanh(x),
    "ThresholdedReLU": lambda x, conf: np.where(x > conf.get("theta", 1.0), x, 0),
}


def activate(x: Array, conf: Configuration) -> Array:
    """conf: {"@class": "org.nd4j.linalg.activations.impl.Activation…", …}"""
    return FUNCTIONS[conf["@class"].rpartition(".Activation")[2]](x, conf)
