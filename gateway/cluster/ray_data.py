"""A model in Ray Data: an actor for `map_batches`, which loads the model in the model's own environment."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import pyarrow as pa

from gateway.cluster.scored_rows import score_rows
from gateway.embedded.options import ModelSpec
from gateway.errors import InvalidRequest
from gateway.score.column_values import is_text, leaf_of, plain_type
from gateway.score.errors import CannotScore
from gateway.score.scorer import ScoreOptions
from gateway.score.scorer import Scorer as TableScorer
from gateway.score.undeclared import LOOKED_AT, choose_datatypes, undeclared_inputs


class Scorer:
    """Scores Arrow tables, as `map_batches(Scorer, fn_constructor_args=(MODEL,), batch_format="pyarrow")` sends them.

    model      a location that every node can read, or a ModelSpec. Without a number of threads, the model has as many
               as the actor has CPUs (num_cpus)
    columns    input → column, where the names differ
    outputs    the outputs to compute; empty: all
    keep       the table's columns that the result has; None: all that are not made into inputs
    prefix     what the names of the outputs' columns begin with
    datatypes  input → its datatype, if the model declares none

    A model may declare no datatype for an input. Then each actor chooses one as `modelport score` does, which depends
    on the type of the column and on what the model accepts, but not on the rows. That of text would, and each actor has
    other rows, so text needs `datatypes`.

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
        datatypes: Mapping[str, str] | None = None,
    ) -> None:
        self._keep = keep
        self._options = ScoreOptions(dict(columns or {}), (), tuple(outputs), prefix, dict(datatypes or {}))
        self.model = for_this_actor(ModelSpec(model) if isinstance(model, str) else model).load(progress=False)
        self._scorers: dict[str, TableScorer] = {}

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return the kept columns, one column for each output, and "error": all rows, in order.

        "error" is null for rows that were scored. For others, the outputs are null, and it has the reason.
        """
        scorer = self._scorer(table)
        used = {name for each in scorer.inputs for name in each.columns}
        keep = [name for name in table.schema.names if name not in used] if self._keep is None else self._keep
        batches = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]
        return pa.Table.from_batches(list(score_rows(scorer, batches, keep)))

    def _scorer(self, table: pa.Table) -> TableScorer:
        key = str(table.schema)
        if key in self._scorers:
            return self._scorers[key]
        options, undeclared = self._options, undeclared_inputs(self.model, table.schema, self._options)
        for each in undeclared:
            if any(is_text(leaf_of(plain_type(table.schema.field(name).type))) for name in each.columns):
                raise InvalidRequest(
                    f"the model does not declare the datatype of input '{each.target.name}', and column "
                    f"'{each.columns[0]}' is text, of which each actor sees other rows: pass it as datatypes, or "
                    "declare it under [[inputs]] in model.toml"
                )
        with suppress(CannotScore):  # the model accepts none of these rows, and each of them will say why
            options = choose_datatypes(self.model, table.schema, table.to_batches(LOOKED_AT), options).options
        scorer = TableScorer(self.model, table.schema, options)
        if not undeclared or options.datatypes != self._options.datatypes:
            self._scorers[key] = scorer
        return scorer


def for_this_actor(spec: ModelSpec) -> ModelSpec:
    """Return the spec with as many threads as Ray has assigned CPUs to this actor, and at least one."""
    if spec.threads is not None:
        return spec
    import ray

    cpus = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
    return replace(spec, threads=max(1, int(cpus)))
