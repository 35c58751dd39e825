"""Turns the values of the outputs into the BatchAnalysis of a signature."""

from typing import Any, Dict, List, Sequence, Tuple

from runtimes.contract import BatchAnalysis
from runtimes.dataflow.sizes import ROWS, Size, has_rows
from runtimes.dataflow.values import Value, as_rows, operator_label

_MAX_REASONS = 8  # of each kind, for the log


def summarize(outputs: Dict[str, Value], writes: Sequence[str] = (), unknown: Sequence[str] = ()) -> BatchAnalysis:
    """Return the analysis. `outputs` are by their served names; `writes` and `unknown` are additional reasons."""
    mixes: List[str] = []
    unknown_reasons = list(unknown)
    for name, value in outputs.items():
        mixes.extend(value.mixes)
        unknown_reasons.extend(value.unknown)
        if not value.tainted:
            problem = _output_problem(operator_label("output", name), value)
            if problem:
                (mixes if problem[0] else unknown_reasons).append(problem[1])
    if not outputs:
        unknown_reasons.append("the signature has no outputs")
    return BatchAnalysis(_first(mixes), _first(writes), _first(unknown_reasons))


def _output_problem(output: str, value: Value) -> Tuple[Any, ...]:
    """Return why the output does not have one row for each row of the inputs, as (is certain, reason).

    Returns () if it does.
    """
    if value.dims is None:
        return False, "the shape of %s could not be followed" % output
    source = as_rows(value)
    if source is None:
        return False, "the rows of %s could not be followed" % output
    if source.axis is None:
        size = value.dims[0] if value.dims else None
        if isinstance(size, int):
            return True, "%s has %d rows whatever the batch" % (output, size)
        return True, "%s has no rows of a batch" % output
    if source.axis != 0:
        return True, "%s has the batch along dimension %d" % (output, source.axis)
    if source.dims is None or source.dims[0] != ROWS:
        sure = source.dims is not None and _is_multiple_of_rows(source.dims[0])
        return sure, "%s has several rows for each row of the inputs" % output
    if any(map(has_rows, source.dims[1:])):
        return False, "the shape of %s depends on the number of rows" % output
    return ()


def _is_multiple_of_rows(size: Size) -> bool:
    return has_rows(size) and len(getattr(size, "symbols", ())) == 1


def _first(reasons: Sequence[str]) -> Tuple[str, ...]:
    distinct = list(dict.fromkeys(reasons))
    if len(distinct) > _MAX_REASONS:
        return tuple(distinct[:_MAX_REASONS]) + ("and %d more" % (len(distinct) - _MAX_REASONS),)
    return tuple(distinct)
