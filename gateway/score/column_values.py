"""Columns of Arrow as arrays with a row for each of theirs. A row that does not fit is left out, with the reason.

Rows that fit are converted by numpy, all at once. One that does not is read as JSON would be, so the reason is the
sentence that a client of a gateway would get.
"""

from decimal import Decimal
from math import prod
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gateway.codecs.cast import cast
from gateway.codecs.json_tensors import read_tensor
from gateway.domain.tensor_checks import describe_shape
from gateway.errors import InvalidRequest
from gateway.score.text_values import NotAtOnce, integers, lists_of, numbers_of, parsed
from runtimes.contract import DATATYPES, numpy_dtype
from runtimes.tensors import to_array, wide_dtype


class Target(NamedTuple):
    """What a row has to become.

    datatype  "" for that of the column
    shape     of a row, -1 for any size; None: any
    json      whether texts of the column are JSON, also if strings are wanted
    """

    name: str
    datatype: str
    shape: tuple[int, ...] | None
    json: bool = False


class Rows(NamedTuple):
    """The rows of one input.

    values  an array of all rows if they have one shape, otherwise one array for each row. Rows that are in `bad` have
            no meaning there
    bad     number of the row → why it does not fit
    """

    values: "np.ndarray | list[np.ndarray]"
    bad: dict[int, str]


def depth_of(kind: pa.DataType) -> int:
    """Return how many lists are nested in each other."""
    return 1 + depth_of(kind.value_type) if _is_list(kind) else 0


def leaf_of(kind: pa.DataType) -> pa.DataType:
    return leaf_of(kind.value_type) if _is_list(kind) else kind


