"""What all kinds of inputs have in common."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import pyarrow as pa

from gateway.errors import InvalidRequest
from gateway.score.errors import CannotScore

# A value for each row of some columns, and an error in place of a row that cannot be read.
Record = Sequence[object]


class BadInput(NamedTuple):
    """A row that cannot be read, or was not scored.

    row     its number in the whole input, from 0
    reason  a sentence
    file    where it is, if there are several files
    """

    row: int
    reason: str
    file: str = ""


class Chunk(NamedTuple):
    """Some rows of the input, one after the other.

    start, end  the rows' numbers in the whole input: from `start` up to, not including, `end`
    batch       those that could be read
    numbers     the numbers of these
    bad         the others. `batch.num_rows + len(bad) == end - start`
    file        where they are, if there are several files
    position    how much of the input was read by then, in the unit of Source.size
    """

    start: int
    end: int
    batch: pa.RecordBatch
    numbers: Sequence[int]
    bad: list[BadInput]
    file: str
    position: int


class Source(Protocol):
    """An input of one or more files, with the same columns in each."""

    @property
    def schema(self) -> pa.Schema:
        """The columns of all batches."""

    @property
    def rows(self) -> int | None:
        """The number of rows; None if only reading them tells."""

    @property
    def size(self) -> int:
        """What `position` of the last chunk will be about: rows, or bytes."""

    def chunks(self, start: int, rows: int) -> Iterator[Chunk]:
        """Yield all rows from number `start` on, in order, up to `rows` at a time. Raises CannotScore."""


def whole(start: int, batch: pa.RecordBatch, file: str, position: int) -> Chunk:
    """Return a chunk of rows that could all be read."""
    end = start + batch.num_rows
    return Chunk(start, end, batch, range(start, end), [], file, position)


def from_records(
    records: Iterable[tuple[Record | InvalidRequest, str, int]],
    start: int,
    rows: int,
    to_batch: Callable[[list[Record]], tuple[pa.RecordBatch, dict[int, str]]],
) -> Iterator[Chunk]:
    """Yield the chunks of an input that is read row by row, without the first `start` rows.

    records   the values of each row or why it cannot be read, its file, and how much was read by then
    to_batch  makes a batch of the rows that can be read, and returns which of them it could not use, and why
    """
    first, read = start, list[tuple[Record | InvalidRequest, str, int]]()
    for number, record in enumerate(records):
        if number < start:
            continue
        if read and (len(read) >= rows or record[1] != read[0][1]):
            yield _chunk(first, read, to_batch)
            first, read = number, []
        read.append(record)
    if read:
        yield _chunk(first, read, to_batch)


def _chunk(
    start: int,
    read: list[tuple[Record | InvalidRequest, str, int]],
    to_batch: Callable[[list[Record]], tuple[pa.RecordBatch, dict[int, str]]],
) -> Chunk:
    file, position = read[-1][1:]
    numbers, values, bad = list[int](), list[Record](), list[BadInput]()
    for number, (record, _, _) in enumerate(read, start):
        if isinstance(record, InvalidRequest):
            bad.append(BadInput(number, str(record), file))
        else:
            numbers.append(number)
            values.append(record)
    batch, unusable = to_batch(values)
    bad += [BadInput(numbers[each], reason, file) for each, reason in unusable.items()]
    kept = [number for each, number in enumerate(numbers) if each not in unusable]
    return Chunk(start, start + len(read), batch, kept, sorted(bad), file, position)


def labels(files: Sequence[Path]) -> list[str]:
    """Return what names each file in reports: its path in the folder that has all of them; "" if it is the only one."""
    if len(files) == 1:
        return [""]
    root = folder_of(files)
    return [label(file, root) for file in files]


def label(file: Path, root: Path) -> str:
    """Return the file's path in a folder, as text that can be written. Names of files need not be UTF-8."""
    return as_text(os.path.relpath(file, root))


def folder_of(files: Sequence[Path]) -> Path:
    """Return the folder that has all of them, however deep."""
    return Path(os.path.commonpath([os.path.abspath(file.parent) for file in files]))


def as_text(path: str | os.PathLike[str]) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")


def cannot_read(file: Path, error: Exception) -> CannotScore:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
    return CannotScore(f"{file} cannot be read: {reason}")


def first_line(error: BaseException) -> str:
    """Return what the error says, or its kind if it says nothing, as some of the standard library do."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
