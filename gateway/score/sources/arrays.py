"""npy and npz files: the first dimension of each array counts rows. They are read in pieces, never as a whole."""

import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from math import prod
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa

from gateway.score.errors import CannotScore
from gateway.score.output_columns import fixed_type, to_column
from gateway.score.sources.source import Chunk, cannot_read, whole
from runtimes.contract import datatype_of

# What is raised for archives that are damaged, encrypted, or compressed by a method that Python lacks.
_UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


class _Stored(NamedTuple):
    """An array in a file. open: returns a stream of its bytes, from the header on."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    open: Callable[[], AbstractContextManager[IO[bytes]]]


class ArraysSource:
    def __init__(self, file: Path) -> None:
        """Raises CannotScore."""
        self._file = file
        try:
            self._arrays = list(_stored(file))
        except _UNREADABLE as error:
            raise cannot_read(file, error) from None
        if single := [each.name for each in self._arrays if not each.shape]:
            raise CannotScore(f"'{single[0]}' of {file} is a single value; the first dimension of an array counts rows")
        counts = {each.name: each.shape[0] for each in self._arrays}
        if len(set(counts.values())) != 1:
            listed = ", ".join(f"'{name}' has {count}" for name, count in counts.items())
            raise CannotScore(
                f"all arrays of {file} must have the same number of rows, but {listed or 'there are none'}"
            )
        self.rows = self.size = next(iter(counts.values()))
        self.schema = pa.schema([(each.name, _type(file, each)) for each in self._arrays])

    def chunks(self, start: int, rows: int) -> Iterator[Chunk]:
        try:
            readers = [_rows(each, start, rows) for each in self._arrays]
            for at in range(start, self.rows, rows):
                arrays = [next(reader) for reader in readers]
                columns = [to_column(array, field.type) for array, field in zip(arrays, self.schema, strict=True)]
                batch = pa.RecordBatch.from_arrays(columns, schema=self.schema)
                yield whole(at, batch, "", at + batch.num_rows)
        except _UNREADABLE as error:
            raise cannot_read(self._file, error) from None


def _stored(file: Path) -> Iterator[_Stored]:
    if file.suffix.lower() == ".npy":
        with file.open("rb") as stream:
            yield _Stored(file.stem, *_header(stream, file), lambda: file.open("rb"))
        return
    with zipfile.ZipFile(file) as archive:
        for member in archive.namelist():
            with archive.open(member) as stream:
                shape, dtype = _header(stream, file)
            yield _Stored(member.removesuffix(".npy"), shape, dtype, partial(_open, file, member))


@contextmanager
def _open(file: Path, member: str) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(file) as archive, archive.open(member) as stream:
        yield stream


def _header(stream: IO[bytes], file: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read what precedes the values. Raises ValueError, CannotScore."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, in_columns, dtype = read(stream)
    if in_columns and len(shape) > 1:
        raise CannotScore(f"an array of {file} is in Fortran's order; save numpy.ascontiguousarray of it")
    if dtype.hasobject:
        raise CannotScore(f"an array of {file} holds Python objects; save numbers, or strings of dtype S or U")
    return shape, dtype


def _type(file: Path, stored: _Stored) -> pa.DataType:
    try:
        datatype = datatype_of(stored.dtype)
    except KeyError:
        raise CannotScore(f"'{stored.name}' of {file} is an array of {stored.dtype}, which no model accepts") from None
    return fixed_type("BYTES" if stored.dtype.kind in "SU" else datatype, stored.shape[1:])


def _rows(stored: _Stored, start: int, rows: int) -> Iterator[np.ndarray]:
    per_row = prod(stored.shape[1:])
    with stored.open() as stream:
        _header(stream, Path())
        stream.seek(start * per_row * stored.dtype.itemsize, 1)
        for at in range(start, stored.shape[0], rows):
            count = min(rows, stored.shape[0] - at)
            data = stream.read(count * per_row * stored.dtype.itemsize)
            array = np.frombuffer(data, stored.dtype).reshape(count, *stored.shape[1:])
            if stored.dtype.kind in "SU":
                yield _encoded(array)
            else:
                yield array.astype(stored.dtype.newbyteorder("="), copy=False)


def _encoded(array: np.ndarray) -> np.ndarray:
    encoded = np.empty(array.shape, object)
    encoded.flat[:] = [each.encode() if isinstance(each, str) else each for each in array.ravel().tolist()]
    return encoded
