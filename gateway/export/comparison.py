"""Decides whether two models compute the same, from their outputs for the same inputs.

Outputs are compared part by part. A part is an output as a whole, or a slice along one of its axes: the x of all
boxes, one row, one class. A part's difference is its largest |a - b| in a case, divided by the part's own size in that
case, where a is the original's. So errors in small numbers show next to large ones, and a case with huge numbers does
not hide another. NaN and infinities must be in the same positions. Integers and booleans are equal or different.

A model that computes in FP16 or BF16 is compared as it would compute in FP32; see rounding.py.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from gateway.domain.differences import agreement, largest, max_difference, not_finite
from gateway.export import parts, rounding
from gateway.export.parts import Sizes
from runtimes.contract import datatype_of
from runtimes.tensors import widened

Arrays = Mapping[str, np.ndarray]

# The largest difference allowed for each precision. Correct exports were observed to stay well below these.
# Too small refuses correct exports; too large accepts broken ones.
TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "dynamic": 1e-1, "int8": 2e-1}
# An export may differ by this multiple of the change that inputs moved by one unit cause in the original, because it
# rounds in more places. Too small refuses correct exports of badly conditioned models; too large excuses real errors.
_NOISE_FACTOR = 8.0
# The most that noise may excuse. An answer with more noise cannot be compared, and its case is left out.
_MAX_NOISE = 1e-2
# The share of cases that may be left out for noise. With more, the comparison would rest on too few inputs.
_MAX_LEFT_OUT = 0.5
# The share of rows with a clear winner that must have the same one. Quantized exports that work keep most winners.
_MIN_TOP1 = 0.5
# The largest difference allowed of outputs in BF16 if it is not known what the original computes in FP32. Each operator
# of such a model rounds, and another framework rounds elsewhere. This is eight times its step.
_OF_DATATYPE = {"BF16": rounding.MOST}
_NOTHING = "the original returns no number to compare: provide other inputs with --check"


class Answers(NamedTuple):
    """Both models' outputs for one case.

    moved  the original's answers to the same inputs, moved by one unit in the last place; () if not requested
    exact  whether the inputs are meant exactly (draws.Draw), so that a large change of `moved` excuses nothing
    own    the original's answers, if `original` is what it would answer if it computed in FP32
    """

    case: str
    original: Arrays
    other: Arrays
    moved: Sequence[Arrays] = ()
    exact: bool = True
    own: Arrays = MappingProxyType({})


@dataclass(frozen=True)
class OutputDifference:
    """One output over all cases.

    absolute   the largest |a - b|
    relative   the largest difference of any part in any case; for integers, the share of values that differ
    case       the case of `relative`; where: its part, such as "[:, :, 3]", or "" for the whole
    coarse     as `relative`, but measured by the output's largest value only
    top1       the share of rows with a clear winner in the original that have the same one; None: not a classifier
    loss       what is lost although `coarse` is small, in words; "" if nothing
    problem    why the output cannot be compared, in words; "" if it can
    differing  the cases in which the output differs by more than allowed
    left_out   the cases in which the original's own answers are noise, or a choice among equal scores
    own        how much the original itself differs from what it would compute in FP32, as `coarse`; for integers,
               the share of values that differ
    allowed    the largest difference that its datatype allows, if that is more than the comparison does; else 0
    large      the exponent of two of the integers in inputs from which on the output differs; 0: it never does
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
    large: int = 0
    allowed: float = 0.0
    own: float = 0.0


