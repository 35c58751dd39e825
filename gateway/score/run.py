"""One run of modelport score: read ahead, keep batches in flight, write what comes back in order."""

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from gateway.embedded.model import Model
from gateway.embedded.options import ModelSpec
from gateway.score import sinks
from gateway.score.engine import Engine, LocalEngine, OpenEngine, Pending
from gateway.score.errors import CannotScore
from gateway.score.parts import Parts, PartWriter, folder_of_parts
from gateway.score.read_ahead import ReadAhead
from gateway.score.scorer import ScoreOptions, Scorer
from gateway.score.sources.find import find_files, open_source
from gateway.score.sources.source import BadInput, Chunk, Source, as_text, cannot_read, first_line
from gateway.score.undeclared import LOOKED_AT, choose_datatypes
from runtimes.contract import DATATYPES

# A part is finished after this many rows, or seconds. Smaller parts cost files; larger ones are lost with a crash.
_PART_ROWS, PART_S = 1 << 16, 10.0
# What is read at a time, if the sizes of rows are known.
_CHUNK_ROWS, _CHUNK_BYTES = 1024, 8 << 20


@dataclass(frozen=True)
class ScoreRequest:
    """What the user asked for.

    inputs      files, patterns or folders
    batch_rows  rows to read and send at a time; 0: chosen by their size
    bad         the file for bad rows; None: next to the output
    part_s      after how many seconds what is finished is kept, even if the run is killed
    restart     whether to forget what an earlier run has finished
    overwrite   whether the output may exist already
    """

    spec: ModelSpec
    inputs: tuple[str, ...]
    output: Path
    options: ScoreOptions = field(default_factory=ScoreOptions)
    batch_rows: int = 0
    bad: Path | None = None
    part_s: float = PART_S
    restart: bool = False
    overwrite: bool = False

    @property
    def bad_file(self) -> Path:
        return self.bad or self.output.with_name(self.output.stem + ".bad.jsonl")


class Summary(NamedTuple):
    """read == scored + bad. earlier: how many of them an earlier run had read.

    seconds: of this run, from the moment when the model is loaded until the output is written.
    """

    read: int
    scored: int
    bad: int
    earlier: int
    seconds: float


class Watcher(Protocol):
    """Gets told how a run advances."""

    def begin(self, source: Source, scorer: Scorer, done: int) -> None:
        """The model is loaded, and `done` rows are finished already."""

    def advance(self, rows: int, bad: int, position: int) -> None:
        """These many rows were finished, in all; `position` as in Chunk."""


def score(request: ScoreRequest, watcher: Watcher, open_engine: OpenEngine | None = None) -> Summary:
    """Score the input, and write the output and the bad rows. Raises CannotScore, ModelportError.

    open_engine  where batches are scored; None: by a worker of this process. Files are read and written here

    If it is interrupted, what is finished stays in the folder of parts, and the same request continues there.
    """
    _check_output(request)
    files, root = find_files(request.inputs, (request.output, request.bad_file, folder_of_parts(request.output)))
    with request.spec.load() as model:
        source = open_source(files, root, model.signature, model.preprocess)
        first = (chunk.batch for chunk in source.chunks(0, LOOKED_AT))
        request = replace(request, options=choose_datatypes(model, source.schema, first, request.options).options)
        scorer = Scorer(model, source.schema, request.options)
        if scorer.schema is not None:
            sinks.check_schema(request.output, scorer.schema)
        identity = _identity(request, model, files)
        with Parts(request.output, identity, request.restart) as parts:
            _check_output(request)  # another run may have written it since
            earlier, started = parts.end, time.monotonic()
            watcher.begin(source, scorer, earlier)
            with nullcontext() if open_engine is None else open_engine(request.spec, request.options) as remote:
                engine = remote or LocalEngine(model, scorer)
                chunks = source.chunks(earlier, request.batch_rows or _chunk_rows(model, scorer))
                _score_rest(chunks, engine, _Writer(parts, watcher, request))
            if _input(files) != identity["the input"]:
                raise CannotScore(
                    "the input has changed while it was read, so what was scored may be of both; add --restart to "
                    "score everything again"
                )
            summary = _finish(request, scorer, parts)
            return summary._replace(earlier=earlier, seconds=time.monotonic() - started)


def _identity(request: ScoreRequest, model: Model, files: list[Path]) -> dict[str, Any]:
    """Return what parts depend on: what changes any of it changes the result."""
    spec, options = request.spec, request.options
    return {
        "the model": [as_text(spec.location), model.version, model.fingerprint],
        "the input": _input(files),
        "the options": [
            dict(options.columns), None if options.keep is None else list(options.keep), list(options.outputs),
            options.prefix, spec.device, spec.max_batch_size, dict(spec.settings), dict(options.datatypes),
        ],
    }  # fmt: skip


def _input(files: list[Path]) -> list[list[Any]]:
    """Return what changes with the files. The time of change also does if the time of modification is set back."""
    found = list[list[Any]]()
    for file in files:
        try:
            status = file.stat() if file.exists() else file.lstat()  # a link may lead nowhere
        except OSError as error:
            raise cannot_read(file, error) from None
        found.append([as_text(file.absolute()), status.st_size, status.st_mtime_ns, status.st_ctime_ns])
    return found


