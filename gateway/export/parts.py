"""The parts of an output, how large each is in a case, and how far another's are from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SMALLEST = float(np.finfo(np.float64).tiny)
# An output that is smaller than this part of what it usually is, is measured by that part: sums that are nearly zero,
# and gates that are nearly closed, leave the rounding of larger numbers.
_MIN_SIZE_RATIO = 1e-2
# Values so many times larger than all others are of another kind, as the -1e9 that masks put in place of a score.
_GAP = 1e3
# A part that holds less than this of its output's largest value may be rounding alone, and so of no interest.
_MIN_SHARE = 1e-4
# What float32 computes a number to, relative to the largest that it is a sum of.
_ROUNDING = 1e-6
# So few values may be the same by chance.
_FEW = 8


@dataclass(frozen=True)
class Sizes:
    """Of an output's parts, as the original's answers to all cases show them.

    usual   what the largest value of most answers exceeds
    coarse_least  what no answer counts as smaller than where values of another kind are not told apart
    shares  axis → how much of the whole each of its slices usually holds; axes of one size in all cases alone
    """

    usual: float
    coarse_least: float
    shares: dict[int, np.ndarray]

    @classmethod
    def of(cls, answers: Sequence[np.ndarray], share: float) -> "Sizes":
        """share: what a part at least counts as, of the whole."""
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
        """Of each part: the whole, what is of another kind, and the slices of one axis after another.

        rounding  by this part of the whole a slice may be off: one that is nearly zero may be rounding alone
        """
        if a.dtype.kind != "f":
            return np.array([float(np.mean(a != b)) if a.size else 0.0])
        usual = _usual(a)
        odd = usual != np.where(np.isfinite(a), a, 0)
        far = _far(a, b)
        far_odd, far = np.where(odd, far, 0), np.where(odd, 0, far)
        whole = max(largest(usual), _MIN_SIZE_RATIO * self.usual)
        forgiven = rounding * max(whole, self.usual)
        with np.errstate(invalid="ignore", divide="ignore"):
            found = [_ratio(far.max(initial=0.0), whole), _ratio(far_odd, np.abs(np.where(odd, a, 1))).max(initial=0.0)]
        parts = [np.array(found)]
        for axis, shares in self.shares.items():
            off = _slices(far, axis)
            off = np.where(off <= forgiven, 0, off)
            parts.append(_ratio(off, np.maximum(_slices(usual, axis), shares * whole)))
        return np.concatenate(parts)

    def coarse(self, a: np.ndarray, b: np.ndarray) -> float:
        """By the largest value alone; of integers, the share that differs."""
        if a.dtype.kind != "f":
            return float(np.mean(a != b)) if a.size else 0.0
        return float(_ratio(np.array(far(a, b)), max(largest(a), self.coarse_least)))

    def name(self, at: int, rank: int) -> str:
        """Of the part that has this place among the differences."""
        at -= 2
        for axis, shares in self.shares.items():
            if 0 <= at < len(shares):
                return slice_name(axis, at, rank)
            at -= len(shares)
        return ""


def slice_name(axis: int, place: int, rank: int) -> str:
    return "[" + ", ".join(str(place) if each == axis else ":" for each in range(rank)) + "]"


def largest(a: np.ndarray) -> float:
    return float(np.max(np.abs(a[np.isfinite(a)]), initial=0.0)) if a.dtype.kind == "f" else 0.0


def least_size(answers: Sequence[np.ndarray]) -> float:
    """By what is usual: answers with huge values make no others small."""
    return _MIN_SIZE_RATIO * _usually([largest(each) for each in answers])


def far(a: np.ndarray, b: np.ndarray) -> float:
    """The largest |a - b|."""
    return float(_far(a, b).max(initial=0.0))


def constant_part(answers: Sequence[tuple[np.ndarray, np.ndarray]]) -> str:
    """A slice in which the other gives one value for everything, and the original does not; "" if there is none."""
    originals, others = [a for a, _ in answers], [b for _, b in answers]
    if not answers or originals[0].dtype.kind != "f":
        return ""
    if all(np.all((a >= 0) & (a <= 1)) for a in originals):
        return ""  # probabilities: those of what is not there may well be zero
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
    """Whether these are scores as top-k gives them: never rising along their last axis, and not all the same."""
    if not answers or any(a.dtype.kind != "f" or a.ndim < 1 or a.shape[-1] < 2 for a in answers):
        return False
    with np.errstate(invalid="ignore"):  # infinities beside each other
        steps = [np.diff(a) for a in answers]
    return all(np.all(each <= 0) for each in steps) and any(np.any(each < 0) for each in steps)


def has_ties(ranking: np.ndarray) -> bool:
    """Whether neighbours are equal, or so nearly that rounding decides."""
    with np.errstate(invalid="ignore"):
        return bool(np.any(np.diff(ranking) >= -_ROUNDING * np.abs(ranking[..., 1:])))


def _extremes(arrays: Sequence[np.ndarray], axis: int, end: np.ufunc) -> np.ndarray:
    """The smallest or largest number of each slice, in all of them."""
    each = [end.reduce(np.where(np.isfinite(a), a, np.nan), axis=_others(a, axis)) for a in arrays]
    found: np.ndarray = end.reduce(each, axis=0)
    return found


def _axes(answers: Sequence[np.ndarray]) -> list[int]:
    """Those that have the same size in all of them, and more than one value."""
    ranks = {each.ndim for each in answers}
    if len(ranks) > 1:
        return []
    sizes = [set(each) for each in zip(*[each.shape for each in answers], strict=True)]
    return [axis for axis, each in enumerate(sizes) if len(each) == 1 and each.pop() > 1]


def _others(a: np.ndarray, axis: int) -> tuple[int, ...]:
    return tuple(each for each in range(a.ndim) if each != axis)


def _slices(a: np.ndarray, axis: int) -> np.ndarray:
    """The largest |value| of each slice along the axis; a: numbers alone."""
    found: np.ndarray = np.abs(a).max(axis=_others(a, axis), initial=0.0)
    return found


def _usually(sizes: Sequence[float]) -> float:
    """What three of four exceed: a model that takes exponentials may explode on more than half of generated inputs."""
    return float(np.quantile(sizes, 0.25, method="lower"))


def _usual(a: np.ndarray) -> np.ndarray:
    """FP64, zero in place of what is no number, and of values that are far larger than the others."""
    numbers = np.where(np.isfinite(a), a, 0).astype(np.float64)
    if largest(numbers) < _GAP:
        return numbers
    sorted_sizes = np.unique(np.abs(numbers))
    sorted_sizes = sorted_sizes[sorted_sizes > 0]
    gaps = np.flatnonzero((sorted_sizes[1:] >= _GAP * sorted_sizes[:-1]) & (sorted_sizes[1:] >= _GAP))
    return np.where(np.abs(numbers) > sorted_sizes[gaps[0]], 0, numbers) if gaps.size else numbers


def _far(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """FP64 |a - b|; zero where either is no number, which is compared elsewhere."""
    numbers = np.isfinite(a) & np.isfinite(b)
    found: np.ndarray = np.abs(np.where(numbers, a, 0).astype(np.float64) - np.where(numbers, b, 0).astype(np.float64))
    return found


def _ratio(far: np.ndarray | float, size: np.ndarray | float) -> np.ndarray:
    """Infinite where something differs from nothing."""
    far, size = np.asarray(far, np.float64), np.asarray(size, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(far == 0, 0.0, far / size)
