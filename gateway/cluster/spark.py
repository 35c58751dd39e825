"""Models in Spark: as a function of columns, or over a whole table. Executors load them in their own environments.

Each Python process of an executor has one worker, with as many threads as a task has cores. Spark uses its Python
processes again for later tasks, and the worker stays loaded as long as they live.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from itertools import chain
from typing import TYPE_CHECKING

import pyarrow as pa

from gateway.cluster.loaded_models import loaded
from gateway.cluster.location import absolute
from gateway.cluster.scored_rows import ERROR, score_rows
from gateway.cluster.spark_types import declaration, widened
from gateway.embedded.model import Model
from gateway.embedded.options import ModelSpec
from gateway.errors import InvalidRequest, Unsupported
from gateway.score.errors import CannotScore
from gateway.score.output_columns import column_type
from gateway.score.scorer import ScoreOptions, Scorer
from gateway.score.signatures import check_outputs, wanted_outputs
from gateway.score.undeclared import LOOKED_AT, choose_datatypes

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


def model_udf(
    model: str | ModelSpec, *, columns: Mapping[str, str] | None = None, outputs: Sequence[str] = ()
) -> "Callable[..., Column]":
    """Return a function of columns, which become the model's inputs by their names. Without any, it takes all columns.

    Its result is a struct with a field for each output, and "error", which is null for rows that were scored. For
    others, the outputs are null, and it has the reason.

    model    a location that the driver and all executors can read, or a ModelSpec
    columns  input → column, where the names differ
    outputs  the outputs to compute; empty: all

    The driver loads the model for its signature. Needs Spark 4.1, whose functions of columns can have Arrow's arrays;
    `score` works with older ones as well. Raises ModelportError.
    """
    from pyspark.sql import functions

    if not hasattr(functions, "arrow_udf"):
        raise Unsupported("model_udf needs Spark 4.1 or newer; use score, which works with this one")
    spec = absolute(model)
    options = ScoreOptions(dict(columns or {}), (), tuple(outputs))
    with spec.load() as on_driver:
        types = output_types(on_driver, options)

    # The annotations say that it is a function of an iterator.
    def run(structs: Iterator[pa.Array]) -> Iterator[pa.Array]:
        tables = (pa.RecordBatch.from_struct_array(each) for each in structs)
        for batch in score_batches(spec, tables, options, (), types):
            yield batch.to_struct_array()

    function = functions.arrow_udf(run, f"struct<{declaration(_with_error(types), ': ')}>")
    return lambda *names: function(functions.struct(*names or ("*",)))


def score(
    table: "DataFrame",
    model: str | ModelSpec,
    *,
    columns: Mapping[str, str] | None = None,
    outputs: Sequence[str] = (),
    keep: Sequence[str] | None = None,
    prefix: str = "",
) -> "DataFrame":
    """Return the table with one column for each output, and "error", as `model_udf` describes it. All rows stay.

    keep    the table's columns that the result has; None: all that are not made into inputs
    prefix  what the names of the outputs' columns begin with

    The other arguments are those of `model_udf`. If the model does not declare the datatype of an input, the driver has
    Spark compute the first rows of the table, and tries them as `modelport score` does. Raises ModelportError.
    """
    from pyspark.sql.pandas.types import to_arrow_schema
    from pyspark.sql.types import StructType

    spec = absolute(model)
    options = ScoreOptions(dict(columns or {}), None if keep is None else tuple(keep), tuple(outputs), prefix)
    with spec.load() as on_driver:
        schema = to_arrow_schema(table.schema)
        scorer = Scorer(on_driver, schema, options)
        used = [name for each in scorer.inputs for name in each.columns]
        try:
            options, observed = choose_datatypes(on_driver, schema, _first_rows(table, schema, used), options)
        except CannotScore as error:
            raise InvalidRequest(str(error)) from None
        types = output_types(on_driver, options, observed)
    kept = tuple(name for name in table.columns if name not in used) if keep is None else tuple(keep)
    options = replace(options, keep=())

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return score_batches(spec, batches, options, kept, types)

    added = StructType.fromDDL(declaration(_with_error(types)))
    return table.mapInArrow(run, StructType([*(table.schema[name] for name in kept), *added.fields]))


def score_batches(
    spec: ModelSpec, batches: Iterable[pa.RecordBatch], options: ScoreOptions, keep: Sequence[str], types: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Score batches in a Python process of an executor."""
    remaining = iter(batches)
    for first in remaining:
        scorer = Scorer(loaded(for_this_task(spec)), first.schema, options)
        yield from score_rows(scorer, chain((first,), remaining), keep, types)


def for_this_task(spec: ModelSpec) -> ModelSpec:
    """Return the spec for a task of an executor: it may use the cores, and the GPU, that Spark has assigned to it."""
    from pyspark import TaskContext

    context = TaskContext.get()
    if context is None:
        return spec
    threads = context.cpus() if spec.threads is None else spec.threads
    gpu = context.resources().get("gpu")
    device = f"cuda:{gpu.addresses[0]}" if gpu and spec.device in ("cuda", "auto") else spec.device
    return replace(spec, threads=threads, device=device)


def _first_rows(table: "DataFrame", schema: pa.Schema, used: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield the first rows of a table, and then, in case these have no values, the first ones that have.

    schema  of the table
    used    the columns that matter
    """
    from pyspark.sql import functions

    names = list(dict.fromkeys(used))
    chosen = table.select([functions.col(_quoted(name)) for name in names])
    schema = pa.schema([schema.field(name) for name in names])

    def rows(of: "DataFrame") -> pa.RecordBatch:
        found = [dict(zip(names, row, strict=True)) for row in of.limit(LOOKED_AT).collect()]
        return pa.RecordBatch.from_pylist(found, schema=schema)

    first = rows(chosen)
    yield first
    if first.num_rows == LOOKED_AT:
        yield rows(chosen.dropna("any").where(_no_empty_texts(schema)))


def _no_empty_texts(schema: pa.Schema) -> "Column":
    from pyspark.sql import functions

    texts = [functions.col(_quoted(field.name)) != "" for field in schema if pa.types.is_string(field.type)]
    return reduce(lambda one, other: one & other, texts, functions.lit(True))


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def output_types(model: Model, options: ScoreOptions, observed: pa.Schema | None = None) -> pa.Schema:
    """Return the outputs' columns, with types that Spark has. Raises InvalidRequest if nobody knows them.

    observed  what the model has returned, for outputs that it does not declare

    Those of models that do not batch have no first dimension if it is 1, or of any size.
    """
    if observed is not None:
        return pa.schema([field.with_type(widened(field.type)) for field in observed])
    fields = []
    signature = model.signature
    check_outputs(signature, options.outputs)
    wanted = wanted_outputs(signature, options.outputs)
    for each in signature.outputs:
        if each.name in signature.refused or (wanted and each.name not in wanted):
            continue
        kind = column_type(each, model.has_rows or (each.shape or ())[:1] in ((-1,), (1,)))
        if kind is None:
            raise InvalidRequest(
                f"model '{model.name}' does not say which datatype and shape output '{each.name}' has; declare them in "
                "its model.toml"
            )
        fields.append(pa.field(options.prefix + each.name, widened(kind)))
    return pa.schema(fields)


def _with_error(types: pa.Schema) -> pa.Schema:
    if ERROR in types.names:
        raise InvalidRequest(f"an output's column has the name '{ERROR}', which the reasons have; choose a prefix")
    return types.append(pa.field(ERROR, pa.string()))
