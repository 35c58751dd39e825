"""Whether two models compute the same: what they gave for the same inputs, output by output.

An output's difference is the largest |a - b| of a case over the largest |a| of that case, a being the
original's: what is wrong with small numbers shows, and rounding of large ones does not. NaN and infinities must
stand in the same places. Integers and booleans count as different or not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Arrays = Mapping[str, np.ndarray]

# Of the largest value: what each precision may differ by, seen to hold for sound exports with room to spare.
TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "dynamic": 1e-1, "int8": 2e-1}
# A case whose values are all smaller than this part of the largest of all cases is compared with that part.
_FLOOR = 1e-3
_SMALLEST = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class OutputDifference:
    """One output over all cases.

    absolute   the largest |a - b|
    relative   the largest of a case, over that case's largest |a|; of integers, the part that differs
    case       where `relative` was seen
    top1       of rows with a clear winner in the original, the part that has the same; None: not a classifier
    problem    why it cannot be compared, in words; "" if it can
    """

    name: str
    absolute: float = 0.0
    relative: float = 0.0
    case: str = ""
    top1: float | None = None
    problem: str = ""


def compare(
    names: Sequence[str], cases: Sequence[tuple[str, Arrays, Arrays]], classifiers: frozenset[str] = frozenset()
) -> list[OutputDifference]:
    """cases: name, the original's outputs, the other's. classifiers: outputs whose last dimension is classes."""
    return [
        _output(name, [(case, a.get(name), b.get(name)) for case, a, b in cases], name in classifiers) for name in names
    ]


def looks_like_classes(shape: Sequence[int] | None, datatype: str) -> bool:
    """A row of scores per row of input."""
    return datatype in ("FP16", "FP32", "FP64") and shape is not None and len(shape) == 2 and shape[1] > 1


def scale(answer: np.ndarray, all_answers: Sequence[np.ndarray]) -> float:
    """What a difference from this answer is divided by; all_answers: to every case."""
    return max(_largest(answer), _FLOOR * max(_largest(each) for each in all_answers)) or _SMALLEST


def _output(
    name: str, cases: Sequence[tuple[str, np.ndarray | None, np.ndarray | None]], classifier: bool
) -> OutputDifference:
    largest = max((_largest(a) for _, a, _ in cases if a is not None), default=0.0)
    absolute = relative = 0.0
    where = ""
    same = rows = values = 0
    for case, a, b in cases:
        if a is None or b is None:
            return OutputDifference(
                name, problem=f"case {case}: {'the original' if a is None else 'the export'} lacks it"
            )
        if problem := _incomparable(a, b):
            return OutputDifference(name, problem=f"case {case}: {problem}")
        values += int(np.sum(np.isfinite(a))) if a.dtype.kind == "f" else a.size
        far, part = _difference(a, b, largest)
        absolute = max(absolute, far)
        if part > relative or not where:
            relative, where = part, case
        if classifier:
            agreeing, clear = _agreement(a, b)
            same, rows = same + agreeing, rows + clear
    if not values:
        return OutputDifference(name, problem="the original gives no number to compare: give other inputs by --check")
    return OutputDifference(name, absolute, relative, where, same / rows if rows else None)


def _incomparable(a: np.ndarray, b: np.ndarray) -> str:
    if a.shape != b.shape:
        return f"it has shape {list(b.shape)} where the original has {list(a.shape)}"
    if a.dtype.kind == "f":
        if not np.array_equal(np.isnan(a), np.isnan(b)):
            return "it has NaN where the original has none, or the other way round"
        infinite = np.isinf(a) | np.isinf(b)
        if not np.array_equal(a[infinite], b[infinite]):
            return "it has infinities where the original has none, or the other way round"
    return ""


def _largest(a: np.ndarray) -> float:
    return float(np.max(np.abs(a[np.isfinite(a)]), initial=0.0)) if a.dtype.kind == "f" else 0.0


def _difference(a: np.ndarray, b: np.ndarray, largest: float) -> tuple[float, float]:
    """Absolute, and relative to the case's largest."""
    if a.dtype.kind != "f":
        differing = float(np.mean(a != b)) if a.size else 0.0
        return float(np.max(np.abs(a.astype(np.float64) - b.astype(np.float64)), initial=0.0)), differing
    finite = np.isfinite(a)
    far = float(np.max(np.abs(a[finite].astype(np.float64) - b[finite].astype(np.float64)), initial=0.0))
    scale = max(_largest(a), _FLOOR * largest)
    return far, far / scale if scale else (0.0 if not far else float("inf"))


def _agreement(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    """Rows with the same winner, of those in which the original has a clear one."""
    if a.ndim < 1 or a.shape[-1] < 2:
        return 0, 0
    flat, other = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    top = np.partition(flat, -2, axis=-1)
    clear = top[:, -1] - top[:, -2] > 1e-6 * np.maximum(np.abs(top[:, -1]), 1e-30)
    same = flat.argmax(axis=-1) == other.argmax(axis=-1)
    return int(np.sum(same & clear)), int(np.sum(clear))
