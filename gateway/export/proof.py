"""Whether two models compute the same: what they gave for the same inputs, output by output, part by part.

A part is an output as a whole, or a slice of it along one of its axes: the x of all boxes, one row, one class. A
part's difference is the largest |a - b| of a case over that part's own size in that case, a being the original's:
what is wrong with small numbers shows beside large ones, and a case with huge ones hides no other case. NaN and
infinities must stand in the same places. Integers and booleans count as different or not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gateway.export import parts
from gateway.export.parts import Sizes
from runtimes.contract import kind_of

Arrays = Mapping[str, np.ndarray]

# Of the largest value: what each precision may differ by, seen to hold for sound exports with room to spare.
TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "dynamic": 1e-1, "int8": 2e-1}
# Exports round in more places than inputs that move by one unit: so many times what such inputs change is noise.
_NOISE = 8.0
# More noise than this is none that an answer could be compared in.
_MAX_NOISE = 1e-2
# Of the cases, how many may be left out for noise.
_MAX_LEFT_OUT = 0.5
# Of the rows with a clear winner, how many must have the same.
_MIN_TOP1 = 0.5
_NOTHING = "the original gives no number to compare: give other inputs by --check"


class Answers(NamedTuple):
    """Of both models to one case.

    moved  the original's answers to the same inputs, moved by one unit in the last place; () if nobody asked
    exact  whether a large change of those still says nothing: the inputs are meant exactly (draws.Draw)
    """

    case: str
    original: Arrays
    other: Arrays
    moved: Sequence[Arrays] = ()
    exact: bool = True


@dataclass(frozen=True)
class OutputDifference:
    """One output over all cases.

    absolute   the largest |a - b|
    relative   the largest of a part of a case, over that part's size there; of integers, the share that differs
    case       where `relative` was seen; where: in which part, such as "[:, :, 3]", "" for the whole
    coarse     as `relative`, measured by the output's largest value alone
    top1       of rows with a clear winner in the original, the part that has the same; None: not a classifier
    loss       what is lost although `coarse` is small, in words; "" if nothing
    problem    why it cannot be compared, in words; "" if it can
    differing  the cases in which it differs by more than it may
    left_out   the cases in which the original's own answers are noise, or a choice among equals
    """

    name: str
    absolute: float = 0.0
    relative: float = 0.0
    case: str = ""
    top1: float | None = None
    problem: str = ""
    where: str = ""
    coarse: float = 0.0
    loss: str = ""
    differing: Sequence[str] = ()
    left_out: Sequence[str] = ()


def compare(
    names: Sequence[str],
    answers: Sequence[Answers],
    tolerance: float = TOLERANCES["float32"],
    classifiers: frozenset[str] = frozenset(),
) -> list[OutputDifference]:
    """classifiers: outputs whose last dimension is classes."""
    ranked = [name for name in names if all(name in each.original for each in answers)]
    ranked = [name for name in ranked if parts.is_ranking([each.original[name] for each in answers])]
    tied = {each.case: {name for name in ranked if parts.has_ties(each.original[name])} for each in answers}
    return [_output(name, answers, tolerance, name in classifiers, tied) for name in names]


def within(difference: OutputDifference, tolerance: float, allow_loss: bool = False) -> bool:
    """allow_loss: an output's largest value is all that its differences are measured by, and parts may be lost."""
    if difference.problem:
        return False
    if allow_loss:
        return difference.coarse <= tolerance
    return difference.relative <= tolerance and not difference.loss


def looks_like_classes(shape: Sequence[int] | None, datatype: str) -> bool:
    """A row of scores per row of input."""
    return kind_of(datatype) == "float" and shape is not None and len(shape) == 2 and shape[1] > 1


def scale(answer: np.ndarray, all_answers: Sequence[np.ndarray]) -> float:
    """What a difference from this answer as a whole is divided by; all_answers: to every case."""
    return max(parts.largest(answer), parts.least_size(all_answers)) or parts.SMALLEST


