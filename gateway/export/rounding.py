"""Compares numbers of few digits, FP16, BF16 and FP8, with what was rounded to them.

Neighbors in FP16 differ by up to 2^-10 of their size, in BF16 by up to 2^-7, and in FP8 by up to a quarter: a tolerance
that excuses rounding would excuse mistakes. And an original that computes in FP16 or BF16 rounds after each operator,
where no export does. So the original is computed in FP32 where that is possible, and a number of the export is right if
it is the original's number in FP32, rounded once.
"""

import math
from collections.abc import Sequence

import numpy as np

from gateway.domain.differences import relative_difference
from runtimes.contract import datatype_of
from runtimes.tensors import widened

Array = np.ndarray

# An original that differs from itself in FP32 by more than this is mostly rounding, and nothing can be compared with
# it. It is also the most that excuses a difference between an original and its export.
MOST = 2.0**-4
# Ranks of scores, such as the largest one's, differ where rounding makes scores equal, but not in most places.
_MOST_INTEGERS = 0.5
# How far neighbors are apart at most, relative to the larger one.
_COARSE = {"FP16": 2.0**-10, "BF16": 2.0**-7, "FP8_E4M3FN": 2.0**-3, "FP8_E5M2": 2.0**-2}

# Models that compute the same round it to neighbors only where it is nearly half-way between them. This many of the
# numbers in FP8 may be neighbors, and this many more for each unit of the tolerance, which is a part of their distance.
_MOST_NEIGHBORS = 0.1
_NEIGHBORS_PER_TOLERANCE = 16.0
# Of fewer numbers, the share is chance.
_LEAST_NUMBERS = 32


def is_coarse(datatype: str) -> bool:
    return datatype in _COARSE


def reference(precise: Array, own: Array | None) -> Array:
    """Return the numbers that are right, in a dtype of numpy: `precise`, which is the original's answer in FP32.

    own: the original's own answer, which is right where a number is too large for its datatype
    """
    a = widened(precise)
    if own is None or own.shape != a.shape or a.dtype.kind != "f":
        return a
    ours = widened(own)
    return np.where(np.isfinite(a) == np.isfinite(ours), a, ours)


def unrounded(precise: Array, own: Array | None, answer: Array) -> Array:
    """Return an export's answer in a dtype of numpy, moved towards `precise` as far as rounding may have moved it.

    Numbers that are the original's own are right. If `precise` is rounded as well, neighbors are equal.
    """
    wide = widened(answer)
    datatype = datatype_of(answer.dtype)
    if precise.shape != answer.shape or not is_coarse(datatype):
        return wide
    right = reference(precise, own)
    steps = 1.0 if is_coarse(datatype_of(precise.dtype)) else 0.5
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(widened(np.spacing(answer)))
        apart = np.where(np.isfinite(apart), apart, np.abs(wide) * _COARSE[datatype])  # the largest number has no next
        most = steps * apart
        near = wide + np.clip(right - wide, -most, most)
    found = np.where(np.isfinite(right) & np.isfinite(wide), near, wide)
    if own is None or own.shape != answer.shape:
        return found
    ours = widened(own)
    return np.where((ours == wide) | (np.isnan(ours) & np.isnan(wide)), right, found)


def own_error(precise: Array, own: Array, least: float) -> float:
    """Return how much the original differs from itself in FP32, rounded once, relative to its largest value, which is
    `least` at least. For integers, it is the share of those that differ. Infinite if the two have different shapes, as
    where the model reads the bits of BF16, or if the original is NaN or infinite where its number in FP32 is not too
    large for its datatype, because a step in between was.
    """
    if precise.shape != own.shape or _overflows_between(precise, own):
        return math.inf
    return relative_difference(widened(precise), unrounded(precise, None, own), least)


def is_mostly_rounding(error: float, own: Array) -> bool:
    """Return whether an original with this error is too far from itself in FP32 to be compared."""
    return error > (MOST if widened(own).dtype.kind == "f" else _MOST_INTEGERS)


def neighbors_problem(pairs: Sequence[tuple[Array, Array]], tolerance: float) -> str:
    """Return why an output in FP8 is not that of the original although its numbers are equal or neighbors; "" if it
    may be.

    pairs: the original's own answers and the export's
    """
    kept = [(a, b) for a, b in pairs if datatype_of(a.dtype).startswith("FP8") and a.shape == b.shape]
    if not kept:
        return ""
    ours, theirs = (np.concatenate([widened(each).ravel() for each in arrays]) for arrays in zip(*kept, strict=True))
    numbers = np.isfinite(ours) & np.isfinite(theirs) & (ours != 0)
    share = np.mean(ours[numbers] != theirs[numbers]) if np.sum(numbers) >= _LEAST_NUMBERS else 0.0
    if share <= _MOST_NEIGHBORS + _NEIGHBORS_PER_TOLERANCE * tolerance:
        return ""
    return f"{share:.0%} of its numbers are neighbors of the original's, and few would be if both computed the same"


def _overflows_between(precise: Array, own: Array) -> bool:
    a, ours = widened(precise), widened(own)
    if a.dtype.kind != "f" or ours.dtype.kind != "f":
        return False
    with np.errstate(invalid="ignore", over="ignore"):
        once = widened(a.astype(own.dtype))
    return bool(np.any(np.isfinite(once) & ~np.isfinite(ours)))
