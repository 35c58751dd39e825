"""Converts between the values in a JSON document and tensors.

This is on the hot path: numpy converts the elements, without a loop in Python. numpy would accept "1.5" for 1.5, null
for NaN, true for 1, and 1.9 for 1. The set of the elements' types is checked to reject these, which takes about as long
as the conversion.
"""

import struct
from base64 import b64decode, b64encode
from collections.abc import Sequence, Set
from itertools import chain
from math import prod
from typing import Any

import numpy as np
import orjson

from gateway.codecs.json_text import numbers
from gateway.domain.tensor_checks import MAX_RANK, check_datatype, check_strings
from gateway.errors import InvalidRequest
from runtimes.contract import DATATYPES, NARROW_RANGES, numpy_dtype
from runtimes.tensors import Buffer, Tensor, integer_range, pack_bytes, to_array, unpack_bytes, widened

# Datatypes that have fewer values than their bytes.
CHECKED = frozenset({"BOOL", *NARROW_RANGES})
_NUMBERS = frozenset({int, float})
# The format characters of struct, which are the same as numpy's.
FLOAT_CODES = {
    each.name: each.dtype.char for each in DATATYPES.values() if each.kind == "float" and each.typestr is not None
}
_DESCRIPTIONS = {
    str: "a string",
    bool: "true or false",
    type(None): "null",
    dict: "an object",
    int: "an integer",
    float: "a number with a fraction or beyond 64 bits",
}


def read_tensor(name: str, data: Any, datatype: str, shape: Sequence[int] | None = None) -> Tensor:
    """Convert nested lists, or one value for a scalar, to a tensor.

    If `shape` is given, the data may also be flat, in row-major order. Raises InvalidRequest.
    """
    found, flat, kinds = _flatten(name, data)
    if shape is None:
        shape = found
    elif found != list(shape):
        if len(found) > 1:
            raise InvalidRequest(f"input '{name}' has shape {list(shape)}, but its data is nested as {found}")
        if len(flat) != prod(shape):
            values = "1 value" if len(flat) == 1 else f"{len(flat)} values"
            raise InvalidRequest(f"input '{name}' has {values} of data, but shape {list(shape)} needs {prod(shape)}")
    return Tensor(name, datatype, tuple(shape), _convert(name, flat, kinds, datatype))


def guess_tensor(name: str, data: Any, likely: str = "") -> Tensor:
    """Convert values of undeclared datatype: `likely` if they fit it, otherwise by their types.

    true and false become BOOL, strings BYTES, integers INT64, and other numbers FP32. Raises InvalidRequest.
    """
    found, flat, kinds = _flatten(name, data)
    if likely:
        try:
            return Tensor(name, likely, tuple(found), _convert(name, flat, kinds, likely))
        except InvalidRequest:
            pass
    if kinds and kinds <= {str, dict}:
        datatype = "BYTES"
    elif kinds == {bool}:
        datatype = "BOOL"
    elif kinds == {int}:
        datatype = "INT64"
    elif kinds <= {int, float}:
        datatype = "FP32"
    else:
        mixture = " and ".join(sorted(_DESCRIPTIONS[kind] for kind in kinds))
        raise InvalidRequest(
            f"the data of input '{name}' holds {mixture}; send only numbers, only strings or only booleans"
        )
    return Tensor(name, datatype, tuple(found), _convert(name, flat, kinds, datatype))


def raw_tensor(name: str, datatype: str, shape: Sequence[int], data: Buffer) -> Tensor:
    """Make a tensor from bytes. The engine checks later that they fit the shape. Raises InvalidRequest."""
    check_datatype(name, datatype)
    if datatype == "BOOL" and len(data) and np.frombuffer(data, np.uint8).max() > 1:
        raise InvalidRequest(f"input '{name}' has datatype BOOL, and its bytes must be 0 or 1")
    if datatype in NARROW_RANGES and len(data):
        values = np.frombuffer(data, np.uint8 if datatype == "UINT4" else np.int8)
        # ml_dtypes has zeros in the upper bits of negative numbers, too.
        if not -8 <= values.min() <= values.max() <= 15:
            _check_range(name, datatype, values)
    return Tensor(name, datatype, tuple(shape), data)


def json_values(tensor: Tensor, flat: bool = False, binary: bool = False) -> Any:
    """Return what `json_text.dumps` writes as the tensor's nested lists, or as one flat list in row-major order.

    BYTES elements become text, or {"b64": "…"} if they are not UTF-8 or `binary` is set.
    """
    if tensor.datatype != "BYTES":
        array = widened(to_array(tensor))
        return numbers(array.reshape(-1) if flat else array)
    encode = _base64 if binary else _text
    values = [encode(element) for element in unpack_bytes(tensor.data, prod(tensor.shape))]
    if flat:
        return values
    nested = np.empty(len(values), dtype=object)
    nested[:] = values
    return nested.reshape(tensor.shape).tolist()


def json_elements(tensor: Tensor) -> Any:
    """Return what `json_text.dumps` writes for a BYTES tensor whose elements are JSON texts: a list, or one value."""
    elements = [orjson.Fragment(element) for element in unpack_bytes(tensor.data, prod(tensor.shape))]
    return elements if tensor.shape else elements[0]


