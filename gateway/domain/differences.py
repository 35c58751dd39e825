"""How much two answers to the same request differ: for exports, for `modelport compare`, and for shadows."""

from collections.abc import Sequence

import numpy as np

from runtimes.contract import kind_of


def largest(a: np.ndarray) -> float:
    """Return the largest finite |a|; 0 if there is none, or for integers."""
    return float(np.max(np.abs(a[np.isfinite(a)]), initial=0.0)) if a.dtype.kind == "f" else 0.0


def max_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest |a - b|, of where both are finite."""
    return float(delta(a, b).max(initial=0.0))


def delta(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return |a - b| as FP64; zero where either is not finite, since those values are compared elsewhere."""
    numbers = np.isfinite(a) & np.isfinite(b)
    found: np.ndarray = np.abs(np.where(numbers, a, 0).astype(np.float64) - np.where(numbers, b, 0).astype(np.float64))
    return found


def ratio(delta: np.ndarray | float, size: np.ndarray | float) -> np.ndarray:
    """Return delta / size: 0 for no difference, infinite for a difference from a part of size zero."""
    delta, size = np.asarray(delta, np.float64), np.asarray(size, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(delta == 0, 0.0, delta / size)


def relative_difference(a: np.ndarray, b: np.ndarray, least: float = 0.0) -> float:
    """Return the largest |a - b| divided by the largest |a|; for integers, the share of values that differ.

    least  the size that `a` counts as at least
    """
    if a.dtype.kind != "f":
        return float(np.mean(a != b)) if a.size else 0.0
    return float(ratio(max_difference(a, b), max(largest(a), least)))


def not_finite(a: np.ndarray, b: np.ndarray) -> str:
    """Return why the NaN or infinite values do not match; "" if they do."""
    if a.dtype.kind == "f":
        if not np.array_equal(np.isnan(a), np.isnan(b)):
            return "NaN is not in the same positions as in the original"
        infinite = np.isinf(a) | np.isinf(b)
        if not np.array_equal(a[infinite], b[infinite]):
            return "infinities are not in the same positions as in the original"
    return ""


def agreement(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    """Return the number of rows with the same winner, and of all rows in which the original has a clear one."""
    if a.ndim < 1 or a.shape[-1] < 2:
        return 0, 0
    flat, other = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    top = np.partition(flat, -2, axis=-1)
    with np.errstate(invalid="ignore", over="ignore"):  # two infinite scores are no clear winner
        lead = top[:, -1] - top[:, -2]
    clear = lead > 1e-6 * np.maximum(np.abs(top[:, -1]), 1e-30)
    same = flat.argmax(axis=-1) == other.argmax(axis=-1)
    return int(np.sum(same & clear)), int(np.sum(clear))


def looks_like_classes(shape: Sequence[int] | None, datatype: str) -> bool:
    """Whether the output looks like a row of scores for each row of input."""
    return kind_of(datatype) == "float" and shape is not None and len(shape) == 2 and shape[1] > 1
