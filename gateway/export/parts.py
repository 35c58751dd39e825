"""The parts of an output: how large each is in a case, and how much another model's parts differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gateway.domain.differences import delta as delta_of
from gateway.domain.differences import largest, ratio, relative_difference

SMALLEST = float(np.finfo(np.float64).tiny)
# An output counts as at least this share of its usual size: sums close to zero, and what is left when gates are nearly
# closed, carry the rounding of larger numbers. Too small refuses correct exports; too large hides errors in small
# outputs.
_MIN_SIZE_RATIO = 1e-2
# Values this many times larger than all others are of another kind, such as the -1e9 that a mask puts in for a score.
_GAP = 1e3
# A slice with less than this share of its output's largest value may be rounding only; it is not reported as lost.
_MIN_SHARE = 1e-4
# The precision of a float32 sum relative to its largest term: about eight units in the last place (1.2e-7).
_ROUNDING = 1e-6
# A slice with fewer values than this may be constant by chance.
_FEW = 8


@dataclass(frozen=True)
class Sizes:
    """The sizes of an output's parts, from the original's answers to all cases.

    usual         a size that the largest value of most answers exceeds
    coarse_least  the size that every answer counts as at least, if values of another kind are not separated
    shares        axis → the usual share of each of its slices in the whole; only axes of the same size in all cases
    """

    usual: float
    coarse_least: float
    shares: dict[int, np.ndarray]

    @classmethod
    def of(cls, answers: Sequence[np.ndarray], share: float) -> "Sizes":
        """share: the smallest share of the whole that a slice counts as."""
        if answers[0].dtype.kind != "f":
            return cls(0.0, 0.0, {})
        usual = [_usual(answer) for answer in answers]
        wholes = [largest(each) for each in usual]
        shares = {}
        for axis in _axes(answers):
            slices = [_slices(each, axis) / whole for each, whole in zip(usual, wholes, strict=True) if whole]
            if slices:
                shares[axis] = np.maximum(np.median(slices, axis=0), share)
        return cls(_usually(wholes), least_size(answers), shares)

    def differences(self, a: np.ndarray, b: np.ndarray, rounding: float = _ROUNDING) -> np.ndarray:
        """Return the difference of each part: the whole, the values of another kind, then the slices axis by axis.

        rounding  a slice may differ by this share of the whole, because one close to zero may be rounding only
        """
        if a.dtype.kind != "f":
            return np.array([float(np.mean(a != b)) if a.size else 0.0])
        usual = _usual(a)
        odd = usual != np.where(np.isfinite(a), a, 0)
        delta = delta_of(a, b)
        odd_delta, delta = np.where(odd, delta, 0), np.where(odd, 0, delta)
        whole = max(largest(usual), _MIN_SIZE_RATIO * self.usual)
        ignored = rounding * max(whole, self.usual)
        with np.errstate(invalid="ignore", divide="ignore"):
            odd_ratio = ratio(odd_delta, np.abs(np.where(odd, a, 1)))
        parts = [np.array([ratio(delta.max(initial=0.0), whole), odd_ratio.max(initial=0.0)])]
        for axis, shares in self.shares.items():
            off = _slices(delta, axis)
            off = np.where(off <= ignored, 0, off)
            parts.append(ratio(off, np.maximum(_slices(usual, axis), shares * whole)))
        return np.concatenate(parts)

    def coarse(self, a: np.ndarray, b: np.ndarray) -> float:
        """Return the difference measured by the largest value only; for integers, the share of values that differ."""
        return relative_difference(a, b, self.coarse_least)

    def name(self, index: int, rank: int) -> str:
        """Return the name of the part with this index in the result of differences(); "" for the whole."""
        index -= 2
        for axis, shares in self.shares.items():
            if 0 <= index < len(shares):
                return slice_name(axis, index, rank)
            index -= len(shares)
        return ""


def slice_name(axis: int, index: int, rank: int) -> str:
    return "[" + ", ".join(str(index) if each == axis else ":" for each in range(rank)) + "]"


def least_size(answers: Sequence[np.ndarray]) -> float:
    """Return the size that every answer counts as at least. It follows the usual size, not that of huge answers."""
    return _MIN_SIZE_RATIO * _usually([largest(each) for each in answers])


def constant_part(answers: Sequence[tuple[np.ndarray, np.ndarray]]) -> str:
    """Return the name of a slice that is constant in the other model but not in the original; "" if there is none."""
    originals, others = [a for a, _ in answers], [b for _, b in answers]
    if not answers or originals[0].dtype.kind != "f":
        return ""
    if all(np.all((a >= 0) & (a <= 1)) for a in originals):
        return ""  # probabilities: those of absent classes may well be zero
    for axis in [each for each in _axes(originals) if each or originals[0].ndim == 1]:
        low, high = (_extremes(originals, axis, end) for end in (np.fmin, np.fmax))
        other_low, other_high = (_extremes(others, axis, end) for end in (np.fmin, np.fmax))
        share = np.max([_slices(_usual(a), axis) / (largest(_usual(a)) or 1.0) for a in originals], axis=0)
        count = sum(a.size // a.shape[axis] for a in originals)
        varies = (high - low > 0.1 * np.maximum(np.abs(high), np.abs(low))) & (share > _MIN_SHARE)
        lost = np.flatnonzero(varies & (other_low == other_high))
        if lost.size and count >= _FEW:
            return slice_name(axis, int(lost[0]), originals[0].ndim)
    return ""


def is_ranking(answers: Sequence[np.ndarray]) -> bool:
    """Whether these are scores as top-k returns them: never rising along the last axis, and not all equal."""
    if not answers or any(a.dtype.kind != "f" or a.ndim < 1 or a.shape[-1] < 2 for a in answers):
        return False
    with np.errstate(invalid="ignore", over="ignore"):  # adjacent infinities, and steps beyond the largest number
        steps = [np.diff(a) for a in answers]
    return all(np.all(each <= 0) for each in steps) and any(np.any(each < 0) for each in steps)


def has_ties(ranking: np.ndarray) -> bool:
    """Whether neighbors are equal, or so close that rounding decides their order."""
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(np.any(np.diff(ranking) >= -_ROUNDING * np.abs(ranking[..., 1:])))


def _extremes(arrays: Sequence[np.ndarray], axis: int, end: np.ufunc) -> np.ndarray:
    """Return the smallest or largest number of each slice over all arrays."""
    each = [end.reduce(np.where(np.isfinite(a), a, np.nan), axis=_other_axes(a, axis)) for a in arrays]
    found: np.ndarray = end.reduce(each, axis=0).astype(np.float64)
    return found


def _axes(answers: Sequence[np.ndarray]) -> list[int]:
    """Return the axes with the same size, larger than one, in all answers."""
    ranks = {each.ndim for each in answers}
    if len(ranks) > 1:
        return []
    sizes = [set(each) for each in zip(*[each.shape for each in answers], strict=True)]
    return [axis for axis, each in enumerate(sizes) if len(each) == 1 and each.pop() > 1]


def _other_axes(a: np.ndarray, axis: int) -> tuple[int, ...]:
    return tuple(each for each in range(a.ndim) if each != axis)


def _slices(a: np.ndarray, axis: int) -> np.ndarray:
    """Return the largest |value| of each slice along the axis. `a` must be finite."""
    found: np.ndarray = np.abs(a).max(axis=_other_axes(a, axis), initial=0.0)
    return found


def _usually(sizes: Sequence[float]) -> float:
    """Return what three of four sizes exceed. Not the median: exponentials may explode on half of the inputs."""
    return float(np.quantile(sizes, 0.25, method="lower"))


def _usual(a: np.ndarray) -> np.ndarray:
    """Return the values as FP64, with zeros for NaN, infinities, and values far larger than all others."""
    numbers = np.where(np.isfinite(a), a, 0).astype(np.float64)
    if largest(numbers) < _GAP:
        return numbers
    sorted_sizes = np.unique(np.abs(numbers))
    sorted_sizes = sorted_sizes[sorted_sizes > 0]
    gaps = np.flatnonzero((sorted_sizes[1:] >= _GAP * sorted_sizes[:-1]) & (sorted_sizes[1:] >= _GAP))
    return np.where(np.abs(numbers) > sorted_sizes[gaps[0]], 0, numbers) if gaps.size else numbers
