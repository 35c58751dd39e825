"""Datatypes of inputs that the model does not declare: the first with which it accepts a row of the input.

A gateway guesses them anew for each request. Here, all rows of a run must have the same ones, whatever batch they are
in, so they are chosen once, before the first row is scored.
"""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from gateway.codecs.json_tensors import guess_tensor
from gateway.embedded.model import Model
from gateway.errors import InvalidRequest
from gateway.score.column_values import is_text, leaf_of, parsed, plain
from gateway.score.errors import CannotScore
from gateway.score.matching import InputColumns
from gateway.score.scorer import ScoreOptions, Scorer
from gateway.score.sources.source import Source
from runtimes.contract import DATATYPES, datatype_of

# How many rows are looked at to tell integers, other numbers and strings apart, and how many the model gets to try.
_LOOKED_AT, _TRIED = 256, 8


def choose_datatypes(model: Model, source: Source, options: ScoreOptions) -> ScoreOptions:
    """Return the options with a datatype for each input that has none.

    Raises CannotScore if the model accepts the first rows with none of those that they could have.
    """
    unknown = {spec.name for spec in model.declared.inputs if not spec.datatype}
    if not unknown:
        return options
    inputs = Scorer(model, source.schema, options).inputs
    undeclared = [each for each in inputs if each.target.name in unknown]
    first = _first_rows(source, inputs) if undeclared else None
    if first is None:
        return options  # there are no rows, or no columns for these inputs
    candidates = {each.target.name: _candidates(each, first) for each in undeclared}
    refused = dict[tuple[str, ...], str]()
    for number in range(max(map(len, candidates.values()))):
        tried = {name: each[min(number, len(each) - 1)] for name, each in candidates.items()}
        found = replace(options, datatypes=tried)
        refused[tuple(tried.values())] = reason = _refusal(Scorer(model, first.schema, replace(found, keep=())), first)
        if not reason:
            return found
    names = " and ".join(f"'{name}'" for name in candidates)
    kinds = ", ".join("/".join(each) for each in refused)
    reason = refused.get(("FP32",)) or next(iter(refused.values()))
    raise CannotScore(
        f"the model does not declare the datatype of input {names}, and refuses the first rows as {kinds} ({reason}); "
        "declare it under [[inputs]] in model.toml"
    )


def _first_rows(source: Source, inputs: Sequence[InputColumns]) -> pa.RecordBatch | None:
    """Return the columns of the inputs, with the first rows that have a value in each of them; None without any rows.

    If no row of the whole input has, these are the first ones.
    """
    used = {name for each in inputs for name in each.columns}
    names = [name for name in source.schema.names if name in used]
    first, complete, read = list[pa.RecordBatch](), list[pa.RecordBatch](), 0
    for chunk in source.chunks(0, _LOOKED_AT):
        batch = _plain(chunk.batch.select(names))
        first += [batch] if read < _LOOKED_AT else []
        read += chunk.end - chunk.start
        batch = batch.filter(reduce(pc.and_, map(_has_value, batch.columns)))
        complete += [batch] if batch.num_rows else []
        if complete and read >= _LOOKED_AT:
            break
    found = complete or first
    return next(iter(pa.Table.from_batches(found).combine_chunks().to_batches()), None) if found else None


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
        return [*dict.fromkeys([natural, "FP32", "FP64", "BYTES"])]
    own = {_datatype_of(leaf) for leaf in leaves}
    kinds = {DATATYPES[each].kind for each in own}
    natural = "FP32" if "float" in kinds else "BOOL" if kinds == {"bool"} else "INT64"
    return [*dict.fromkeys([own.pop() if len(own) == 1 else natural, natural, "FP32", "FP64"])]


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
