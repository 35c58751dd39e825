"""A model in Ray Data: an actor for `map_batches`, which loads the model in the model's own environment."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from gateway.cluster.scored_rows import score_rows
from gateway.embedded.options import ModelSpec
from gateway.score.scorer import ScoreOptions
from gateway.score.scorer import Scorer as TableScorer


class Scorer:
    """Scores Arrow tables, as `map_batches(Scorer, fn_constructor_args=(MODEL,), batch_format="pyarrow")` sends them.

    model    a location that every node can read, or a ModelSpec. Without a number of threads, the model has as many as
             the actor has CPUs (num_cpus)
    columns  input → column, where the names differ
    outputs  the outputs to compute; empty: all
    keep     the table's columns that the result has; None: all that are not made into inputs
    prefix   what the names of the outputs' columns begin with

    The constructor raises ModelportError, with which the job fails.
    """

    def __init__(
        self,
        model: str | ModelSpec,
        *,
        columns: Mapping[str, str] | None = None,
        outputs: Sequence[str] = (),
        keep: Sequence[str] | None = None,
        prefix: str = "",
    ) -> None:
        self._keep = keep
        self._options = ScoreOptions(dict(columns or {}), (), tuple(outputs), prefix)
        self._model = for_this_actor(ModelSpec(model) if isinstance(model, str) else model).load(progress=False)
        self._scorers: dict[str, TableScorer] = {}

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return the kept columns, one column for each output, and "error": all rows, in order.

        "error" is null for rows that were scored. For others, the outputs are null, and it has the reason.
        """
        key = str(table.schema)
        if key not in self._scorers:
            self._scorers[key] = TableScorer(self._model, table.schema, self._options)
        scorer = self._scorers[key]
        used = {name for each in scorer.inputs for name in each.columns}
        keep = [name for name in table.schema.names if name not in used] if self._keep is None else self._keep
        batches = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]
        return pa.Table.from_batches(list(score_rows(scorer, batches, keep)))


def for_this_actor(spec: ModelSpec) -> ModelSpec:
    """Return the spec with as many threads as Ray has assigned CPUs to this actor, and at least one."""
    import ray

    if spec.threads is not None:
        return spec
    cpus = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
    return replace(spec, threads=max(1, int(cpus)))
