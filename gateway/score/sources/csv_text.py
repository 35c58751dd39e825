"""CSV with a header line. All columns are text: what is not made into inputs stays as it was written."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from gateway.errors import InvalidRequest
from gateway.score.errors import CannotScore
from gateway.score.sources.source import Chunk, Record, cannot_read, from_records, labels


class CsvSource:
    rows = None

    def __init__(self, files: Sequence[Path], delimiter: str = ",") -> None:
        """Raises CannotScore."""
        self._files, self._delimiter = files, delimiter
        csv.field_size_limit(1 << 30)  # an image as text is longer than the default of 128 KiB
        headers = [self._header(file) for file in files]
        for file, header in zip(files, headers, strict=True):
            if header != headers[0]:
                raise CannotScore(
                    f"{file} has other columns than {files[0].name}; score files with different columns separately"
                )
        if len(set(headers[0])) < len(headers[0]):
            raise CannotScore(f"{files[0]} has several columns of one name; rename all but one")
        self.schema = pa.schema([(name, pa.string()) for name in headers[0]])
        self.size = sum(file.stat().st_size for file in files)

    def chunks(self, start: int, rows: int) -> Iterator[Chunk]:
        return from_records(self._records(), start, rows, self._batch)

    def _header(self, file: Path) -> list[str]:
        try:
            with file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as text:
                header = next(csv.reader(text, delimiter=self._delimiter, strict=True), None)
        except (OSError, csv.Error) as error:
            raise cannot_read(file, error) from None
        if not header or not _is_utf8(header):
            raise CannotScore(f"{file} has no first line that names the columns, in UTF-8")
        return header

    def _records(self) -> Iterator[tuple[Record | InvalidRequest, str, int]]:
        before, width = 0, len(self.schema)
        for file, name in zip(self._files, labels(self._files), strict=True):
            try:
                with file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as text:
                    # Otherwise a quote that is not closed would make the rest of the file one field.
                    reader = csv.reader(text, delimiter=self._delimiter, strict=True)
                    next(reader, None)
                    while True:
                        try:
                            fields = next(reader)
                        except StopIteration:
                            break
                        except csv.Error as error:
                            yield InvalidRequest(f"the line is not CSV: {error}"), name, before
                            continue
                        if not fields:
                            continue  # an empty line
                        position = before + text.buffer.raw.tell()  # type: ignore[attr-defined]
                        if len(fields) != width:
                            reason = f"the line has {len(fields)} fields, and the header has {width}"
                            yield InvalidRequest(reason), name, position
                        else:
                            yield fields, name, position
            except OSError as error:
                raise cannot_read(file, error) from None
            before += file.stat().st_size

    def _batch(self, records: list[Record]) -> tuple[pa.RecordBatch, dict[int, str]]:
        columns = list(zip(*records, strict=True)) or [()] * len(self.schema)
        try:
            return pa.record_batch([pa.array(each, pa.string()) for each in columns], schema=self.schema), {}
        except UnicodeEncodeError:
            pass
        bad = {number: "the line is not UTF-8" for number, each in enumerate(records) if not _is_utf8(each)}
        batch, _ = self._batch([each for number, each in enumerate(records) if number not in bad])
        return batch, bad


def _is_utf8(fields: Record) -> bool:
    try:
        "".join(map(str, fields)).encode()
    except UnicodeEncodeError:
        return False
    return True
