"""Scores batches without losing rows: one that could not be scored says why, in a column."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from gateway.score.scorer import Scorer, Submitted

ERROR = "error"
# How many batches are sent ahead of the one whose results are awaited, so that the worker is never idle.
_AHEAD = 2


def score_rows(
    scorer: Scorer, batches: Iterable[pa.RecordBatch], keep: Sequence[str], outputs: pa.Schema | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield, for each batch, the columns `keep`, then one column for each output, then "error": all rows, in order.

    If a row could not be scored, its outputs are null, and "error" has the sentence; otherwise "error" is null.

    scorer   one that keeps no columns
    outputs  the types that the outputs are to have; None: the scorer's

    Raises ModelportError if the model itself is not available.
    """
    waiting = deque[tuple[pa.RecordBatch, Submitted]]()
    for batch in batches:
        waiting.append((batch, scorer.submit(batch)))
        if len(waiting) > _AHEAD:
            yield _all_rows(*waiting.popleft(), keep, outputs)
    while waiting:
        yield _all_rows(*waiting.popleft(), keep, outputs)


def _all_rows(
    batch: pa.RecordBatch, submitted: Submitted, keep: Sequence[str], outputs: pa.Schema | None
) -> pa.RecordBatch:
    found, bad = submitted.result()
    reasons = dict(bad)
    if outputs is None:
        outputs = found.schema
    scored = (row for row in range(found.num_rows))
    places = pa.array([None if row in reasons else next(scored) for row in range(batch.num_rows)], pa.int64())
    # If no row of a batch could be scored, a model that does not declare its outputs has none.
    columns = [
        found.column(each.name).take(places).cast(each.type)
        if each.name in found.schema.names
        else pa.nulls(batch.num_rows, each.type)
        for each in outputs
    ]
    errors = pa.array([reasons.get(row) for row in range(batch.num_rows)], pa.string())
    kept = batch.select(list(keep))
    return pa.RecordBatch.from_arrays([*kept.columns, *columns, errors], names=[*keep, *outputs.names, ERROR])
