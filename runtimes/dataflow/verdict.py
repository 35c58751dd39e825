"""From what reaches the outputs to what a worker is told."""

from typing import Any, Dict, Sequence, Tuple

from runtimes.contract import BatchAnalysis
from runtimes.dataflow.sizes import ROWS, Size, has_rows
from runtimes.dataflow.values import Value, as_rows, operator_label

_MAX_REASONS = 8  # reasons of one kind


def summarize(outputs: Dict[str, Value], writes: Sequence[str] = (), unknown: Sequence[str] = ()) -> BatchAnalysis:
    """`outputs` by the names that clients know; `writes` and `unknown` found apart from them."""
    mixes = []  # type: List[str]
    unclear = list(unknown)
    for name, value in outputs.items():
        mixes.extend(value.mixes)
        unclear.extend(value.unknown)
        if not value.tainted:
            told = _misplaced(operator_label("output", name), value)
            if told:
                (mixes if told[0] else unclear).append(told[1])
    if not outputs:
        unclear.append("the signature has no outputs")
    return BatchAnalysis(_few(mixes), _few(writes), _few(unclear))


def _misplaced(output: str, value: Value) -> Tuple[Any, ...]:
    """Whether it is sure, and why this output has not one row for each row of the inputs. Empty where it has."""
    if value.dims is None:
        return False, "the shape of %s could not be followed" % output
    source = as_rows(value)
    if source is None:
        return False, "the rows of %s could not be followed" % output
    if not source.has_rows:
        size = value.dims[0] if value.dims else None
        if isinstance(size, int):
            return True, "%s has %d rows whatever the batch" % (output, size)
        return True, "%s has no rows of a batch" % output
    if source.axis != 0:
        return True, "%s has the batch along dimension %d" % (output, source.axis)
    if source.dims is None or source.dims[0] != ROWS:
        sure = source.dims is not None and _multiple(source.dims[0])
        return sure, "%s has several rows for each row of the inputs" % output
    if any(map(has_rows, source.dims[1:])):
        return False, "the shape of %s depends on the number of rows" % output
    return ()


def _multiple(size: Size) -> bool:
    return has_rows(size) and len(getattr(size, "symbols", ())) == 1


def _few(reasons: Sequence[str]) -> Tuple[str, ...]:
    distinct = list(dict.fromkeys(reasons))
    if len(distinct) > _MAX_REASONS:
        return tuple(distinct[:_MAX_REASONS]) + ("and %d more" % (len(distinct) - _MAX_REASONS),)
    return tuple(distinct)