def _flatten(name: str, data: Any) -> tuple[list[int], list[Any], set[type]]:
    """Return the shape, the elements in row-major order, and the set of their types."""
    shape: list[int] = []
    flat = [data]
    kinds: set[type] = {type(data)}
    while list in kinds:
        lengths = set(map(len, flat)) if kinds == {list} else set()
        if len(lengths) != 1:
            raise InvalidRequest(
                f"the data of input '{name}' is ragged at depth {len(shape)}; "
                "all lists at one depth must have the same length, and no values may be mixed with them"
            )
        if len(shape) == MAX_RANK:
            raise InvalidRequest(f"the data of input '{name}' is nested too deep; at most {MAX_RANK} dimensions")
        shape.append(lengths.pop())
        flat = flat[0] if len(flat) == 1 else list(chain.from_iterable(flat))
        kinds = set(map(type, flat))
    return shape, flat, kinds


def _convert(name: str, flat: list[Any], kinds: set[type], datatype: str) -> Buffer:
    kind = DATATYPES[datatype].kind
    if kind == "bytes":
        _check_kinds(name, kinds, {str, dict}, datatype, "strings")
        check_strings(name, len(flat))
        return pack_bytes(flat if dict not in kinds else [_binary(name, element) for element in flat])
    if kind == "float":
        _check_kinds(name, kinds, _NUMBERS, datatype, "numbers")
        return _floats(name, flat, datatype)
    if kind == "bool":
        _check_kinds(name, kinds, {bool, int}, datatype, "true and false")
        if not set(flat) <= {0, 1}:
            raise InvalidRequest(f"input '{name}' has datatype BOOL; send true and false, or 1 and 0")
        array = np.array(flat, dtype=np.bool_)
    else:
        _check_kinds(name, kinds, {int}, datatype, "integers")
        array = _integers(name, flat, datatype)
    return array.view(np.uint8).data if flat else b""


def _check_kinds(name: str, kinds: set[type], allowed: Set[type], datatype: str, expected: str) -> None:
    for kind in kinds - allowed:
        raise InvalidRequest(
            f"input '{name}' has datatype {datatype}, and its data holds {_DESCRIPTIONS[kind]}; send {expected} only"
        )


def _floats(name: str, flat: list[Any], datatype: str) -> Buffer:
    try:
        if datatype not in FLOAT_CODES:
            return rounded(name, np.array(flat, np.float64), datatype).view(np.uint8).data if flat else b""
        # As fast as numpy. struct rejects numbers that overflow, while numpy converts them to infinity.
        return struct.pack(f"<{len(flat)}{FLOAT_CODES[datatype]}", *flat)
    except (OverflowError, struct.error):
        raise InvalidRequest(f"the data of input '{name}' holds a number too large for {datatype}") from None


def _integers(name: str, flat: list[Any], datatype: str) -> np.ndarray:
    dtype = numpy_dtype(datatype)
    try:
        wide = np.array(flat, dtype=np.int64)
    except OverflowError:
        wide = np.array(flat, dtype=object)
    if not flat or wide.dtype == dtype:
        return wide.astype(dtype, copy=False)
    _check_range(name, datatype, wide)
    return wide.astype(np.int8 if datatype in NARROW_RANGES else dtype)


def rounded(name: str, array: np.ndarray, datatype: str) -> np.ndarray:
    """Round numbers to a datatype that numpy lacks: to the nearest value, of two the even one.

    Raises InvalidRequest for numbers that are too large for it, and for infinity if it has none.
    """
    wide = array.astype(np.float64)
    with np.errstate(over="ignore"):
        single = wide.astype(np.float32)
    # ml_dtypes would round twice, first to FP32. Here, an FP32 that is not exact is odd, and therefore never halfway
    # between two values of a smaller type.
    bits, exact = single.view(np.uint32), (single == wide) | np.isnan(wide)
    bits -= np.abs(single.astype(np.float64)) > np.abs(wide)
    bits |= ~exact
    made = single.astype(numpy_dtype(datatype))
    if not np.array_equal(np.isfinite(made), np.isfinite(wide)):
        raise InvalidRequest(f"the data of input '{name}' holds a number too large for {datatype}")
    if not np.array_equal(np.isnan(made), np.isnan(wide)):
        raise InvalidRequest(f"the data of input '{name}' holds infinity, which {datatype} does not have")
    return made


def _check_range(name: str, datatype: str, array: np.ndarray) -> None:
    """Raises InvalidRequest if an integer is out of the datatype's range."""
    low, high, (least, most) = int(array.min()), int(array.max()), integer_range(datatype)
    if low < least or high > most:
        culprit = low if low < least else high
        value = str(culprit) if abs(culprit) < 1 << 64 else "an integer beyond 64 bits"
        raise InvalidRequest(
            f"the data of input '{name}' holds {value}, out of the range of {datatype}: {least} to {most}"
        )


def _binary(name: str, element: Any) -> bytes | str:
    """Convert a BYTES element: a string, or {"b64": "…"} for bytes that are not UTF-8."""
    if isinstance(element, str):
        return element
    decoded = decode_binary(element)
    if decoded is not None:
        return decoded
    raise InvalidRequest(f'input \'{name}\' has datatype BYTES; send strings, or {{"b64": "…"}} with valid base64')


def decode_binary(element: Any) -> bytes | None:
    """Decode {"b64": "…"}. Returns None for anything else."""
    encoded = element.get("b64") if isinstance(element, dict) and len(element) == 1 else None
    try:
        return b64decode(encoded, validate=True) if isinstance(encoded, str) else None
    except ValueError:
        return None


def _text(element: bytes) -> Any:
    try:
        return element.decode()
    except UnicodeDecodeError:
        return _base64(element)


def _base64(element: bytes) -> Any:
    return {"b64": b64encode(element).decode()}