def compare(
    names: Sequence[str],
    answers: Sequence[Answers],
    tolerance: float = TOLERANCES["float32"],
    classifiers: frozenset[str] = frozenset(),
    few_neighbors: bool = False,
) -> list[OutputDifference]:
    """Compare the named outputs over all cases.

    classifiers    outputs whose last dimension is classes
    few_neighbors  whether the original computes in FP32, so that few of its numbers in FP8 may be neighbors of the
                   other model's
    """
    allowed = {name: _allowed(name, answers) for name in names}
    own = {name: _own_errors(name, answers) for name in names}
    neighbors = {name: _neighbors(name, answers, tolerance) if few_neighbors else "" for name in names}
    answers = [each._replace(**_unrounded(each)) for each in answers]
    ranked = [name for name in names if all(name in each.original for each in answers)]
    ranked = [name for name in ranked if parts.is_ranking([each.original[name] for each in answers])]
    tied = {each.case: {name for name in ranked if parts.has_ties(each.original[name])} for each in answers}
    found = []
    for name in names:
        errors, limit = own[name], max(tolerance, allowed[name])
        noisy = {
            each.case
            for each in answers
            if each.case in errors and rounding.is_mostly_rounding(errors[each.case], each.original[name])
        }
        difference = _output(name, answers, limit, name in classifiers, tied, noisy)
        most = max((error for case, error in errors.items() if case not in noisy), default=0.0)
        problem = difference.problem or neighbors[name]
        found.append(replace(difference, allowed=allowed[name], own=most, problem=problem))
    return found


def _allowed(name: str, answers: Sequence[Answers]) -> float:
    found = (each.original[name].dtype for each in answers if name in each.original and not each.own)
    return max((_OF_DATATYPE.get(datatype_of(dtype), 0.0) for dtype in found), default=0.0)


def _neighbors(name: str, answers: Sequence[Answers], tolerance: float) -> str:
    compared = [each for each in answers if not each.own and name in each.original and name in each.other]
    return rounding.neighbors_problem([(each.original[name], each.other[name]) for each in compared], tolerance)


def _own_errors(name: str, answers: Sequence[Answers]) -> dict[str, float]:
    """Return case → how much the original differs from what it would compute in FP32, if that is known."""
    known = [each for each in answers if name in each.own and name in each.original]
    least = parts.least_size([widened(each.original[name]) for each in known]) if known else 0.0
    return {each.case: rounding.own_error(each.original[name], each.own[name], least) for each in known}


def _unrounded(answers: Answers) -> dict[str, Any]:
    """Return the outputs of both models in datatypes of numpy, without differences that rounding explains."""
    own = answers.own

    def others(outputs: Arrays) -> Arrays:
        return {
            name: rounding.unrounded(answers.original.get(name, array), own.get(name), array)
            for name, array in outputs.items()
        }

    original = {name: rounding.reference(array, own.get(name)) for name, array in answers.original.items()}
    return {"original": original, "other": others(answers.other), "moved": [others(each) for each in answers.moved]}


def within(difference: OutputDifference, tolerance: float, allow_loss: bool = False) -> bool:
    """Whether the output is close enough. allow_loss: measure by its largest value only, and accept lost parts,
    and differences for large integers.
    """
    if difference.problem:
        return False
    tolerance = max(tolerance, difference.allowed)
    if allow_loss:
        return difference.coarse <= tolerance
    return difference.relative <= tolerance and not difference.loss and not difference.large


def scale(answer: np.ndarray, all_answers: Sequence[np.ndarray]) -> float:
    """Return the divisor for differences from this answer as a whole. all_answers: for every case."""
    return max(largest(answer), parts.least_size(all_answers)) or parts.SMALLEST