def _output(
    name: str, answers: Sequence[Answers], tolerance: float, classifier: bool, tied: Mapping[str, set[str]]
) -> OutputDifference:
    """tied: case → outputs of ranked scores among which some are equal: which of those is first is chance."""
    if not answers:
        return OutputDifference(name, problem=_NOTHING)
    for each in answers:
        if name not in each.original or name not in each.other:
            lacking = "the original" if name not in each.original else "the export"
            return OutputDifference(name, problem=f"case {each.case}: {lacking} lacks it", differing=(each.case,))
        a, b = each.original[name], each.other[name]
        if a.shape != b.shape:
            told = f"it has shape {list(b.shape)} where the original has {list(a.shape)}"
            return OutputDifference(name, problem=f"case {each.case}: {told}")
    sizes = Sizes.of([each.original[name] for each in answers], share=min(1.0, 10 * tolerance))
    worst, absolute, coarse = _Worst(), 0.0, 0.0
    differing, left_out, problem = [], [], ""
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for each in answers:
        a, b = each.original[name], each.other[name]
        moved = [other[name] for other in each.moved if name in other]
        wrong = not_finite(a, b)
        found = np.zeros(0) if wrong else sizes.differences(a, b)
        if wrong or np.any(found > tolerance):
            if tied[each.case] - {name}:
                left_out.append(each.case)
                continue
            noise = _noise(sizes, a, moved)
            if not each.exact and (noise is None or (not wrong and _only_noise(found, noise, tolerance))):
                left_out.append(each.case)
                continue
            if not wrong and noise is not None:
                found = np.where(found <= np.minimum(_NOISE * noise, _MAX_NOISE), np.minimum(found, tolerance), found)
            if wrong or np.any(found > tolerance):
                differing.append(each.case)
        if wrong:
            problem = problem or f"case {each.case}: {wrong}"
            continue
        worst = worst.or_this(found, each.case, sizes, a.ndim)
        absolute = max(absolute, parts.far(a, b))
        coarse = max(coarse, sizes.coarse(a, b))
        kept.append((a, b))
    if not problem:
        problem = _too_little(kept, answers, left_out)
    top1 = _top1(kept) if classifier else None
    loss = "" if problem else _loss(kept, top1, classifier)
    return OutputDifference(
        name, absolute, worst.relative, worst.case, top1, problem, worst.where, coarse, loss, differing, left_out
    )  # fmt: skip


class _Worst(NamedTuple):
    relative: float = 0.0
    case: str = ""
    where: str = ""

    def or_this(self, found: np.ndarray, case: str, sizes: Sizes, rank: int) -> "_Worst":
        at = int(np.argmax(found)) if found.size else 0
        relative = float(found[at]) if found.size else 0.0
        if self.case and relative <= self.relative:
            return self
        return _Worst(relative, case, sizes.name(at, rank))


def _noise(sizes: Sizes, a: np.ndarray, moved: Sequence[np.ndarray]) -> np.ndarray | None:
    """What the original's own answer changes by, part by part; None where its very kind of number or shape changes."""
    if any(other.shape != a.shape or not_finite(a, other) for other in moved):
        return None
    found = [sizes.differences(a, other, rounding=0.0) for other in moved]  # small changes are what is looked for
    return np.max(found, axis=0) if found else np.zeros(1)


def _only_noise(found: np.ndarray, noise: np.ndarray, tolerance: float) -> bool:
    """Whether there is more noise than could be compared in, in each of the parts that differ."""
    noisy, allowed = _NOISE * noise > _MAX_NOISE, np.maximum(_NOISE * noise, tolerance)
    return bool(np.any(noisy & (found > tolerance))) and bool(np.all(noisy | (found <= allowed)))


def not_finite(a: np.ndarray, b: np.ndarray) -> str:
    """Why what is no number there cannot be the same; "" if it can."""
    if a.dtype.kind == "f":
        if not np.array_equal(np.isnan(a), np.isnan(b)):
            return "it has NaN where the original has none, or the other way round"
        infinite = np.isinf(a) | np.isinf(b)
        if not np.array_equal(a[infinite], b[infinite]):
            return "it has infinities where the original has none, or the other way round"
    return ""


def _too_little(
    kept: Sequence[tuple[np.ndarray, np.ndarray]], answers: Sequence[Answers], left_out: Sequence[str]
) -> str:
    if len(left_out) > _MAX_LEFT_OUT * len(answers):
        return (
            f"on {len(left_out)} of {len(answers)} inputs the original's own answer changes when they move by one unit "
            "in the last place: give real ones by --check"
        )
    if not any(np.any(np.isfinite(a)) if a.dtype.kind == "f" else a.size for a, _ in kept):
        return _NOTHING
    return ""


def _loss(kept: Sequence[tuple[np.ndarray, np.ndarray]], top1: float | None, classifier: bool) -> str:
    if top1 is not None and top1 < _MIN_TOP1:
        return f"the highest score is the same one in {top1:.0%} of the rows"
    if not classifier and (part := parts.constant_part(kept)):
        return f"{part} is always the same value, where the original's changes"
    return ""


def _top1(kept: Sequence[tuple[np.ndarray, np.ndarray]]) -> float | None:
    counted = [_agreement(a, b) for a, b in kept]
    same, clear = sum(each[0] for each in counted), sum(each[1] for each in counted)
    return same / clear if clear else None


def _agreement(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    """Rows with the same winner, of those in which the original has a clear one."""
    if a.ndim < 1 or a.shape[-1] < 2:
        return 0, 0
    flat, other = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    top = np.partition(flat, -2, axis=-1)
    clear = top[:, -1] - top[:, -2] > 1e-6 * np.maximum(np.abs(top[:, -1]), 1e-30)
    same = flat.argmax(axis=-1) == other.argmax(axis=-1)
    return int(np.sum(same & clear)), int(np.sum(clear))
