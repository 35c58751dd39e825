"""Parquet and Arrow files."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gateway.score.errors import CannotScore
from gateway.score.sources.source import Chunk, cannot_read, labels, whole

# What is read of a file at a time. Otherwise a whole row group would be, however large, before its first row is there;
# and memory that the process has not had before costs more than what is read into it.
_READ_BYTES = 1 << 20


class ParquetSource:
    """Skips row groups that are not needed."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Raises CannotScore."""
        self._files = files
        try:
            metadata = [pq.read_metadata(file) for file in files]
            self.schema: pa.Schema = pq.read_schema(files[0])
            for file in files[1:]:
                _check_same(file, pq.read_schema(file), files[0], self.schema)
        except (pa.ArrowException, OSError) as error:
            raise cannot_read(_culprit(files), error) from None
        self._starts = [0, *accumulate(each.num_rows for each in metadata)]
        self._groups = [[each.row_group(number).num_rows for number in range(each.num_row_groups)] for each in metadata]
        self.rows = self.size = self._starts[-1]

    def chunks(self, start: int, rows: int) -> Iterator[Chunk]:
        first = bisect_right(self._starts, start) - 1
        for number in range(first, len(self._files)):
            file, name, at = self._files[number], labels(self._files)[number], self._starts[number]
            skip = max(start - at, 0)
            groups = [0, *accumulate(self._groups[number])]
            group = max(bisect_right(groups, skip) - 1, 0)
            at += groups[min(group, len(groups) - 1)]
            try:
                with pq.ParquetFile(file, pre_buffer=False, buffer_size=_READ_BYTES) as parquet:
                    wanted = range(group, parquet.num_row_groups)
                    for batch in parquet.iter_batches(rows, row_groups=list(wanted), use_threads=False):
                        ahead = min(max(start - at, 0), batch.num_rows)
                        at += batch.num_rows
                        if ahead < batch.num_rows:
                            batch = batch.slice(ahead) if ahead else batch
                            # A cast copies the values, even if the types are the same.
                            if not batch.schema.equals(self.schema):
                                batch = batch.cast(self.schema)
                            yield whole(at - batch.num_rows, batch, name, at)
            except (pa.ArrowException, OSError) as error:
                raise cannot_read(file, error) from None


class ArrowSource:
    """Arrow's own files (IPC), also called Feather."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Raises CannotScore."""
        self._files = files
        self._counts = list[list[int]]()
        schemas = list[pa.Schema]()
        for file in files:
            try:
                with pa.memory_map(str(file)) as mapped, pa.ipc.open_file(mapped) as reader:
                    schemas.append(reader.schema)
                    self._counts.append([reader.get_batch(each).num_rows for each in range(reader.num_record_batches)])
            except (pa.ArrowException, OSError) as error:
                raise cannot_read(file, error) from None
            _check_same(file, schemas[-1], files[0], schemas[0])
        self.schema: pa.Schema = schemas[0]
        self.rows = self.size = sum(map(sum, self._counts))

    def chunks(self, start: int, rows: int) -> Iterator[Chunk]:
        at = 0
        for file, name, counts in zip(self._files, labels(self._files), self._counts, strict=True):
            try:
                with pa.memory_map(str(file)) as mapped, pa.ipc.open_file(mapped) as reader:
                    for number, count in enumerate(counts):
                        if at + count > start:
                            batch = reader.get_batch(number)
                            for offset in range(max(start - at, 0), count, rows):
                                part = batch.slice(offset, rows)
                                yield whole(at + offset, part, name, at + offset + part.num_rows)
                        at += count
            except (pa.ArrowException, OSError) as error:
                raise cannot_read(file, error) from None


def _check_same(file: Path, schema: pa.Schema, first: Path, expected: pa.Schema) -> None:
    if not schema.equals(expected):
        raise CannotScore(f"{file} has other columns than {first.name}; score files with different columns separately")


def _culprit(files: Sequence[Path]) -> Path:
    for file in files:
        try:
            pq.read_metadata(file)
        except (pa.ArrowException, OSError):
            return file
    return files[0]
