"""Datatypes of inputs that the model does not declare: the first with which it accepts a row of the input.

A gateway guesses them anew for each request. Here, all rows of a run must have the same ones, whatever batch they are
in, and whichever process scores it, so they are chosen once, before the first row is scored.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import reduce
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from gateway.codecs.json_tensors import guess_tensor
from gateway.embedded.model import Model
from gateway.errors import InvalidRequest
from gateway.score.column_values import is_text, leaf_of, plain
from gateway.score.errors import CannotScore
from gateway.score.matching import InputColumns
from gateway.score.scorer import ScoreOptions, Scorer
from gateway.score.text_values import parsed
from runtimes.contract import DATATYPES, datatype_of

# How many rows are looked at to tell integers, other numbers and strings apart, and how many the model gets to try.
LOOKED_AT, _TRIED = 256, 8
# What no column suggests, for models that compute in it: whoever accepts FP32 is never asked.
_LAST = ("FP32", "FP64", "FP16", "BF16")


def undeclared_inputs(model: Model, schema: pa.Schema, options: ScoreOptions) -> list[InputColumns]:
    """Return the inputs that are made of the table's columns and have no datatype. Raises InvalidRequest."""
    unknown = _unknown(model, options)
    return [each for each in Scorer(model, schema, options).inputs if each.target.name in unknown] if unknown else []


def _unknown(model: Model, options: ScoreOptions) -> set[str]:
    return {spec.name for spec in model.declared.inputs if not spec.datatype} - set(options.datatypes)


class Choice(NamedTuple):
    """What was chosen.

    options  those of the caller, with a datatype for each input that had none
    outputs  the columns of the outputs as the model has just returned them; None if nothing had to be chosen, or no row
             has a value
    """

    options: ScoreOptions
    outputs: pa.Schema | None


def choose_datatypes(model: Model, schema: pa.Schema, rows: Iterable[pa.RecordBatch], options: ScoreOptions) -> Choice:
    """Choose a datatype for each input that has none.

    schema  of the table
    rows    the table from its beginning, in batches of up to LOOKED_AT rows. Those that are not needed are not read

    Raises CannotScore if the model accepts the first rows with none of those that they could have.
    """
    unknown = _unknown(model, options)
    inputs = Scorer(model, schema, options).inputs if unknown else ()
    undeclared = [each for each in inputs if each.target.name in unknown]
    first = _first_rows(schema, rows, inputs) if undeclared else None
    if first is None:
        return Choice(options, None)
    candidates = {each.target.name: _candidates(each, first) for each in undeclared}
    refused = dict[tuple[str, ...], str]()
    for number in range(max(map(len, candidates.values()))):
        tried = dict(options.datatypes) | {name: each[min(number, len(each) - 1)] for name, each in candidates.items()}
        found = replace(options, datatypes=tried)
        scorer = Scorer(model, first.schema, replace(found, keep=()))
        refused[tuple(tried[name] for name in candidates)] = reason = _refusal(scorer, first)
        if not reason:
            return Choice(found, scorer.schema)
    names = " and ".join(f"'{name}'" for name in candidates)
    kinds = ", ".join("/".join(each) for each in refused)
    reason = refused.get(("FP32",)) or next(iter(refused.values()))
    raise CannotScore(
        f"the model does not declare the datatype of input {names}, and refuses the first rows as {kinds} ({reason}); "
        "declare it under [[inputs]] in model.toml"
    )


def _first_rows(
    schema: pa.Schema, rows: Iterable[pa.RecordBatch], inputs: Sequence[InputColumns]
) -> pa.RecordBatch | None:
    """Return the columns of the inputs, with the first rows that have a value in each of them; None without any."""
    used = {name for each in inputs for name in each.columns}
    names = [name for name in schema.names if name in used]
    complete, read = list[pa.RecordBatch](), 0
    for each in rows:
        batch = _plain(each.select(names))
        read += batch.num_rows
        batch = batch.filter(reduce(pc.and_, map(_has_value, batch.columns)))
        complete += [batch] if batch.num_rows else []
        if complete and read >= LOOKED_AT:
            break
    return next(iter(pa.Table.from_batches(complete).combine_chunks().to_batches()), None) if complete else None


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [plain(column) for column in batch.columns]
    fields = [field.with_type(column.type) for field, column in zip(batch.schema, columns, strict=True)]
    return pa.record_batch(columns, schema=pa.schema(fields))


def _has_value(column: pa.Array) -> pa.Array:
    if not is_text(column.type):
        return column.is_valid()
    return pc.fill_null(pc.greater(pc.binary_length(column), 0), False)


def _candidates(each: InputColumns, batch: pa.RecordBatch) -> list[str]:
    """Return the datatypes to try, without duplicates: that of the column, that of such JSON, and the usual ones."""
    columns = [batch.column(name) for name in each.columns]
    leaves = [leaf_of(column.type) for column in columns]
    if any(map(is_text, leaves)):
        found = {_guessed(value) for column in columns for value in column.drop_null().to_pylist()} - {""}
        if not found or found == {"BYTES"}:
            return ["BYTES"]
        natural = found.pop() if len(found) == 1 else "FP32"
        return [*dict.fromkeys([natural, *_LAST, "BYTES"])]
    own = {_datatype_of(leaf) for leaf in leaves}
    kinds = {DATATYPES[each].kind for each in own}
    natural = "FP32" if "float" in kinds else "BOOL" if kinds == {"bool"} else "INT64"
    return [*dict.fromkeys([own.pop() if len(own) == 1 else natural, natural, *_LAST])]


def _datatype_of(leaf: pa.DataType) -> str:
    number = pa.types.is_boolean(leaf) or pa.types.is_integer(leaf) or pa.types.is_floating(leaf)
    return datatype_of(leaf.to_pandas_dtype()) if number else "FP64"


def _guessed(text: object) -> str:
    """Return the datatype that a gateway would guess for a value, or for what its text says; "" for null."""
    try:
        value = parsed("", text) if isinstance(text, str | bytes | list) else text
        return guess_tensor("", float(value) if isinstance(value, Decimal) else value).datatype
    except InvalidRequest:
        return "BYTES" if text not in (None, "", b"") else ""


def _refusal(scorer: Scorer, batch: pa.RecordBatch) -> str:
    """Return why the model accepts none of the first rows; "" if it accepts one."""
    _, bad = scorer.read(batch)
    reasons = [bad[row] for row in sorted(bad)]
    for row in [row for row in range(batch.num_rows) if row not in bad][:_TRIED]:
        found = scorer.score(batch.slice(row, 1)).bad
        if not found:
            return ""
        reasons.insert(0, found[0].reason)
    return reasons[0]
