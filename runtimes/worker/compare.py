"""Compares two answers to the same rows, tolerating float noise. Used by the trial at load and by audits.

Each row is compared on its own scale, because an error in a row of ones must not be hidden by a row of thousands. A
larger difference may still be noise that the model amplifies, as a sine of large numbers or an arg max of equal scores
does. In that case the answer also changes if the same rows run alone with slightly perturbed inputs; `Noise` finds out.
"""

from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from runtimes.contract import datatype_of
from runtimes.tensors import widened
from runtimes.worker.random_arrays import Random

Arrays = Dict[str, np.ndarray]

# The tolerances: relative to the element, relative to the largest element of its row, and absolute. Answers differ by
# float noise because BLAS orders its sums by the size of a batch. Tighter values would find differences in safe models
# and switch their batching off; looser ones would miss small influences between rows. With these, the trial refuses
# none of 500 safe random graphs and misses 5 of 430 unsafe ones (docs/batching.md, "What the nets catch").
_TOLERANCES = 1e-3, 1e-5, 1e-6
# The same for types with fewer digits. Their epsilons are 1e-3, 8e-3, 0.13 and 0.25.
_COARSE_TOLERANCES = {
    "FP16": (2e-2, 4e-3, 1e-4),
    "BF16": (1e-1, 3e-2, 1e-3),
    "FP8_E4M3FN": (0.4, 0.2, 1e-2),
    "FP8_E5M2": (0.8, 0.4, 1e-2),
}
# A difference of up to this many times the effect of a perturbation counts as noise. A perturbation is some units in
# the last place, and so is the noise, but a few perturbed runs show only part of what noise can do. A larger factor or
# more perturbation would let a model that amplifies noise hide real influences; a smaller one would accuse it wrongly.
_NOISE_FACTOR = 8.0
_PERTURBED_RUNS = 3
_PERTURBATION = 1e-6
_COARSE_PERTURBATIONS = {"FP16": 2e-3, "BF16": 1.6e-2, "FP8_E4M3FN": 0.25, "FP8_E5M2": 0.5}


class Difference(NamedTuple):
    """A difference between two answers.

    output: its name. largest: the largest difference; inf if shapes, datatypes or values other than floats differ.
    scale: the largest finite number in the row that differs.
    """

    output: str
    largest: float
    scale: float

    def __str__(self) -> str:
        if not np.isfinite(self.largest):
            return "output '%s' differs" % self.output
        return "output '%s' differs by %.2g, where its largest number is %.2g" % self


class Noise:
    """The effect of float noise on one request's answer. `infer` runs the request alone, and only when needed."""

    def __init__(self, infer: Callable[[Arrays], Arrays], inputs: Arrays, answer: Arrays) -> None:
        self._infer = infer
        self._inputs = inputs
        self._answer = answer
        self._cached_reruns: Optional[List[Arrays]] = None

    def is_deterministic(self, dim: int) -> bool:
        """Return whether the model gives the same answer when the same inputs run again."""
        return difference(self._reruns()[0], self._answer, dim) is None

    def explains(self, got: Arrays, dim: int) -> bool:
        """Return whether `got` differs from the answer by no more than noise can explain."""
        return difference(got, self._answer, dim, self._reruns()) is None

    def _reruns(self) -> List[Arrays]:
        if self._cached_reruns is None:
            random = Random(0)
            self._cached_reruns = [self._infer(self._inputs)]
            if any(widened(array).dtype.kind == "f" for array in self._inputs.values()):
                for _ in range(_PERTURBED_RUNS):
                    self._cached_reruns.append(self._infer({k: _perturbed(v, random) for k, v in self._inputs.items()}))
        return self._cached_reruns


def _perturbed(array: np.ndarray, random: Random) -> np.ndarray:
    wide = widened(array)
    if wide.dtype.kind != "f":
        return array
    signs = 2 * random.randint(0, 2, array.shape) - 1
    factors = 1 + _COARSE_PERTURBATIONS.get(datatype_of(array.dtype), _PERTURBATION) * signs
    return np.asarray(wide * factors).astype(array.dtype)


def difference(got: Arrays, expected: Arrays, dim: int, reruns: Optional[List[Arrays]] = None) -> Optional[Difference]:
    """Return the first output that differs, or None if all are the same. `dim` is the dimension that counts rows.

    reruns: other answers to the same inputs, whose differences from `expected` are noise.
    """
    for name, array in expected.items():
        if name not in got:
            return Difference(name, np.inf, np.nan)
        others = [each[name] for each in reruns or [] if name in each]
        found = _array_difference(got[name], array, dim, others)
        if found is not None:
            return Difference(name, *found)
    return None


def _array_difference(
    got: np.ndarray, expected: np.ndarray, dim: int, others: List[np.ndarray]
) -> Optional[Tuple[float, float]]:
    """Return (largest difference, scale) as in Difference, or None."""
    tolerances = _COARSE_TOLERANCES.get(datatype_of(expected.dtype), _TOLERANCES)
    got, expected, others = widened(got), widened(expected), [widened(other) for other in others]
    if got.shape != expected.shape or got.dtype.kind != expected.dtype.kind:
        shape_varies = any(other.shape != expected.shape for other in others)
        return None if shape_varies else (np.inf, np.nan)
    if not expected.size:
        return None
    comparable = [_by_row(other, dim) for other in others if other.shape == expected.shape]
    got_rows, expected_rows = _by_row(got, dim), _by_row(expected, dim)
    if expected.dtype.kind != "f":
        differs = np.any(got_rows != expected_rows, axis=1)
        for other in comparable:
            differs &= ~np.any(other != expected_rows, axis=1)
        return (np.inf, np.nan) if differs.any() else None
    return _float_difference(got_rows, expected_rows, comparable, tolerances)


def _float_difference(
    got: np.ndarray, expected: np.ndarray, others: List[np.ndarray], tolerances: Tuple[float, float, float]
) -> Optional[Tuple[float, float]]:
    rtol, row_rtol, atol = tolerances
    with np.errstate(all="ignore"):
        got, expected = got.astype(np.float64), expected.astype(np.float64)
        scale = np.max(np.where(np.isfinite(expected), np.abs(expected), 0.0), axis=1, keepdims=True)
        allowed = rtol * np.abs(expected) + row_rtol * scale + atol
        for other in others:
            error = np.abs(other.astype(np.float64) - expected)
            # If noise turns a number into NaN or the reverse, any difference in this row may be noise.
            error = np.where(_equal(other, expected), 0.0, np.where(np.isfinite(error), error, np.inf))
            allowed = np.maximum(allowed, _NOISE_FACTOR * np.max(error, axis=1, keepdims=True))
        error = np.where(_equal(got, expected), 0.0, np.abs(got - expected))
        error = np.where(np.isnan(error), np.inf, error)
        differs = (error > np.where(np.isnan(allowed), 0.0, allowed)).any(axis=1)
    if not differs.any():
        return None
    worst = int(np.argmax(np.where(differs, error.max(axis=1), -1.0)))
    return float(error[worst].max()), float(scale[worst, 0])


def _equal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return where the elements are equal, including infinities of the same sign, or both are NaN."""
    return (a == b) | (np.isnan(a) & np.isnan(b))


def _by_row(array: np.ndarray, dim: int) -> np.ndarray:
    if array.ndim <= dim:
        return array.reshape(1, -1)
    return np.moveaxis(array, dim, 0).reshape(array.shape[dim], -1)
