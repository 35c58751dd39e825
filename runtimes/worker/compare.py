"""Whether two answers to the same rows are the same but for float noise. For the trial at load, and for audits.

Each row is measured by its own scale: a row of thousands must not hide an error in a row of ones. What differs by
more may still be noise that the model amplifies (a sine of large numbers, an arg max of equal scores): then it differs
as well where the same rows run alone again, with their inputs off by a few units in the last place. `Noise` finds out.
"""

from typing import Callable, Dict, List, NamedTuple, Optional

import numpy as np

Arrays = Dict[str, np.ndarray]

# Of an element, of its row's largest, and whatever the row: BLAS orders its sums by the size of a batch.
_OF_ELEMENT, _OF_ROW, _ANYWAY = 1e-3, 1e-5, 1e-6
# FP16 has about three digits.
_HALF_OF_ELEMENT, _HALF_OF_ROW, _HALF_ANYWAY = 2e-2, 4e-3, 1e-4
# A difference within so many times what a nudge does is noise.
_AMPLIFIED = 8.0
_NUDGES = 3
_NUDGE, _HALF_NUDGE = 1e-6, 2e-3


class Difference(NamedTuple):
    """output: its name. by: the largest difference, inf where shapes, datatypes or non-numbers differ.

    scale: the largest finite number in the row that differs.
    """

    output: str
    by: float
    scale: float

    def __str__(self) -> str:
        if not np.isfinite(self.by):
            return "output '%s' differs" % self.output
        return "output '%s' differs by %.2g, where its largest number is %.2g" % self


class Noise:
    """What float noise does to one request's answer. `infer` runs it by itself; nothing is run before it is asked."""

    def __init__(self, infer: Callable[[Arrays], Arrays], inputs: Arrays, answer: Arrays) -> None:
        self._infer = infer
        self._inputs = inputs
        self._answer = answer
        self._others: Optional[List[Arrays]] = None

    def repeats(self, dim: int) -> bool:
        """Whether the model answers the same inputs with the same numbers when it is asked again."""
        return difference(self._runs()[0], self._answer, dim) is None

    def covers(self, got: Arrays, dim: int) -> bool:
        """Whether what `got` is off by is no more than what noise can do."""
        return difference(got, self._answer, dim, self._runs()) is None

    def _runs(self) -> List[Arrays]:
        if self._others is None:
            random = np.random.RandomState(0)
            self._others = [self._infer(self._inputs)]
            if any(array.dtype.kind == "f" for array in self._inputs.values()):
                for _ in range(_NUDGES):
                    self._others.append(self._infer({k: _nudged(v, random) for k, v in self._inputs.items()}))
        return self._others


def _nudged(array: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    if array.dtype.kind != "f":
        return array
    factors = 1 + (_HALF_NUDGE if array.dtype.itemsize == 2 else _NUDGE) * random.choice([-1.0, 1.0], array.shape)
    return np.asarray(array * factors).astype(array.dtype)


def difference(got: Arrays, expected: Arrays, dim: int, noisy: Optional[List[Arrays]] = None) -> Optional[Difference]:
    """The first output that differs; None if all are the same. `dim` counts their rows.

    noisy: other answers to the same inputs, which show how far apart noise brings them.
    """
    for name, array in expected.items():
        if name not in got:
            return Difference(name, np.inf, np.nan)
        others = [each[name] for each in noisy or [] if name in each]
        found = _array_difference(got[name], array, dim, others)
        if found is not None:
            return Difference(name, *found)
    return None


def _array_difference(got: np.ndarray, expected: np.ndarray, dim: int, others: List[np.ndarray]) -> Optional[tuple]:
    if got.shape != expected.shape or got.dtype.kind != expected.dtype.kind:
        moves = any(other.shape != expected.shape for other in others)
        return None if moves else (np.inf, np.nan)
    if not expected.size:
        return None
    rows, wanted = _by_row(got, dim), _by_row(expected, dim)
    if expected.dtype.kind != "f":
        wrong = np.any(rows != wanted, axis=1)
        for other in others:
            if other.shape == expected.shape:
                wrong &= ~np.any(_by_row(other, dim) != wanted, axis=1)
        return (np.inf, np.nan) if wrong.any() else None
    return _float_difference(rows, wanted, [_by_row(each, dim) for each in others if each.shape == expected.shape])


def _float_difference(rows: np.ndarray, wanted: np.ndarray, others: List[np.ndarray]) -> Optional[tuple]:
    half = wanted.dtype.itemsize == 2
    of_element, of_row, anyway = (
        (_HALF_OF_ELEMENT, _HALF_OF_ROW, _HALF_ANYWAY) if half else (_OF_ELEMENT, _OF_ROW, _ANYWAY)
    )
    with np.errstate(all="ignore"):
        rows, wanted = rows.astype(np.float64), wanted.astype(np.float64)
        scale = np.max(np.where(np.isfinite(wanted), np.abs(wanted), 0.0), axis=1, keepdims=True)
        allowed = of_element * np.abs(wanted) + of_row * scale + anyway
        for other in others:
            off = np.abs(other.astype(np.float64) - wanted)
            # Where noise makes a number of a NaN, or the other way round, anything may.
            off = np.where(_same(other, wanted), 0.0, np.where(np.isfinite(off), off, np.inf))
            allowed = np.maximum(allowed, _AMPLIFIED * np.max(off, axis=1, keepdims=True))
        off = np.where(_same(rows, wanted), 0.0, np.abs(rows - wanted))
        off = np.where(np.isnan(off), np.inf, off)
        wrong = (off > np.where(np.isnan(allowed), 0.0, allowed)).any(axis=1)
    if not wrong.any():
        return None
    worst = int(np.argmax(np.where(wrong, off.max(axis=1), -1.0)))
    return float(off[worst].max()), float(scale[worst, 0])


def _same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Equal, infinities of one sign too; or both no number."""
    return (a == b) | (np.isnan(a) & np.isnan(b))


def _by_row(array: np.ndarray, dim: int) -> np.ndarray:
    if array.ndim <= dim:
        return array.reshape(1, -1)
    return np.moveaxis(array, dim, 0).reshape(array.shape[dim], -1)
