"""Writes the result in the format that its suffix names."""

import os
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from gateway.codecs import json_text
from gateway.score.column_values import depth_of, leaf_of, plain, plain_type
from gateway.score.errors import CannotScore
from gateway.score.json_columns import is_json

Batches = Callable[[], Iterator[pa.RecordBatch]]

# Rows of a row group of Parquet. Smaller groups compress worse; readers need the memory of one.
_GROUP_ROWS = 1 << 16


def check(output: Path) -> None:
    """Raises CannotScore if there is no format of this name."""
    if output.suffix.lower() not in _WRITERS:
        raise CannotScore(f"{output} must end with one of {', '.join(_WRITERS)}, which names its format")


def check_schema(output: Path, schema: pa.Schema) -> None:
    """Raises CannotScore if the format cannot hold these columns."""
    suffix = output.suffix.lower()
    for field in schema:
        if suffix == ".npz":
            _array_of(field)
            continue
        alone = pa.schema([field])
        try:
            empty = pa.RecordBatch.from_arrays([pa.nulls(0, field.type)], schema=alone)
            _WRITERS[suffix](Path(os.devnull), alone, [empty].__iter__, 0)
        except pa.ArrowException:
            raise CannotScore(
                f"{suffix} cannot hold column '{field.name}' ({field.type}): leave it out with --keep, or choose "
                "another format"
            ) from None


def check_values(output: Path, batch: pa.RecordBatch) -> None:
    """Raises CannotScore if the format cannot hold these rows."""
    if output.suffix.lower() == ".npz":
        for field in batch.schema:
            if _has_nulls(plain(batch.column(field.name))):
                raise CannotScore(
                    f"an npz cannot hold the nulls of column '{field.name}': leave it out with --keep, or choose "
                    ".parquet"
                )


def _has_nulls(column: pa.Array) -> bool:
    while not column.null_count and depth_of(column.type):
        column = column.flatten()
    return bool(column.null_count)


def write(output: Path, schema: pa.Schema, batches: Batches, rows: int) -> None:
    """Write all batches. `batches` may be called several times."""
    _WRITERS[output.suffix.lower()](output, schema, batches, rows)


def _parquet(output: Path, schema: pa.Schema, batches: Batches, rows: int) -> None:
    with pq.ParquetWriter(output, schema, use_dictionary=_dictionaries(schema)) as writer:
        for group in _groups(batches(), _GROUP_ROWS):
            writer.write_table(pa.Table.from_batches(group, schema))


def _dictionaries(schema: pa.Schema) -> bool | list[str]:
    """Return which columns Parquet has a dictionary of values for.

    The numbers of vectors hardly repeat, so that it would cost time and space. Other columns can be named only if they
    are not nested; if some are, all columns have one.
    """
    nested = [field.type for field in schema if pa.types.is_nested(field.type)]
    if not all(pa.types.is_floating(leaf_of(kind)) for kind in nested):
        return True
    return [field.name for field in schema if not pa.types.is_nested(field.type)] or not nested


def _groups(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[list[pa.RecordBatch]]:
    group, count = list[pa.RecordBatch](), 0
    for batch in batches:
        group.append(batch)
        count += batch.num_rows
        if count >= rows:
            yield group
            group, count = [], 0
    if group:
        yield group


def _arrow(output: Path, schema: pa.Schema, batches: Batches, rows: int) -> None:
    with output.open("wb") as file, pa.ipc.new_file(file, schema) as writer:
        for batch in batches():
            writer.write_batch(batch)


def _csv(output: Path, schema: pa.Schema, batches: Batches, rows: int) -> None:
    text = pa.schema([field if _is_simple(field.type) else pa.field(field.name, pa.string()) for field in schema])
    with pa.csv.CSVWriter(output, text) as writer:
        for batch in batches():
            columns = [
                column if _is_simple(column.type) else pa.array(_texts(column), pa.string()) for column in batch.columns
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=text))


def _is_simple(kind: pa.DataType) -> bool:
    """Return whether CSV can have values of this type as they are."""
    types = pa.types
    views = types.is_string_view(kind) or types.is_binary_view(kind)
    binary = types.is_binary(kind) or types.is_large_binary(kind)
    return not (types.is_nested(kind) or binary or views or types.is_float16(kind))