def _output(
    name: str,
    answers: Sequence[Answers],
    tolerance: float,
    classifier: bool,
    tied: Mapping[str, set[str]],
    noisy: Container[str],
) -> OutputDifference:
    """tied: case → outputs of ranked scores of which some are equal, so that their order is arbitrary.

    noisy: the cases in which the original itself rounds too much
    """
    if not answers:
        return OutputDifference(name, problem=_NOTHING)
    for each in answers:
        if name not in each.original or name not in each.other:
            model = "the original" if name not in each.original else "the export"
            return OutputDifference(name, problem=f"case {each.case}: {model} lacks it", differing=(each.case,))
        a, b = each.original[name], each.other[name]
        if a.shape != b.shape:
            shapes = f"it has shape {list(b.shape)} where the original has {list(a.shape)}"
            return OutputDifference(name, problem=f"case {each.case}: {shapes}", differing=(each.case,))
    sizes = Sizes.of([each.original[name] for each in answers], share=min(1.0, 10 * tolerance))
    worst, absolute, coarse = _Worst(), 0.0, 0.0
    differing, left_out, problem = [], [], ""
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for each in answers:
        if each.case in noisy:
            left_out.append(each.case)
            continue
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
                excused = found <= np.minimum(_NOISE_FACTOR * noise, _MAX_NOISE)
                found = np.where(excused, np.minimum(found, tolerance), found)
            if wrong or np.any(found > tolerance):
                differing.append(each.case)
        if wrong:
            problem = problem or f"case {each.case}: {wrong}"
            continue
        worst = worst.or_this(found, each.case, sizes, a.ndim)
        absolute = max(absolute, max_difference(a, b))
        coarse = max(coarse, sizes.coarse(a, b))
        kept.append((a, b))
    if not problem:
        problem = _insufficient(kept, answers, left_out)
    top1 = _top1(kept) if classifier else None
    return OutputDifference(
        name,
        absolute=absolute,
        relative=worst.relative,
        case=worst.case,
        top1=top1,
        problem=problem,
        where=worst.where,
        coarse=coarse,
        loss="" if problem else _loss(kept, top1, classifier),
        differing=differing,
        left_out=left_out,
    )


class _Worst(NamedTuple):
    relative: float = 0.0
    case: str = ""
    where: str = ""

    def or_this(self, found: np.ndarray, case: str, sizes: Sizes, rank: int) -> "_Worst":
        index = int(np.argmax(found)) if found.size else 0
        relative = float(found[index]) if found.size else 0.0
        if self.case and relative <= self.relative:
            return self
        return _Worst(relative, case, sizes.name(index, rank))


def _noise(sizes: Sizes, a: np.ndarray, moved: Sequence[np.ndarray]) -> np.ndarray | None:
    """Return how much the original's own answer changes in each part.

    None if its shape changes, or if numbers become NaN or infinite.
    """
    if any(other.shape != a.shape or not_finite(a, other) for other in moved):
        return None
    found = [sizes.differences(a, other, rounding=0.0) for other in moved]  # no rounding: noise is small
    return np.max(found, axis=0) if found else np.zeros(1)


def _only_noise(found: np.ndarray, noise: np.ndarray, tolerance: float) -> bool:
    """Whether every part that differs has more noise than a comparison allows."""
    noisy, allowed = _NOISE_FACTOR * noise > _MAX_NOISE, np.maximum(_NOISE_FACTOR * noise, tolerance)
    return bool(np.any(noisy & (found > tolerance))) and bool(np.all(noisy | (found <= allowed)))


def _insufficient(
    kept: Sequence[tuple[np.ndarray, np.ndarray]], answers: Sequence[Answers], left_out: Sequence[str]
) -> str:
    if len(left_out) > _MAX_LEFT_OUT * len(answers):
        return (
            f"on {len(left_out)} of {len(answers)} inputs the original's own answer is mostly rounding, or changes "
            "when they move by one unit in the last place: provide real ones with --check"
        )
    if not any(np.any(np.isfinite(a)) if a.dtype.kind == "f" else a.size for a, _ in kept):
        return _NOTHING
    return ""


def _loss(kept: Sequence[tuple[np.ndarray, np.ndarray]], top1: float | None, classifier: bool) -> str:
    if top1 is not None and top1 < _MIN_TOP1:
        return f"only {top1:.0%} of the rows have the same highest score"
    if not classifier and (part := parts.constant_part(kept)):
        return f"{part} is constant, but varies in the original"
    return ""


def _top1(kept: Sequence[tuple[np.ndarray, np.ndarray]]) -> float | None:
    counted = [agreement(a, b) for a, b in kept]
    same, clear = sum(each[0] for each in counted), sum(each[1] for each in counted)
    return same / clear if clear else None
