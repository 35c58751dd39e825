"""What a comparison found, in sentences: why an export does not match, what may help, and notes for the report."""

from collections.abc import Sequence
from typing import NamedTuple

from gateway.export import comparison, known, rounding
from gateway.export.comparison import OutputDifference
from gateway.export.report import Run
from runtimes.contract import TensorSpec, kind_of


class Limits(NamedTuple):
    """How much an export may differ: see comparison.within."""

    tolerance: float
    allow_loss: bool = False


def mismatch(run: Run, limits: Limits) -> str:
    """Return why the export does not match, in one sentence; "" if it does."""
    for each in run.differences:
        if each.problem:
            return f"{run.runner}: output '{each.name}' cannot be right: {each.problem}"
        if comparison.within(each, *limits):
            continue
        if each.large:
            return f"{run.runner}: {_wrong_from(each)}"
        allowed = max(limits.tolerance, each.allowed)
        if each.relative <= allowed:
            return f"{run.runner}: output '{each.name}' loses information: {each.loss}"
        where = f" in {each.where}" if each.where else ""
        where += " from the original computed in FP32" if each.own else ""
        return (
            f"{run.runner}: output '{each.name}' differs by {each.relative:.2g} of its largest value{where} "
            f"({each.absolute:.2g}, input {each.case}), where {allowed:g} is allowed"
            f"{known.reference(each.differing)}"
        )
    return ""


def advice(run: Run, limits: Limits) -> str:
    """Suggest --allow-loss if it would help. Quantization loses small parts of an output; float32 must not."""
    differing = [each for each in run.differences if not comparison.within(each, *limits)]
    if not all(comparison.within(each, limits.tolerance, allow_loss=True) for each in differing):
        return ""
    if any(each.large for each in differing):
        return "if the model never gets such integers, provide real inputs with --check DATA.npz, or use --allow-loss"
    quantized = limits.tolerance > comparison.TOLERANCES["float32"]
    lost = any(each.loss and each.relative <= max(limits.tolerance, each.allowed) for each in differing)
    return "--allow-loss accepts the loss" if quantized or lost else ""


def notes(runner: str, differences: Sequence[OutputDifference], refused: Sequence[tuple[str, str]]) -> list[str]:
    found = [
        f"output '{each.name}' is not compared on {', '.join(each.left_out)}: the original's own answer changes there "
        "when the input moves by one unit in the last place, is a choice among equal scores, or is mostly rounding"
        for each in differences
        if each.left_out
    ]
    if refused:
        name, reason = refused[0]
        others = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
        found.append(f"{runner} refuses input {name}{others}, which the original accepts: {reason}")
    found += [f"output '{each.name}': {each.loss}" for each in differences if each.loss]
    found += [_wrong_from(each) for each in differences if each.large]
    return found


def rounding_notes(outputs: Sequence[TensorSpec], differences: Sequence[OutputDifference]) -> list[str]:
    datatypes = {spec.name: spec.datatype for spec in outputs}
    return [
        _compared_in_fp32(each, is_float=kind_of(datatypes[each.name]) == "float")
        if each.own
        else f"output '{each.name}' is {datatypes[each.name]}: numbers that differ only by being rounded to it are "
        "equal"
        for each in differences
        if each.own or rounding.is_coarse(datatypes[each.name])
    ]


def _compared_in_fp32(difference: OutputDifference, is_float: bool) -> str:
    start = f"output '{difference.name}' is compared with the original computed in FP32, from which"
    if is_float:
        own = f"the original itself differs by up to {difference.own:.2g} of the largest value"
    else:
        own = f"up to {difference.own:.0%} of the original's own numbers differ"
    return f"{start} {own}, because it rounds"


def _wrong_from(difference: OutputDifference) -> str:
    start = f"about 2^{difference.large} on at the latest"  # the smallest magnitude tried
    return f"output '{difference.name}' is wrong for large integers: it differs from {start}"