def _texts(column: pa.Array) -> list[str | None]:
    """Return the values as text: strings as they are, and everything else as JSON."""
    texts = list[str | None]()
    for value in _json_values(column, False):
        if value is None or isinstance(value, str):
            texts.append(value)
        else:
            texts.append(json_text.dumps(value).decode())
    return texts


def _json_lines(output: Path, schema: pa.Schema, batches: Batches, rows: int) -> None:
    with output.open("wb") as file:
        for batch in batches():
            columns = [
                _json_values(column, is_json(field)) for column, field in zip(batch.columns, schema, strict=True)
            ]
            for row in zip(*columns, strict=True):
                file.write(json_text.dumps(dict(zip(schema.names, row, strict=True))) + b"\n")


def _json_values(column: pa.Array, is_json_text: bool) -> list[Any]:
    """Return what json_text.dumps writes for each row."""
    if is_json_text:
        return [None if text is None else orjson.Fragment(text) for text in column.to_pylist()]
    leaf = leaf_of(column.type)
    if not pa.types.is_floating(leaf):
        return [_plain(value) for value in _python_values(column)]
    dtype = leaf.to_pandas_dtype()
    if depth_of(column.type):
        return [_floats(value, dtype) for value in column.to_pylist()]
    valid = column.is_valid().to_pylist()
    texts = json_text.number_list(np.asarray(column.to_numpy(zero_copy_only=False), dtype))[1:-1].split(b",")
    return [orjson.Fragment(text) if here else None for text, here in zip(texts, valid, strict=False)]


def _python_values(column: pa.Array) -> list[Any]:
    """Return the values as Python has them; times that it does not have, such as nanoseconds, as Arrow's texts."""
    if not _has_nanoseconds(column.type):
        try:
            return list(column.to_pylist())
        except (ValueError, OverflowError):  # a date after the year 9999, or a time zone that is not known here
            pass
    return list(column.cast(_times_as_texts(column.type)).to_pylist())


def _has_nanoseconds(kind: pa.DataType) -> bool:
    fields = [kind.field(each).type for each in range(kind.num_fields)]
    return getattr(kind, "unit", "") == "ns" or any(map(_has_nanoseconds, fields))


def _times_as_texts(kind: pa.DataType) -> pa.DataType:
    if depth_of(kind):
        return pa.list_(_times_as_texts(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_times_as_texts(field.type)) for field in kind])
    return pa.string() if pa.types.is_temporal(kind) else kind


def _floats(value: Any, dtype: Any) -> Any:
    """Return a float, or lists of them, as JSON, with nulls and with literals for what is not finite.

    Through numpy, because 0.1 as FP32 would be 0.10000000149011612 as a float of Python.
    """
    if isinstance(value, float):
        return orjson.Fragment(json_text.number_list(np.array([value], dtype))[1:-1])
    if not isinstance(value, list):
        return value
    if all(isinstance(each, float) for each in value):
        return orjson.Fragment(json_text.number_list(np.array(value, dtype)))
    return [_floats(each, dtype) for each in value]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"b64": b64encode(value).decode()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return json_text.numbers(np.array(value))
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _npz(output: Path, schema: pa.Schema, batches: Batches, rows: int) -> None:
    with zipfile.ZipFile(output, "w") as archive:
        for field in schema:
            dtype, shape = _array_of(field)
            with archive.open(field.name + ".npy", "w", force_zip64=True) as file:
                _write_header(file, dtype, (rows, *shape))
                for batch in batches():
                    flat = _flat(plain(batch.column(field.name)))
                    file.write(np.ascontiguousarray(flat.astype(dtype, copy=False)).tobytes())


def _write_header(file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _flat(column: pa.Array) -> np.ndarray:
    while depth_of(column.type):
        column = column.flatten()
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _array_of(field: pa.Field) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return the dtype, and the shape of a row. Raises CannotScore."""
    kind, shape = plain_type(field.type), list[int]()
    while pa.types.is_fixed_size_list(kind):
        shape.append(kind.list_size)
        kind = kind.value_type
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    if not number or not prod(shape):
        raise CannotScore(
            f"an npz cannot hold column '{field.name}' ({field.type}): leave it out with --keep, or choose .parquet"
        )
    return np.dtype(kind.to_pandas_dtype()), tuple(shape)


_WRITERS: dict[str, Callable[[Path, pa.Schema, Batches, int], None]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".arrow": _arrow,
    ".feather": _arrow,
    ".npz": _npz,
}
