"""Scores batches of Arrow: columns → inputs → the model → columns of outputs, without the rows that do not fit."""

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from gateway.embedded.model import Arrays, Model
from gateway.errors import InvalidRequest, ModelportError, Unavailable
from gateway.score.column_values import Rows, read_rows
from gateway.score.json_columns import is_json
from gateway.score.matching import InputColumns, match
from gateway.score.output_columns import column_type, kept_field, observed_type, to_column
from gateway.score.signatures import check_outputs, wanted_outputs, with_datatypes

# What a request to a model that batches should have: some batches, so that the worker is busy while the next request
# is made, but not more bytes than this.
_BATCHES_PER_REQUEST = 4
_MAX_REQUEST_BYTES = 8 << 20
# The only errors that are no fault of the rows: the model is gone, so that no row can be scored.
_FATAL = (Unavailable,)


class BadRow(NamedTuple):
    """A row that was not scored. row: its number in the batch, from 0. reason: a sentence."""

    row: int
    reason: str


class Scored(NamedTuple):
    """What became of a batch: `batch.num_rows + len(bad)` is the number of its rows.

    batch  the rows that were scored, in order: the kept columns, then one column for each output
    bad    the others, in order
    """

    batch: pa.RecordBatch
    bad: list[BadRow]


@dataclass(frozen=True)
class ScoreOptions:
    """How a table becomes inputs, and outputs become columns. It can be pickled.

    columns    input → the column to make it of. Others are made of the column that has their name
    keep       the columns of the table that the result has as well; None: all that are not made into inputs; ("all",)
    outputs    the outputs to compute; empty: all
    prefix     what the names of the outputs' columns begin with
    datatypes  input → its datatype, if the model declares none (undeclared.py); otherwise, that of the column
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    keep: tuple[str, ...] | None = None
    outputs: tuple[str, ...] = ()
    prefix: str = ""
    datatypes: Mapping[str, str] = field(default_factory=dict)


class Scorer:
    """Scores batches that have the same schema. Thread-safe.

    inputs  how each input is made of the table's columns
    """

    def __init__(self, model: Model, schema: pa.Schema, options: ScoreOptions = ScoreOptions()) -> None:
        """Raises InvalidRequest if the table's columns do not fit the model's inputs."""
        self._model, self._options = model, options
        self._signature = with_datatypes(model.declared, options.datatypes)
        self._has_rows = model.has_rows
        self._batch_rows = model.max_batch_size if model.has_rows else 0
        check_outputs(self._signature, options.outputs)
        kept = options.keep or ()
        self.inputs = match(self._signature, schema, model.has_rows, options.columns, kept, options.outputs)
        used = {name for each in self.inputs for name in each.columns}
        keep = [name for name in schema.names if name not in used] if options.keep is None else list(options.keep)
        keep = list(dict.fromkeys(keep))
        keep = list(schema.names) if keep == ["all"] and "all" not in schema.names else keep
        if absent := [name for name in keep if name not in schema.names]:
            raise InvalidRequest(f"there is no column '{absent[0]}' to keep; there are {', '.join(schema.names)}")
        self._wanted = wanted_outputs(self._signature, options.outputs)
        self._kept = pa.schema([kept_field(schema.field(name)) for name in keep])
        self._outputs = self._known_outputs()
        if self._outputs is not None:
            self._check_names(self._outputs)

    @property
    def schema(self) -> pa.Schema | None:
        """The schema of the results; None if the model does not say what it returns, and nothing was scored yet."""
        return None if self._outputs is None else pa.schema([*self._kept, *self._outputs.values()])

    def score(self, batch: pa.RecordBatch) -> Scored:
        """Score a batch. Raises ModelportError only if the model itself is not available."""
        return self.submit(batch).result()

    def submit(self, batch: pa.RecordBatch) -> "Submitted":
        """Send a batch to the model, without waiting. Take the results with `result()`."""
        return Submitted(self, batch)

    # ----- for Submitted

    def send(self, rows: Arrays) -> "Future[Arrays]":
        return self._model.submit(rows, outputs=self._wanted)

    @property
    def single(self) -> bool:
        """Whether the model gets each row alone."""
        return not self._batch_rows

    def check_rows(self, outputs: Mapping[str, np.ndarray], rows: int) -> None:
        """Raises Unavailable if rows were scored together, and should not have been."""
        counts = {len(each) if each.ndim else 0 for each in outputs.values()} - {rows}
        if counts or (self._batch_rows and not self._model.max_batch_size):
            raise Unavailable(
                "it turned out that rows of this model depend on each other when they run together, so what was scored "
                "so far may be wrong; score again with --max-batch-size 0 --restart"
            )

    def request_rows(self, bytes_per_row: int) -> int:
        if self.single:
            return 1
        batches = _MAX_REQUEST_BYTES // (bytes_per_row * self._batch_rows + 1)
        return self._batch_rows * max(1, min(_BATCHES_PER_REQUEST, batches))

    def read(self, batch: pa.RecordBatch) -> tuple[dict[str, Rows], dict[int, str]]:
        """Return the rows of each input, and the rows that do not fit with the reason."""
        read = {each.target.name: _read_input(each, batch) for each in self.inputs}
        bad: dict[int, str] = {}
        for rows in read.values():
            bad = {**rows.bad, **bad}
        return read, bad

    def result(
        self, batch: pa.RecordBatch, good: list[int], found: "Mapping[str, np.ndarray | list[np.ndarray]]"
    ) -> pa.RecordBatch:
        """Return the batch of results for the rows `good`, whose outputs are `found`."""
        kept = batch.select(self._kept.names).cast(self._kept)
        if len(good) < batch.num_rows:
            kept = kept.take(pa.array(good, pa.int64()))
        if self._outputs is None and good:
            self._outputs = {
                name: pa.field(self._options.prefix + name, observed_type(rows[0])) for name, rows in found.items()
            }
            self._check_names(self._outputs)
        fields = self._outputs or {}
        columns = [to_column(found.get(name, []), each.type) for name, each in fields.items()]
        return pa.RecordBatch.from_arrays([*kept.columns, *columns], schema=pa.schema([*self._kept, *fields.values()]))

    def rows_of(self, output: np.ndarray) -> np.ndarray:
        """Return an output with a first dimension that counts the rows of its request."""
        if not self.single:
            return output
        leading = any(each.leading for each in self.inputs)
        return output if leading and output.ndim and len(output) == 1 else output[np.newaxis]

    def _known_outputs(self) -> dict[str, pa.Field] | None:
        wanted = [each for each in self._signature.outputs if each.name not in self._signature.refused]
        if self._wanted:
            wanted = [each for each in wanted if each.name in self._wanted]
        fields = dict[str, pa.Field]()
        for spec in wanted:
            first = None if spec.shape is None else spec.shape[:1]
            leading = self._has_rows or (any(each.leading for each in self.inputs) and first in ((-1,), (1,)))
            kind = column_type(spec, leading)
            if kind is None:
                return None
            fields[spec.name] = pa.field(self._options.prefix + spec.name, kind)
        return fields or None

    def _check_names(self, outputs: Mapping[str, pa.Field]) -> None:
        for each in outputs.values():
            if each.name in self._kept.names:
                raise InvalidRequest(
                    f"output '{each.name}' has the name of a column that is kept; keep others with --keep, or choose a "
                    "--prefix for outputs"
                )


class Submitted:
    """A batch that a model is scoring."""

    def __init__(self, scorer: Scorer, batch: pa.RecordBatch) -> None:
        self._scorer, self._batch = scorer, batch
        self._read, self._bad = scorer.read(batch)
        good = [row for row in range(batch.num_rows) if row not in self._bad]
        self._requests = [(rows, scorer.send(self._arrays(rows))) for rows in self._groups(good)]

    def result(self) -> Scored:
        """Wait for the model. Raises ModelportError only if it is not available. Ctrl-C cancels what is in progress."""
        answered = list[tuple[list[int], Arrays]]()
        try:
            for rows, answer in self._requests:
                answered += self._answers(rows, answer)
        except BaseException:
            self.cancel()
            raise
        good = sorted(row for rows, _ in answered for row in rows)
        outputs = self._assembled(answered, good)
        bad = [BadRow(row, reason) for row, reason in sorted(self._bad.items())]
        return Scored(self._scorer.result(self._batch, good, outputs), bad)

    def cancel(self) -> None:
        """Nobody needs the results any more."""
        for _, answer in self._requests:
            answer.cancel()

    def _groups(self, good: list[int]) -> Iterable[list[int]]:
        """Return the rows of each request: neighbours whose inputs have the same shapes."""
        if not good:
            return
        regular = all(isinstance(each.values, np.ndarray) for each in self._read.values())
        bytes_per_row = sum(_bytes(each.values[good[0]]) for each in self._read.values())
        size = self._scorer.request_rows(bytes_per_row)
        groups: dict[tuple[object, ...], list[int]] = {(): good}
        if not regular:
            groups = {}
            for row in good:
                key = tuple((each.values[row].shape, each.values[row].dtype) for each in self._read.values())
                groups.setdefault(key, []).append(row)
        for rows in groups.values():
            yield from (rows[start : start + size] for start in range(0, len(rows), size))

    def _arrays(self, rows: list[int]) -> Arrays:
        return {
            each.target.name: self._array(self._read[each.target.name].values, rows, each.leading)
            for each in self._scorer.inputs
        }

    def _array(self, values: "np.ndarray | list[np.ndarray]", rows: list[int], leading: bool) -> np.ndarray:
        if not leading:
            return values[rows[0]]
        if not isinstance(values, np.ndarray):
            return np.stack([values[row] for row in rows])
        if rows[-1] - rows[0] == len(rows) - 1:
            return values[rows[0] : rows[-1] + 1]
        return values[rows]

    def _answers(self, rows: list[int], answer: "Future[Arrays]") -> list[tuple[list[int], Arrays]]:
        """Return the answer, or those to each of the rows alone if it failed."""
        try:
            outputs = {name: self._scorer.rows_of(each) for name, each in answer.result().items()}
            self._scorer.check_rows(outputs, len(rows))
        except _FATAL:
            raise
        except ModelportError as error:
            if len(rows) == 1:
                self._bad[rows[0]] = str(error)
                return []
            # The worker puts them together again, and separates those that fail.
            single = [([row], self._scorer.send(self._arrays([row]))) for row in rows]
            return [each for row, answer in single for each in self._answers(row, answer)]
        return [(rows, outputs)]

    def _assembled(
        self, answered: list[tuple[list[int], Arrays]], good: list[int]
    ) -> "dict[str, np.ndarray | list[np.ndarray]]":
        """Return each output with its rows in the order of the batch."""
        if not answered:
            return {}
        place = {row: number for number, row in enumerate(good)}
        order = [place[row] for rows, _ in answered for row in rows]
        found: dict[str, np.ndarray | list[np.ndarray]] = {}
        for name in answered[0][1]:
            parts = [outputs[name] for _, outputs in answered]
            if len({part.shape[1:] for part in parts}) == 1:
                joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
                found[name] = joined if order == sorted(order) else joined[np.argsort(order)]
            else:
                single = [row for part in parts for row in part]
                found[name] = [single[each] for each in np.argsort(order)]
        return found


def _read_input(each: InputColumns, batch: pa.RecordBatch) -> Rows:
    if len(each.columns) == 1:
        field = batch.schema.field(each.columns[0])
        return read_rows(batch.column(field.name), each.target._replace(json=is_json(field)))
    scalar = each.target._replace(shape=())
    columns = [read_rows(batch.column(name), scalar._replace(name=name)) for name in each.columns]
    bad = dict[int, str]()
    for name, rows in zip(each.columns, columns, strict=True):
        bad = {row: why.replace(f"input '{name}'", f"column '{name}'") for row, why in rows.bad.items()} | bad
    whole = [rows.values if isinstance(rows.values, np.ndarray) else np.zeros(batch.num_rows) for rows in columns]
    joined = np.stack(whole, axis=1)
    return Rows(joined.reshape(batch.num_rows, *(each.target.shape or ())), bad)


def _bytes(row: "np.ndarray | str | bytes") -> int:
    return len(row) if isinstance(row, str | bytes) else int(row.nbytes)
