"""The values in a JSON document <-> tensors.

The hot path: numpy converts the elements, and no loop over them runs in Python. What numpy would
let pass ("1.5" for 1.5, null for NaN, true for 1, 1.9 for 1) is refused by the set of types that
the elements have, which costs about as much as converting them.
"""

import struct
from base64 import b64decode, b64encode
from collections.abc import Sequence, Set
from itertools import chain
from math import prod
from typing import Any

import numpy as np

from gateway.codecs.json_text import numbers
from gateway.domain.tensor_checks import MAX_RANK, check_datatype, check_strings
from gateway.errors import InvalidRequest
from runtimes.contract import DATATYPES, numpy_dtype
from runtimes.tensors import Buffer, Tensor, pack_bytes, to_array, unpack_bytes

_NUMBERS = frozenset({int, float})
# What struct calls them; it and numpy have the same letters.
_FLOAT_CODES = {
    each.name: each.dtype.char for each in DATATYPES.values() if each.kind == "float" and each.dtype is not None
}
_WORDS = {
    str: "a string",
    bool: "true or false",
    type(None): "null",
    dict: "an object",
    int: "an integer",
    float: "a number with a fraction or beyond 64 bits",
}


def read_tensor(name: str, data: Any, datatype: str, shape: Sequence[int] | None = None) -> Tensor:
    """The tensor that nested lists (or one value, of no dimension) stand for.

    With `shape`, the data may also be flat, row-major. Raises InvalidRequest.
    """
    found, flat, kinds = _flatten(name, data)
    if shape is None:
        shape = found
    elif found != list(shape):
        if len(found) > 1:
            raise InvalidRequest(f"input '{name}' has shape {list(shape)}, but its data is nested as {found}")
        if len(flat) != prod(shape):
            raise InvalidRequest(
                f"input '{name}' has {len(flat)} values of data, but shape {list(shape)} takes {prod(shape)}"
            )
    return Tensor(name, datatype, tuple(shape), _convert(name, flat, kinds, datatype))


def guess_tensor(name: str, data: Any, likely: str = "") -> Tensor:
    """The tensor for values whose datatype nobody declared: `likely` if they fit it, else by what they are.

    true and false make BOOL, strings BYTES, integers INT64, and numbers otherwise FP32. Raises InvalidRequest.
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
        told = " and ".join(sorted(_WORDS[kind] for kind in kinds))
        raise InvalidRequest(f"the data of input '{name}' holds {told}; give numbers, strings or booleans, unmixed")
    return Tensor(name, datatype, tuple(found), _convert(name, flat, kinds, datatype))


def raw_tensor(name: str, datatype: str, shape: Sequence[int], data: Buffer) -> Tensor:
    """A tensor that came as bytes; whether they fit its shape is the engine's check. Raises InvalidRequest."""
    check_datatype(name, datatype)
    if datatype == "BOOL" and len(data) and np.frombuffer(data, np.uint8).max() > 1:
        raise InvalidRequest(f"input '{name}' has datatype BOOL, and its bytes must be 0 or 1")
    return Tensor(name, datatype, tuple(shape), data)


def json_values(tensor: Tensor, flat: bool = False, binary: bool = False) -> Any:
    """What `json_text.dumps` writes as the tensor's nested lists (or one flat, row-major list).

    BYTES elements are text, or {"b64": "…"} where they are not UTF-8; with `binary`, always.
    """
    if tensor.datatype != "BYTES":
        array = to_array(tensor)
        return numbers(array.reshape(-1) if flat else array)
    tell = _encoded if binary else _text
    values = [tell(element) for element in unpack_bytes(tensor.data, prod(tensor.shape))]
    if flat:
        return values
    nested = np.empty(len(values), dtype=object)
    nested[:] = values
    return nested.reshape(tensor.shape).tolist()


def _flatten(name: str, data: Any) -> tuple[list[int], list[Any], set[type]]:
    """Shape, elements in row-major order, and the types they have."""
    shape: list[int] = []
    flat = [data]
    kinds: set[type] = {type(data)}
    while list in kinds:
        lengths = set(map(len, flat)) if kinds == {list} else set()
        if len(lengths) != 1:
            raise InvalidRequest(
                f"the data of input '{name}' is ragged at depth {len(shape)}; "
                "the lists of one depth must have the same length, and no values beside them"
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
        _only(name, kinds, {str, dict}, datatype, "strings")
        check_strings(name, len(flat))
        return pack_bytes(flat if dict not in kinds else [_binary(name, element) for element in flat])
    if kind == "float":
        _only(name, kinds, _NUMBERS, datatype, "numbers")
        return _floats(name, flat, datatype)
    if kind == "bool":
        _only(name, kinds, {bool, int}, datatype, "true and false")
        if not set(flat) <= {0, 1}:
            raise InvalidRequest(f"input '{name}' has datatype BOOL; give true and false, or 1 and 0")
        array = np.array(flat, dtype=np.bool_)
    else:
        _only(name, kinds, {int}, datatype, "integers")
        array = _integers(name, flat, datatype)
    return array.view(np.uint8).data if flat else b""


def _only(name: str, kinds: set[type], allowed: Set[type], datatype: str, wanted: str) -> None:
    for kind in kinds - allowed:
        raise InvalidRequest(
            f"input '{name}' has datatype {datatype}, and its data holds {_WORDS[kind]}; give {wanted} only"
        )


def _floats(name: str, flat: list[Any], datatype: str) -> bytes:
    try:
        # As quick as numpy, and it refuses what overflows, where numpy makes an infinity of it.
        return struct.pack(f"<{len(flat)}{_FLOAT_CODES[datatype]}", *flat)
    except KeyError:
        raise InvalidRequest(f"input '{name}' has datatype {datatype}, which JSON lacks; send its bytes") from None
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
    low, high, limits = int(wide.min()), int(wide.max()), np.iinfo(dtype)
    if low < limits.min or high > limits.max:
        culprit = low if low < limits.min else high
        told = str(culprit) if abs(culprit) < 1 << 64 else "an integer beyond 64 bits"
        raise InvalidRequest(
            f"the data of input '{name}' holds {told}, out of the range of {datatype}: {limits.min} to {limits.max}"
        )
    return wide.astype(dtype)


def _binary(name: str, element: Any) -> bytes | str:
    """A BYTES element: a string, or {"b64": "…"} for what is not UTF-8."""
    if isinstance(element, str):
        return element
    decoded = decode_binary(element)
    if decoded is not None:
        return decoded
    raise InvalidRequest(f'input \'{name}\' has datatype BYTES; give strings, or {{"b64": "…"}} with valid base64')


def decode_binary(element: Any) -> bytes | None:
    """What {"b64": "…"} stands for; None for anything else."""
    encoded = element.get("b64") if isinstance(element, dict) and len(element) == 1 else None
    try:
        return b64decode(encoded, validate=True) if isinstance(encoded, str) else None
    except ValueError:
        return None


def _text(element: bytes) -> Any:
    try:
        return element.decode()
    except UnicodeDecodeError:
        return _encoded(element)


def _encoded(element: bytes) -> Any:
    return {"b64": b64encode(element).decode()}
