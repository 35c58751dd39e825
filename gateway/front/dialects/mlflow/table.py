"""A table in a request: columns by name, from JSON or CSV, and the tensors that a model gets from it."""

import csv
import io
import math
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.codecs.json_tensors import guess_tensor, read_tensor
from gateway.domain.table_schema import TableSchema
from gateway.errors import InvalidRequest, shorten
from gateway.front.base.limits import MAX_OBJECTS
from runtimes.contract import TensorSpec, kind_of
from runtimes.tensors import Buffer, Tensor, pack_bytes

_NO_SCHEMA = TableSchema()


class Table(NamedTuple):
    """columns: name → values, equally many, with None for missing ones. is_text: whether all values are text."""

    columns: Mapping[str, Sequence[Any]]
    is_text: bool = False


def from_split(split: Any) -> Table:
    """Read {"columns": […], "data": [[…], …]}. Raises InvalidRequest."""
    if not isinstance(split, dict) or not isinstance(split.get("data"), list):
        raise InvalidRequest("'dataframe_split' must be an object with 'columns' and 'data', a list of rows")
    for key in split:
        if key not in ("columns", "data", "index"):
            raise InvalidRequest(f"'dataframe_split' has the unknown key '{shorten(key)}'; send 'columns' and 'data'")
    return from_rows(split["data"], split.get("columns"), "'dataframe_split'")


def from_rows(rows: Sequence[Any], names: Any, what: str, is_text: bool = False) -> Table:
    """Read rows of values; without `names`, the columns are called 0, 1, …. Raises InvalidRequest."""
    if not rows:
        raise InvalidRequest(f"{what} has no rows; send at least one")
    if names is None:
        names = list(range(len(rows[0]))) if isinstance(rows[0], list) else []
    if not isinstance(names, list) or not set(map(type, names)) <= {str, int} or not names:
        raise InvalidRequest(f"the columns of {what} must be a list of names")
    names = list(map(str, names))
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise InvalidRequest(f"{what} has two columns '{shorten(twice)}'; give each its own name")
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            length = f"{len(row)} values" if isinstance(row, list) else "no list of values"
            raise InvalidRequest(f"row {number} of {what} has {length}, but there are {len(names)} columns")
    return Table(dict(zip(names, zip(*rows, strict=True), strict=True)), is_text)


def from_records(records: Any, what: str, wanted: Iterable[str]) -> Table:
    """Read [{name: value, …}, …]. Only names in `wanted` are read if there are any. Raises InvalidRequest.

    A row may lack some of these.
    """
    if not isinstance(records, list) or not set(map(type, records)) <= {dict}:
        raise InvalidRequest(f"{what} must be a list of objects, each with a value for each column")
    if not records:
        raise InvalidRequest(f"{what} has no rows; send at least one")
    # Otherwise, a million rows with a name each would make a trillion values.
    known = [name for name in wanted if any(name in row for row in records)]
    if len(known) * len(records) > sum(map(len, records)) + MAX_OBJECTS:
        raise InvalidRequest(
            f"most values of {what} are missing; send fewer rows, or rows with a value for each column"
        )
    if known:
        return Table({name: [row.get(name) for row in records] for name in known})
    names = records[0].keys()
    if any(row.keys() != names for row in records):
        raise InvalidRequest(f"the rows of {what} must all have the same columns")
    return Table({name: [row[name] for row in records] for name in names})


def from_csv(body: Buffer, has_header: bool) -> Table:
    """Read CSV, whose first line has the names of the columns. Raises InvalidRequest."""
    try:
        text = bytes(body).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidRequest("the body is not CSV: it is not UTF-8") from None
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error as error:
        raise InvalidRequest(f"the body is not CSV: {error}") from None
    names = rows.pop(0) if has_header and rows else None
    if names is not None and all(_number(name) is not None for name in names):
        raise InvalidRequest(
            "the first line of the CSV must have the names of the columns, but it has numbers; "
            "if there is no such line, send text/csv; header=absent"
        )
    return from_rows(rows, names, "the CSV", is_text=True)


def _number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def read_table(
    table: Table, specs: Sequence[TensorSpec], optional: Sequence[str], schema: TableSchema | None
) -> list[Tensor]:
    """Return the inputs that a table has. `specs` are those of the model. Raises InvalidRequest.

    A column is the input of its name. If the model has one input, of another name, the table is its values: in the
    order of the model's own columns, if MLflow has saved their names, and otherwise in the table's.
    """
    schema = schema or _NO_SCHEMA
    if len(specs) == 1 and specs[0].name not in table.columns and specs[0].name not in schema.columns:
        return [_matrix(table, specs[0], schema)]
    found = []
    for spec in specs:
        if spec.name in table.columns:
            found.append(_column(table, spec.name, spec, schema.columns.get(spec.name, "")))
        elif spec.name not in optional:
            raise _missing(spec.name, table, [each.name for each in specs if each.name not in optional])
    if not found:
        names = shorten(", ".join(each.name for each in specs), 200)
        raise InvalidRequest(f"the request has none of the model's columns, which are {names}")
    return found


