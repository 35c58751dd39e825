"""JSON lines: an object on each line.

The columns are the keys of the first objects. Of a column with other values than texts, numbers of one kind or
booleans, the values are JSON text. A key that only later lines have is ignored.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from gateway.codecs import json_text
from gateway.errors import InvalidRequest
from gateway.score.errors import CannotScore
from gateway.score.json_columns import JSON, is_json
from gateway.score.sources.source import Chunk, Record, cannot_read, from_records, labels

# How many objects decide which columns there are. A larger number delays the start; a smaller one misses rare keys.
_FIRST = 1000
_TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


class JsonLinesSource:
    rows = None

    def __init__(self, files: Sequence[Path]) -> None:
        """Raises CannotScore."""
        self._files = files
        self.size = sum(file.stat().st_size for file in files)
        first = [each for each, _, _ in islice(self._objects(), _FIRST) if isinstance(each, dict)]
        if not first:
            raise CannotScore(f'{files[0]} has no JSON object; each line must be one, such as {{"x": [1, 2]}}')
        names = dict.fromkeys(name for each in first for name in each)
        self.schema = pa.schema([_field(name, [each.get(name) for each in first]) for name in names])

    def chunks(self, start: int, rows: int) -> Iterator[Chunk]:
        names = self.schema.names
        records = (
            (each if isinstance(each, InvalidRequest) else [each.get(name) for name in names], file, position)
            for each, file, position in self._objects()
        )
        return from_records(records, start, rows, self._batch)

    def _objects(self) -> Iterator[tuple[Mapping[str, Any] | InvalidRequest, str, int]]:
        before = 0
        for file, name in zip(self._files, labels(self._files), strict=True):
            position = before
            try:
                with file.open("rb") as lines:
                    for line in lines:
                        position += len(line)
                        if line.strip():
                            yield _parse(line), name, position
            except OSError as error:
                raise cannot_read(file, error) from None
            before = position

    def _batch(self, records: list[Record]) -> tuple[pa.RecordBatch, dict[int, str]]:
        bad = dict[int, str]()
        for number, record in enumerate(records):
            for field, value in zip(self.schema, record, strict=True):
                if not _fits(value, field):
                    shown = json.dumps(value)
                    shown = shown if len(shown) <= 40 else shown[:37] + "..."
                    bad[number] = f"'{field.name}' is {shown}, and {field.type} in the lines before"
        good = [record for number, record in enumerate(records) if number not in bad]
        columns = list(zip(*good, strict=True)) or [()] * len(self.schema)
        arrays = [_array(values, field) for values, field in zip(columns, self.schema, strict=True)]
        return pa.record_batch(arrays, schema=self.schema), bad


def _parse(line: bytes) -> Mapping[str, Any] | InvalidRequest:
    try:
        value = json_text.loads(line)
    except InvalidRequest as error:
        return InvalidRequest(str(error).replace("the body", "the line", 1))
    return value if isinstance(value, dict) else InvalidRequest("the line is not a JSON object")


def _field(name: str, values: list[Any]) -> pa.Field:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        kinds = {float}
    kind = _TYPES.get(kinds.pop()) if len(kinds) == 1 else None
    if kind == pa.int64() and not all(value is None or _is_int64(value) for value in values):
        kind = None
    return pa.field(name, pa.string(), metadata=JSON) if kind is None else pa.field(name, kind)


def _fits(value: Any, field: pa.Field) -> bool:
    if value is None or is_json(field):
        return True
    if isinstance(value, bool) or not isinstance(value, int):
        return bool(_TYPES.get(type(value)) == field.type)
    if field.type == pa.float64():
        return abs(value) <= 1 << 53
    return bool(field.type == pa.int64() and _is_int64(value))


def _is_int64(value: int) -> bool:
    return -(1 << 63) <= value < 1 << 63


def _array(values: Sequence[Any], field: pa.Field) -> pa.Array:
    if is_json(field):
        values = [None if value is None else json.dumps(value) for value in values]
    return pa.array(values, field.type)
