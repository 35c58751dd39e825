"""normalizer.bin, as NormalizerSerializer and its strategies write it.

Statistics are (mean, standard deviation) or (minimum, maximum), each an array of one number per feature.
`labels` are the labels' statistics, if the normalizer was set to fit them (fitLabel).
"""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.unit.runtimes.dl4j.arrays import array, utf

Statistics = tuple[Sequence[float], Sequence[float]]


def _header(kind: str) -> bytes:
    return utf("NORMALIZER") + struct.pack(">i", 1) + utf(kind)


def _pairs(statistics: Sequence[Statistics], how: dict[str, Any]) -> bytes:
    return b"".join(array(np.asarray(each), **how) for pair in statistics for each in pair)


def standardize(features: Statistics, labels: Statistics | None = None, **how: Any) -> bytes:
    """NormalizerStandardize: (x - mean) / std (StandardizeSerializerStrategy). how: dtype, era of the arrays."""
    fitted = [features] if labels is None else [features, labels]
    return _header("STANDARDIZE") + struct.pack(">?", labels is not None) + _pairs(fitted, how)


def min_max(
    features: Statistics, labels: Statistics | None = None, target: tuple[float, float] = (0.0, 1.0), **how: Any
) -> bytes:
    """NormalizerMinMaxScaler (MinMaxSerializerStrategy)."""
    fitted = [features] if labels is None else [features, labels]
    return _header("MIN_MAX") + struct.pack(">?dd", labels is not None, *target) + _pairs(fitted, how)


def image(minimum: float = 0.0, maximum: float = 1.0, largest_pixel: float = 255.0) -> bytes:
    """ImagePreProcessingScaler: x / largest · (max - min) + min (ImagePreProcessingSerializerStrategy)."""
    return _header("IMAGE_MIN_MAX") + struct.pack(">ddd", minimum, maximum, largest_pixel)


def vgg16() -> bytes:
    """VGG16ImagePreProcessor: subtracts 103.939, 116.779, 123.68 from axis 1.

    NormalizerSerializer knows the type, but has no strategy for it: DL4J itself raises when asked to write
    or read one. The strategy would have nothing to write, so this is the header alone.
    """
    return _header("IMAGE_VGG16")


def custom(strategy: str) -> bytes:
    """A user's own normalizer: the class that reads it is named, its content is unknown."""
    return _header("CUSTOM") + utf(strategy)


def multi_standardize(inputs: Sequence[Statistics], labels: Sequence[Statistics] | None = None, **how: Any) -> bytes:
    """MultiNormalizerStandardize. The number of outputs is -1 if labels were not fitted."""
    counts = struct.pack(">?ii", labels is not None, len(inputs), -1 if labels is None else len(labels))
    return _header("MULTI_STANDARDIZE") + counts + _pairs([*inputs, *(labels or [])], how)


def multi_min_max(
    inputs: Sequence[Statistics],
    labels: Sequence[Statistics] | None = None,
    target: tuple[float, float] = (0.0, 1.0),
    **how: Any,
) -> bytes:
    """MultiNormalizerMinMaxScaler."""
    counts = struct.pack(">?ii", labels is not None, len(inputs), -1 if labels is None else len(labels))
    return _header("MULTI_MIN_MAX") + counts + struct.pack(">dd", *target) + _pairs([*inputs, *(labels or [])], how)


# One input's strategy in a MultiNormalizerHybrid: None, "standardize", or a target range for min-max.
Strategy = str | tuple[float, float] | None


def _strategy(strategy: Strategy) -> bytes:
    if strategy is None:
        return struct.pack(">i", 0)
    if strategy == "standardize":
        return struct.pack(">i", 1)
    assert isinstance(strategy, tuple)
    return struct.pack(">idd", 2, *strategy)


def _numbered(entries: dict[int, bytes]) -> bytes:
    return struct.pack(">i", len(entries)) + b"".join(struct.pack(">i", k) + entry for k, entry in entries.items())


def multi_hybrid(
    inputs: dict[int, tuple[str, Statistics]],
    outputs: dict[int, tuple[str, Statistics]] | None = None,
    *,
    every_input: Strategy = None,
    every_output: Strategy = None,
    per_input: dict[int, Strategy] | None = None,
    per_output: dict[int, Strategy] | None = None,
    **how: Any,
) -> bytes:
    """MultiNormalizerHybrid. inputs: index → ("standardize" or "min_max", statistics)."""

    def statistics(fitted: dict[int, tuple[str, Statistics]]) -> bytes:
        kinds = {"standardize": 1, "min_max": 2}
        return _numbered(
            {k: struct.pack(">i", kinds[kind]) + _pairs([pair], how) for k, (kind, pair) in fitted.items()}
        )

    def strategies(each: dict[int, Strategy] | None) -> bytes:
        return _numbered({k: _strategy(strategy) for k, strategy in (each or {}).items()})

    return b"".join(
        [
            _header("MULTI_HYBRID"),
            statistics(inputs),
            statistics(outputs or {}),
            _strategy(every_input),
            _strategy(every_output),
            strategies(per_input),
            strategies(per_output),
        ]
    )