def _check_output(request: ScoreRequest) -> None:
    """Raises CannotScore if the output cannot be written, or must not be."""
    output, bad = request.output, request.bad_file
    sinks.check(output)
    for file in (output, bad):
        if not file.parent.is_dir():
            raise CannotScore(f"the folder of {file} does not exist; create it first")
        if file.is_dir():
            raise CannotScore(f"{file} is a folder; name a file")
    if os.path.abspath(output) == os.path.abspath(bad):
        raise CannotScore(f"{output} is named as the output and as the file for bad rows; choose another --bad")
    if output.exists() and not request.overwrite:
        raise CannotScore(f"{output} exists already; add --overwrite to replace it")


def _score_rest(chunks: Iterator[Chunk], engine: Engine, writer: "_Writer") -> None:
    in_flight = deque[tuple[Chunk, Pending]]()
    reader = ReadAhead(chunks)
    try:
        for chunk in reader:
            in_flight.append((chunk, engine.submit(chunk.batch)))
            if len(in_flight) >= engine.in_flight:
                writer.add(*in_flight.popleft())
        while in_flight:
            writer.add(*in_flight.popleft())
    finally:
        reader.close()
        for _, pending in in_flight:
            pending.cancel()
        writer.commit()  # also if it is interrupted: what was written so far is complete


def _chunk_rows(model: Model, scorer: Scorer) -> int:
    sizes = [
        prod(size for size in each.target.shape or () if size > 0) * DATATYPES[each.target.datatype or "FP32"].itemsize
        for each in scorer.inputs
    ]
    batch, declared = max(model.max_batch_size, 1), model.batch_sizes if model.max_batch_size else ()
    return rows_of_chunk(sum(sizes), batch, model.spec.device == "cpu", declared)


def rows_of_chunk(row_bytes: int, batch: int, on_cpu: bool, declared: Sequence[int] = ()) -> int:
    """Return how many rows to read and send at a time: whole batches.

    If one batch exceeds _CHUNK_BYTES, a CPU gets a half of it, or a quarter, and so on: memory that is used for the
    first time costs it more than larger batches save. Other devices get the whole batch.

    declared: the sizes that batches are filled up to. A part of one would be filled up too, which only adds work.
    """
    rows = max(1, min(_CHUNK_ROWS, _CHUNK_BYTES // max(row_bytes, 1)))
    if batch <= rows or not on_cpu:
        return -(-rows // batch) * batch
    if declared:
        return max((size for size in declared if size <= rows), default=min(declared))
    while batch > rows:
        batch = -(-batch // 2)
    return batch


class _Writer:
    """Adds results to parts, in order."""

    def __init__(self, parts: Parts, watcher: Watcher, request: ScoreRequest) -> None:
        self._parts, self._watcher, self._request = parts, watcher, request
        self._part: PartWriter | None = None
        self._bad = sum(part.bad for part in parts.done)
        self._since = 0.0

    def add(self, chunk: Chunk, pending: Pending) -> None:
        """Wait for a batch, and add it. Raises CannotScore, ModelportError."""
        scored = pending.result()
        sinks.check_values(self._request.output, scored.batch)
        bad = [BadInput(chunk.numbers[each.row], each.reason, _file_of(chunk, each.row)) for each in scored.bad]
        if self._part is None:
            self._part, self._since = self._parts.new_part(), time.monotonic()
        try:
            self._part.add(chunk.end, scored.batch, sorted([*chunk.bad, *bad]))
        except OSError as error:
            raise self._cannot_write(error) from None
        self._bad += len(bad) + len(chunk.bad)
        self._watcher.advance(chunk.end, self._bad, chunk.position)
        if self._part.rows >= _PART_ROWS or time.monotonic() - self._since >= self._request.part_s:
            self.commit()

    def commit(self) -> None:
        part, self._part = self._part, None
        if part is not None:
            try:
                part.commit()
            except OSError as error:
                raise self._cannot_write(error) from None
            finally:
                part.close()

    def _cannot_write(self, error: OSError) -> CannotScore:
        return CannotScore(f"{self._parts.folder} cannot be written: {error.strerror or error}")


def _file_of(chunk: Chunk, row: int) -> str:
    """Return the name of the file that is the row, for images, or that has it, if there are several."""
    if not chunk.file and "file" in chunk.batch.schema.names:
        return str(chunk.batch.column("file")[row].as_py())
    return chunk.file


def _finish(request: ScoreRequest, scorer: Scorer, parts: Parts) -> Summary:
    """Join the parts to the output. Each file appears as a whole, the output last."""
    schema = parts.schema or scorer.schema or pa.schema([])
    scored, bad = sum(part.scored for part in parts.done), sum(part.bad for part in parts.done)
    assert scored + bad == parts.end
    bad_draft = request.bad_file.with_name(f".{request.bad_file.name}.draft")
    draft = request.output.with_name(f".{request.output.name}.draft{request.output.suffix}")
    try:
        sinks.check_schema(request.output, schema)
        sinks.write(draft, schema, parts.batches, scored)
        if bad:
            with bad_draft.open("wb") as file:
                file.writelines(parts.bad())
            _sync(bad_draft)
            bad_draft.replace(request.bad_file)
        _sync(draft)
        draft.replace(request.output)
        if not bad:
            request.bad_file.unlink(missing_ok=True)  # of an output that was replaced
        _sync(request.output.parent)  # before the parts are removed
    except pa.ArrowException as error:
        raise CannotScore(f"{request.output} cannot be written: {first_line(error)}") from None
    except OSError as error:
        raise CannotScore(f"{request.output} cannot be written: {error.strerror or error}") from None
    finally:
        draft.unlink(missing_ok=True)
        bad_draft.unlink(missing_ok=True)
    parts.remove()
    return Summary(parts.end, scored, bad, 0, 0.0)


def _sync(path: Path) -> None:
    """Have the disk keep a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
