"""How normalizers change the inputs of a network (org.nd4j.linalg.dataset.api.preprocessor).

Statistics are per column of rows, per channel (axis 1) of anything with more axes.
- A standard deviation below 1e-5 is raised to 1e-5 (DistributionStats): a constant feature is multiplied by 100000,
  although the next line of the Java means to leave it alone (0 becomes 1, but there is no 0 left).
- Likewise the maximum is raised until maximum - minimum is 1e-5 (MinMaxStats).
- A network does not apply its normalizer; the program that loads it must do that.
"""

from collections.abc import Sequence

import numpy as np

from tests.unit.runtimes.dl4j.reference_parameters import Array

LEAST = 1e-5  # Nd4j.EPS_THRESHOLD


def _channel(values: Sequence[float], x: Array) -> Array:
    return np.asarray(values, np.float64).reshape(-1, *[1] * (x.ndim - 2))


def standardize(x: Array, mean: Sequence[float], deviation: Sequence[float]) -> Array:
    return (x - _channel(mean, x)) / np.maximum(_channel(deviation, x), LEAST)


def min_max(x: Array, lower: Sequence[float], upper: Sequence[float], low: float = 0.0, high: float = 1.0) -> Array:
    """MinMaxStrategy, into [low, high]"""
    width = np.maximum(_channel(upper, x) - _channel(lower, x), LEAST)
    return (x - _channel(lower, x)) / width * (max(high, low + LEAST) - low) + low


def image(x: Array, low: float = 0.0, high: float = 1.0, largest_pixel: float = 255.0) -> Array:
    """ImagePreProcessingScaler"""
    return x / largest_pixel * (high - low) + low


def vgg16(x: Array) -> Array:
    """VGG16ImagePreProcessor: [N, 3, H, W], blue first"""
    return x - _channel([103.939, 116.779, 123.68], x)