def plain(column: pa.Array) -> pa.Array:
    """Return the column without dictionaries and extension types."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    column = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    return column.cast(plain_type(column.type)) if _is_view(column.type) else column


def plain_type(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if _is_view(kind):
        return pa.string() if pa.types.is_string_view(kind) else pa.binary()
    return kind


def problem(kind: pa.DataType, datatype: str) -> str:
    """Return why no value of this type can be of this datatype; "" if some can."""
    order = getattr(kind, "permutation", None)
    if order and list(order) != sorted(order):
        return "the dimensions of its tensors are permuted; save them in the order of their values"
    leaf = leaf_of(plain_type(kind))
    text = is_text(leaf)
    number = pa.types.is_integer(leaf) or pa.types.is_floating(leaf) or pa.types.is_decimal(leaf)
    wants = DATATYPES[datatype].kind if datatype else ""
    if text or pa.types.is_null(leaf) or (wants != "bytes" and (number or pa.types.is_boolean(leaf))):
        return ""
    return f"it holds {leaf}, and {datatype or 'a tensor'} needs {'strings' if wants == 'bytes' else 'numbers'}"


def read_rows(column: pa.Array, target: Target) -> Rows:
    """Return the rows of a column that `problem` does not exclude."""
    column = plain(column)
    if not column.null_count:
        return _read_rows(column, target)
    valid = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    found = _read_rows(column.drop_null(), target)
    bad = dict.fromkeys(range(len(column)), f"input '{target.name}' is null")
    for row in valid.tolist():
        del bad[row]
    bad |= {int(valid[row]): reason for row, reason in found.bad.items()}
    if isinstance(found.values, np.ndarray):
        values = np.zeros((len(column), *found.values.shape[1:]), found.values.dtype)
        values[valid] = found.values
        return Rows(values, bad)
    spread = [_BAD[0]] * len(column)
    for row, value in zip(valid.tolist(), found.values, strict=True):
        spread[row] = value
    return Rows(spread, bad)


def _read_rows(column: pa.Array, target: Target) -> Rows:
    parts, bad = list[np.ndarray](), dict[int, str]()
    if len(column):
        _read(column, 0, target, parts, bad)
    kinds = {(part.shape[1:], part.dtype) for part in parts if part is not _BAD}
    if len(kinds) != 1:
        return Rows([row for part in parts for row in part], bad)
    shape, dtype = kinds.pop()
    parts = [np.zeros((1, *shape), dtype) if part is _BAD else part for part in parts]
    return Rows(parts[0] if len(parts) == 1 else np.concatenate(parts), bad)


# In place of a row that does not fit.
_BAD = np.empty((1, 0), np.void)


def _read(column: pa.Array, start: int, target: Target, parts: list[np.ndarray], bad: dict[int, str]) -> None:
    """Append the rows from number `start` on. If they do not fit as a whole, halve them, until it is clear which."""
    try:
        parts.append(_at_once(column, target))
        return
    except (NotAtOnce, InvalidRequest, pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    if len(column) > 1:
        middle = len(column) // 2
        _read(column[:middle], start, target, parts, bad)
        _read(column[middle:], start + middle, target, parts, bad)
        return
    try:
        parts.append(_read_one(column[0].as_py(), column.type, target)[np.newaxis])
    except InvalidRequest as error:
        bad[start] = str(error)
        parts.append(_BAD)


def _at_once(column: pa.Array, target: Target) -> np.ndarray:
    count, sizes = len(column), list[int]()
    values = column
    while _is_list(values.type):
        if values.null_count or not len(values):
            raise NotAtOnce
        if pa.types.is_fixed_size_list(values.type):
            size = values.type.list_size
        else:
            lengths = np.diff(values.offsets.to_numpy())
            size = int(lengths[0])
            if (lengths != size).any():
                raise NotAtOnce
        values = values.flatten()
        sizes.append(size)
    if values.null_count:
        raise NotAtOnce
    array = _leaves(values, target, bool(sizes))
    return _shaped(array.reshape(count, *sizes, *array.shape[1:]), target)


def _leaves(values: pa.Array, target: Target, nested: bool) -> np.ndarray:
    """Return the innermost values. Raises NotAtOnce, InvalidRequest, ArrowInvalid."""
    wants = DATATYPES[target.datatype].kind if target.datatype else ""
    if is_text(values.type):
        if wants in ("bytes", "") and not target.json:
            return _objects(values.to_pylist())
        if nested or wants == "bytes":
            raise NotAtOnce
        if target.json or (target.shape and prod(target.shape) != 1):
            return _converted(lists_of(values), target)
        values = numbers_of(values, DATATYPES[target.datatype].kind)
    if wants == "bytes":
        raise NotAtOnce
    if pa.types.is_decimal(values.type):
        # Through text, because Arrow's cast of decimals to floats does not always return the nearest one.
        whole = wants in ("int", "uint")
        values = pc.cast(values, integers(wants)) if whole else pc.cast(pc.cast(values, pa.string()), pa.float64())
    array = values.to_numpy(zero_copy_only=False)
    return _converted(array, target)


def _converted(array: np.ndarray, target: Target) -> np.ndarray:
    """Return the array with the datatype, if no value changes. Raises InvalidRequest, NotAtOnce."""
    if not target.datatype:
        return array
    dtype, wants = numpy_dtype(target.datatype), DATATYPES[target.datatype].kind
    if array.dtype.kind == "b" and wants != "bool":
        array = array.view(np.uint8)
    if array.dtype.kind == "f" and wants in ("int", "uint"):
        if not (np.abs(array) < 2**53).all() or (np.trunc(array) != array).any():
            raise NotAtOnce
        array = array.astype(np.int64)
    array = cast(target.name, array, target.datatype)
    if array.dtype != dtype:
        raise NotAtOnce
    return array


def _shaped(array: np.ndarray, target: Target) -> np.ndarray:
    """Return the array with rows of the wanted shape, if they have it or are flat. Raises NotAtOnce."""
    count, found, wanted = len(array), array.shape[1:], target.shape
    if wanted is None or _fits(found, wanted):
        return array
    if len(found) < len(wanted) and len(found) <= 1 and -1 not in wanted and prod(found) == prod(wanted):
        return array.reshape(count, *wanted)
    raise NotAtOnce


def _read_one(value: Any, kind: pa.DataType, target: Target) -> np.ndarray:
    """Return the value of one row. Raises InvalidRequest with the reason why there is none."""
    wants = DATATYPES[target.datatype].kind if target.datatype else ""
    text, name = is_text(leaf_of(kind)), target.name
    if value is None:
        raise InvalidRequest(f"input '{name}' is null")
    if text and wants in ("bytes", "") and not target.json:
        array = _strings(name, value)
    elif wants == "bytes":
        array = _strings(name, parsed(name, value))
    else:
        if text:
            value = parsed(name, value, wants in ("int", "uint"))
        array = _numbers(value, target)
    try:
        return np.array(_shaped(array[np.newaxis], target)[0])
    except NotAtOnce:
        expected = describe_shape(target.shape or ())
        raise InvalidRequest(f"input '{name}' has shape {list(array.shape)} in this row, expected {expected}") from None


def _numbers(value: Any, target: Target) -> np.ndarray:
    wants = DATATYPES[target.datatype].kind if target.datatype else ""
    value = _simple(value, target, wants)
    datatype = target.datatype or "FP64"
    return np.array(to_array(read_tensor(target.name, value, datatype)))


def _simple(value: Any, target: Target, wants: str) -> Any:
    """Return the value with numbers that JSON would have: whole numbers for integers, no decimals."""
    if isinstance(value, list):
        return [_simple(each, target, wants) for each in value]
    if isinstance(value, bool):
        return value if wants == "bool" else int(value)
    if wants in ("int", "uint") and isinstance(value, float | Decimal):
        if value != value or value in (float("inf"), float("-inf")) or value != int(value):
            raise InvalidRequest(
                f"input '{target.name}' has datatype {target.datatype}, and its data holds {value}; send integers only"
            )
        return int(value)
    return value if value is None or isinstance(value, int | float | str | dict) else float(value)


def _strings(name: str, value: Any) -> np.ndarray:
    try:
        array = np.array(value, dtype=object)
    except ValueError:
        array = np.array(None, dtype=object)
    if any(not isinstance(each, str | bytes) for each in array.ravel()):
        raise InvalidRequest(f"input '{name}' holds null, or lists of different lengths; it needs strings")
    return array


def _objects(values: list[Any]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _fits(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(found) == len(wanted) and all(size in (-1, other) for other, size in zip(found, wanted, strict=True))


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind)
    )


def _is_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string_view(kind) or pa.types.is_binary_view(kind))


def arrow_type(datatype: str) -> pa.DataType:
    """Return the type of a column of outputs; that of the next wider numbers if numpy lacks the datatype."""
    return pa.binary() if datatype == "BYTES" else pa.from_numpy_dtype(wide_dtype(datatype))
