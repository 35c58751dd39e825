"""Datatypes of inputs that the model does not declare: the first with which it accepts a row of the input.

A gateway guesses them anew for each request. Here, all rows of a run must have the same ones, whatever batch they are
in, so they are chosen once, before the first row is scored.
"""

from dataclasses import replace

import pyarrow as pa

from gateway.codecs.json_tensors import guess_tensor
from gateway.embedded.model import Model
from gateway.errors import InvalidRequest
from gateway.score.column_values import is_text, leaf_of, parsed, plain, plain_type
from gateway.score.errors import CannotScore
from gateway.score.matching import InputColumns
from gateway.score.scorer import ScoreOptions, Scorer
from gateway.score.sources.source import Source
from runtimes.contract import datatype_of

# How many rows are looked at to tell integers, other numbers and strings apart, and how many the model gets to try.
_LOOKED_AT, _TRIED = 256, 8


def choose_datatypes(model: Model, source: Source, options: ScoreOptions) -> ScoreOptions:
    """Return the options with a datatype for each input that has none.

    Raises CannotScore if the model accepts the first rows with none of those that they could have.
    """
    unknown = {spec.name for spec in model.declared.inputs if not spec.datatype}
    first = next(source.chunks(0, _LOOKED_AT), None) if unknown else None
    if first is None or not first.batch.num_rows:
        return options
    inputs = [each for each in Scorer(model, source.schema, options).inputs if each.target.name in unknown]
    candidates = {each.target.name: _candidates(each, first.batch) for each in inputs}
    refused = dict[tuple[str, ...], str]()
    for number in range(max(map(len, candidates.values()), default=0)):
        tried = {name: each[min(number, len(each) - 1)] for name, each in candidates.items()}
        found = replace(options, datatypes=tried)
        refused[tuple(tried.values())] = reason = _refusal(Scorer(model, source.schema, found), first.batch)
        if not reason:
            return found
    if not refused:
        return options  # the table has no columns for them
    names = " and ".join(f"'{name}'" for name in candidates)
    kinds = ", ".join("/".join(each) for each in refused)
    reason = refused.get(("FP32",)) or next(iter(refused.values()))
    raise CannotScore(
        f"the model does not declare the datatype of input {names}, and refuses the first rows as {kinds} ({reason}); "
        "declare it under [[inputs]] in model.toml"
    )


def _candidates(each: InputColumns, batch: pa.RecordBatch) -> list[str]:
    """Return the datatypes to try, without duplicates: that of the column, that of such JSON, and the usual ones."""
    columns = [plain(batch.column(name)) for name in each.columns]
    leaf = leaf_of(plain_type(columns[0].type))
    if is_text(leaf):
        found = {_guessed(value) for column in columns for value in column.drop_null().to_pylist()} - {""}
        if not found or found == {"BYTES"}:
            return ["BYTES"]
        natural = found.pop() if len(found) == 1 else "FP32"
        return [*dict.fromkeys([natural, "FP32", "FP64", "BYTES"])]
    if pa.types.is_boolean(leaf):
        own, natural = "BOOL", "BOOL"
    elif pa.types.is_integer(leaf):
        own, natural = datatype_of(leaf.to_pandas_dtype()), "INT64"
    else:
        own, natural = datatype_of(leaf.to_pandas_dtype()) if pa.types.is_floating(leaf) else "FP64", "FP32"
    return [*dict.fromkeys([own, natural, "FP32", "FP64"])]


def _guessed(text: object) -> str:
    """Return the datatype that a gateway would guess for the number, or the lists, that the text has; "" for null."""
    try:
        return guess_tensor("", parsed("", text)).datatype
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
