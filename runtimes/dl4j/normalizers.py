"""normalizer.bin: what was done to the data that the network learned from (NormalizerSerializer of ND4J).

Served models do it to their inputs, and undo on their outputs what was done to the labels.
"""

from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from runtimes.contract import LoadError

from .arrays import Bytes, read_array

_MAX_INPUTS = 1000
# Nd4j.EPS_THRESHOLD: no deviation and no range is smaller.
_MIN_DEVIATION = 1e-5


class Scaling(NamedTuple):
    """(x - subtract) / divide * multiply + add, along the first size after the rows."""

    subtract: np.ndarray
    divide: np.ndarray
    multiply: np.ndarray
    add: np.ndarray

    def undone(self) -> "Scaling":
        return Scaling(self.add, self.multiply, self.divide, self.subtract)


class Normalizers(NamedTuple):
    """One for each input and, undone already, each output, in their order; none at all for labels left alone.

    for_all  the only one in `inputs` counts for every input
    """

    inputs: List[Scaling]
    outputs: List[Scaling]
    for_all: bool = False


def read(data: bytes) -> Normalizers:
    """Raises LoadError."""
    source = Bytes(data, "normalizer.bin")
    if source.text() != "NORMALIZER" or source.number("i") != 1:
        source.broken("it does not begin as ND4J's normalizers do")
    kind = source.text()
    if kind not in _KINDS:
        raise LoadError(
            "normalizer.bin holds a normalizer of the kind '%.40s', which is not covered: normalizer = false in "
            "[parameters] serves the network without it" % kind
        )
    found = _KINDS[kind](source)
    source.end()
    return found


def _standardize(source: Bytes) -> Normalizers:
    labels = source.flag()
    inputs = [_by_deviation(source)]
    return Normalizers(inputs, [_by_deviation(source).undone()] if labels else [])


def _standardize_many(source: Bytes) -> Normalizers:
    labels, inputs, outputs = source.flag(), *_counts(source)
    return Normalizers(
        [_by_deviation(source) for _ in range(inputs)],
        [_by_deviation(source).undone() for _ in range(outputs if labels else 0)],
    )


def _min_max(source: Bytes) -> Normalizers:
    labels, low, high = source.flag(), source.real(), source.real()
    inputs = [_by_range(source, low, high)]
    return Normalizers(inputs, [_by_range(source, low, high).undone()] if labels else [])


def _min_max_many(source: Bytes) -> Normalizers:
    labels, inputs, outputs = source.flag(), *_counts(source)
    low, high = source.real(), source.real()
    return Normalizers(
        [_by_range(source, low, high) for _ in range(inputs)],
        [_by_range(source, low, high).undone() for _ in range(outputs if labels else 0)],
    )


def _pixels(source: Bytes) -> Normalizers:
    low, high, most = source.real(), source.real(), source.real()
    if most == 0:
        source.broken("its largest pixel is 0")
    return Normalizers([Scaling(_one(0), _one(most), _one(high - low), _one(low))], [], for_all=True)


def _by_deviation(source: Bytes) -> Scaling:
    mean, deviation = _row(source), np.maximum(_row(source), _MIN_DEVIATION)
    return Scaling(mean, deviation, _one(1), _one(0))


def _by_range(source: Bytes, low: float, high: float) -> Scaling:
    """A range of nothing, of the data or to be, is made as small as ND4J makes it."""
    least, most = _row(source), _row(source)
    if least.shape != most.shape:
        source.broken("its bounds have %d and %d values" % (least.size, most.size))
    span = np.maximum(most - least, _MIN_DEVIATION)
    return Scaling(least, span, _one(max(high - low, _MIN_DEVIATION)), _one(low))


def _row(source: Bytes) -> np.ndarray:
    return read_array(source).reshape(-1).astype(np.float64)


def _counts(source: Bytes) -> Tuple[int, int]:
    inputs, outputs = source.number("i"), source.number("i")
    if not 0 < inputs <= _MAX_INPUTS or not -1 <= outputs <= _MAX_INPUTS:
        source.broken("it speaks of %d inputs and %d outputs" % (inputs, outputs))
    return inputs, outputs


def _one(value: float) -> np.ndarray:
    return np.array([value])


_KINDS: Dict[str, Callable[[Bytes], Normalizers]] = {
    "STANDARDIZE": _standardize,
    "MIN_MAX": _min_max,
    "IMAGE_MIN_MAX": _pixels,
    "MULTI_STANDARDIZE": _standardize_many,
    "MULTI_MIN_MAX": _min_max_many,
}


def scaling_of(place: int, scalings: List[Scaling], for_all: bool = False) -> Optional[Scaling]:
    """None where there is none at all. Raises LoadError where there are some and none for this one."""
    if not scalings:
        return None
    if for_all:
        return scalings[0]
    if place >= len(scalings):
        raise LoadError(
            "normalizer.bin holds %d normalizers, fewer than the network has inputs or outputs" % len(scalings)
        )
    return scalings[place]