def _missing(name: str, table: Table, needed: Sequence[str]) -> InvalidRequest:
    return InvalidRequest(
        f"the column '{shorten(name)}' is missing; the model needs {shorten(', '.join(needed), 200)}, "
        f"and the request has {shorten(', '.join(table.columns), 200)}"
    )


def _matrix(table: Table, spec: TensorSpec, schema: TableSchema) -> Tensor:
    names = list(schema.columns or table.columns)
    for name in names:
        if name not in table.columns:
            raise _missing(name, table, names)
    columns = [_values(table, name, spec.datatype) for name in names]
    is_flat = len(columns) == 1 and (isinstance(columns[0][0], list) or len(spec.shape or (0, 0)) == 1)
    rows: list[Any] = list(columns[0]) if is_flat else [list(row) for row in zip(*columns, strict=True)]
    return _tensor(spec, rows)


def _column(table: Table, name: str, spec: TensorSpec, kind: str) -> Tensor:
    if kind == "binary":
        return _binary(name, table.columns[name])
    values = _values(table, name, spec.datatype, kind)
    return _with_rank(_tensor(spec, values), spec)


def _tensor(spec: TensorSpec, values: list[Any]) -> Tensor:
    return read_tensor(spec.name, values, spec.datatype) if spec.datatype else guess_tensor(spec.name, values)


def _with_rank(tensor: Tensor, spec: TensorSpec) -> Tensor:
    """Return a column as a matrix with one column if that is what the model takes."""
    if spec.shape is not None and len(spec.shape) == len(tensor.shape) + 1 and spec.shape[-1] in (1, -1):
        return tensor._replace(shape=(*tensor.shape, 1))
    return tensor


def _values(table: Table, name: str, datatype: str, kind: str = "") -> list[Any]:
    """Return the values of a column, with NaN for missing numbers. Raises InvalidRequest for other missing values."""
    values = list(table.columns[name])
    if table.is_text:
        plain = _plain_values(values, datatype)
        values = plain or [_parsed(name, row, text, datatype) for row, text in enumerate(values)]
    if None not in values:
        return values
    if kind == "datetime":
        return ["NaT" if value is None else value for value in values]
    if kind_of(datatype) == "float" or (not datatype and _are_numbers(values)):
        return [math.nan if value is None else value for value in values]
    what = f"{datatype} has none; send a value" if datatype else "only numbers may be missing; send a value"
    raise InvalidRequest(f"the column '{shorten(name)}' has a missing value in row {values.index(None)}, but {what}")


def _are_numbers(values: Sequence[Any]) -> bool:
    return {type(value) for value in values} <= {int, float, type(None)}


def _plain_values(texts: Sequence[str], datatype: str) -> list[Any]:
    """Return the values of a column of a CSV if all of them are ordinary, without a loop in Python; otherwise none."""
    if "" in texts:
        return []
    if kind_of(datatype) == "bytes":
        return list(texts)
    together = "".join(texts)
    if not together.isascii():
        return []
    if kind_of(datatype) in ("int", "uint"):
        return list(map(int, texts)) if together.isdigit() and len(max(texts, key=len)) <= 20 else []
    try:
        return list(map(float, texts)) if kind_of(datatype) == "float" and "_" not in together else []
    except ValueError:
        return []


def _parsed(name: str, row: int, text: str, datatype: str) -> Any:
    """Return the value that a cell of a CSV stands for, None for an empty one. Raises InvalidRequest."""
    if not text:
        return None
    kind = kind_of(datatype)
    if kind == "bytes":
        return text
    if kind == "bool":
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise InvalidRequest(f"the column '{shorten(name)}' has '{shorten(text)}' in row {row}; send true or false")
    number: float | None = None
    text = text.strip(" ") if kind else text
    if kind in ("int", "uint", "") and len(text) <= 20 and text.lstrip("+-").isdigit() and text.isascii():
        number = int(text)
    elif kind in ("float", ""):
        number = _number(text)
    if number is None and kind:
        what = "a number" if kind == "float" else "an integer"
        raise InvalidRequest(f"the column '{shorten(name)}' has '{shorten(text)}' in row {row}; send {what}")
    return text if number is None else number


def _binary(name: str, values: Sequence[Any]) -> Tensor:
    """Return a column of bytes, which are base64 in JSON and CSV. Raises InvalidRequest."""
    try:
        decoded = [b64decode("".join(value.split()), validate=True) for value in values]
    except (AttributeError, ValueError):
        raise InvalidRequest(f"the column '{shorten(name)}' is binary; send base64") from None
    return Tensor(name, "BYTES", (len(decoded),), pack_bytes(decoded))
