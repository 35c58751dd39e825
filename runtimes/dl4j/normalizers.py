"""Reads normalizer.bin, which records how the training data was normalized (ND4J's NormalizerSerializer).

Served models normalize their inputs in the same way. If the labels were normalized too, this is reverted on the
outputs.
"""

from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from runtimes.contract import LoadError

from .arrays import Bytes, read_array

# Far more than networks have; it bounds the work that a damaged count can cause.
_MAX_INPUTS = 1000
# ND4J raises smaller deviations and ranges to this (Nd4j.EPS_THRESHOLD).
_MIN_DEVIATION = 1e-5


class Scaling(NamedTuple):
    """(x - subtract) / divide * multiply + add, along the first size after the rows."""

    subtract: np.ndarray
    divide: np.ndarray
    multiply: np.ndarray
    add: np.ndarray

    def inverse(self) -> "Scaling":
        return Scaling(self.add, self.multiply, self.divide, self.subtract)


class Normalizers(NamedTuple):
    """
    inputs   one scaling per input
    outputs  one per output, already inverted; empty if the labels were not normalized
    for_all  whether the only scaling in `inputs` applies to every input
    """

    inputs: List[Scaling]
    outputs: List[Scaling]
    for_all: bool = False


def read(data: bytes) -> Normalizers:
    """Read the content of normalizer.bin. Raises LoadError."""
    source = Bytes(data, "normalizer.bin")
    if source.text() != "NORMALIZER" or source.number("i") != 1:
        source.broken("it does not begin as ND4J's normalizers do")
    kind = source.text()
    if kind not in _KINDS:
        raise LoadError(
            "normalizer.bin has a normalizer of the kind '%.40s', which is not covered: set normalizer = false in "
            "[parameters] to serve the network without it" % kind
        )
    found = _KINDS[kind](source)
    source.end()
    return found


def _standardize(source: Bytes) -> Normalizers:
    labels = source.flag()
    inputs = [_by_deviation(source)]
    return Normalizers(inputs, [_by_deviation(source).inverse()] if labels else [])


def _standardize_many(source: Bytes) -> Normalizers:
    labels, inputs, outputs = source.flag(), *_counts(source)
    return Normalizers(
        [_by_deviation(source) for _ in range(inputs)],
        [_by_deviation(source).inverse() for _ in range(outputs if labels else 0)],
    )


def _min_max(source: Bytes) -> Normalizers:
    labels, low, high = source.flag(), source.real(), source.real()
    inputs = [_by_range(source, low, high)]
    return Normalizers(inputs, [_by_range(source, low, high).inverse()] if labels else [])


def _min_max_many(source: Bytes) -> Normalizers:
    labels, inputs, outputs = source.flag(), *_counts(source)
    low, high = source.real(), source.real()
    return Normalizers(
        [_by_range(source, low, high) for _ in range(inputs)],
        [_by_range(source, low, high).inverse() for _ in range(outputs if labels else 0)],
    )


def _pixels(source: Bytes) -> Normalizers:
    low, high, maximum = source.real(), source.real(), source.real()
    if maximum == 0:
        source.broken("its largest pixel is 0")
    return Normalizers([Scaling(_scalar(0), _scalar(maximum), _scalar(high - low), _scalar(low))], [], for_all=True)


def _by_deviation(source: Bytes) -> Scaling:
    mean, deviation = _row(source), np.maximum(_row(source), _MIN_DEVIATION)
    return Scaling(mean, deviation, _scalar(1), _scalar(0))


def _by_range(source: Bytes, low: float, high: float) -> Scaling:
    """An empty range, of the data or of the target, is widened to _MIN_DEVIATION as in ND4J."""
    minimum, maximum = _row(source), _row(source)
    if minimum.shape != maximum.shape:
        source.broken("its bounds have %d and %d values" % (minimum.size, maximum.size))
    span = np.maximum(maximum - minimum, _MIN_DEVIATION)
    return Scaling(minimum, span, _scalar(max(high - low, _MIN_DEVIATION)), _scalar(low))


def _row(source: Bytes) -> np.ndarray:
    return read_array(source).reshape(-1).astype(np.float64)


def _counts(source: Bytes) -> Tuple[int, int]:
    inputs, outputs = source.number("i"), source.number("i")
    if not 0 < inputs <= _MAX_INPUTS or not -1 <= outputs <= _MAX_INPUTS:
        source.broken("it is for %d inputs and %d outputs" % (inputs, outputs))
    return inputs, outputs


def _scalar(value: float) -> np.ndarray:
    return np.array([value])


_KINDS: Dict[str, Callable[[Bytes], Normalizers]] = {
    "STANDARDIZE": _standardize,
    "MIN_MAX": _min_max,
    "IMAGE_MIN_MAX": _pixels,
    "MULTI_STANDARDIZE": _standardize_many,
    "MULTI_MIN_MAX": _min_max_many,
}


def scaling_of(index: int, scalings: List[Scaling], for_all: bool = False) -> Optional[Scaling]:
    """Return the scaling of one input or output; None if there are none. Raises LoadError if only this one lacks it."""
    if not scalings:
        return None
    if for_all:
        return scalings[0]
    if index >= len(scalings):
        raise LoadError(
            "normalizer.bin has %d normalizers, fewer than the network has inputs or outputs" % len(scalings)
        )
    return scalings[index]
