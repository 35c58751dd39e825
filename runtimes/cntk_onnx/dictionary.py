"""Reads CNTK's Dictionary, which is what a model file contains, into plain Python dicts, lists, numbers and strings.

Arrays are read-only views of the file's bytes. Shapes are CNTK's (column-major: the first dimension varies fastest).
Arrays are row-major with the reversed shape, as CNTK's Python API shows them. Field numbers are those of CNTK.proto in
CNTK 2.7.
"""

import struct
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from runtimes.contract import LoadError

from .protobuf import FieldReader, broken, signed, varint

# Dimensions without a fixed size, as signed 64-bit integers.
INFERRED, FREE = -1, -3
# CNTK's files are nested about ten levels deep, because functions are in a flat list, including those in blocks.
_MAX_DEPTH = 32
_MAX_RANK = 64

_DTYPES = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 4: np.dtype("<f2")}
_INTEGERS = (5, 6)
_DENSE = 0
# "BCN" in UTF-16, the beginning of a CNTK 1 file.
_FIRST_FORMAT = b"B\0C\0N\0"
# The field numbers of an array's elements. Raw bytes are in the datatype of the array.
_FLOATS, _DOUBLES, _RAW, _VARINTS = 4, 5, 6, 7


class Axis(NamedTuple):
    """A static axis by its index in CNTK's order (0 varies fastest), or a dynamic axis by its name."""

    index: int = 0
    name: str = ""
    ordered: bool = False


class Shape(Tuple[int, ...]):
    """Sizes in CNTK's order; INFERRED or FREE for a dimension without a size."""


def read(data: bytes) -> Dict[str, Any]:
    """Read a file's dictionary. Raises LoadError."""
    if not data:
        raise broken("it is empty")
    if data.startswith(_FIRST_FORMAT):
        raise LoadError("this file has CNTK's first format, which is not covered: save it again with CNTK 2.7")
    return _Reader().dictionary(memoryview(data), 0)


class _Reader:
    def __init__(self) -> None:
        self._fields = FieldReader().fields
        self._kinds: Dict[int, Callable[[Any], Any]] = {
            3: lambda field: bool(_number(field)),
            4: lambda field: signed(_number(field)),
            5: _number,
            6: _floating("<f"),
            7: _floating("<d"),
            8: lambda field: _text(_bytes(field)),
            9: self._shape,
            10: self._axis,
            13: self._array,
        }

    def dictionary(self, message: memoryview, depth: int) -> Dict[str, Any]:
        if depth > _MAX_DEPTH:
            raise broken("it nests deeper than %d" % _MAX_DEPTH)
        found: Dict[str, Any] = {}
        for number, _, entry in self._fields(message):
            if number == 2:
                key, value = self._entry(_bytes(entry), depth)
                found[key] = value
            elif number != 1:
                raise broken("a dictionary has a field %d" % number)
        return found

    def _entry(self, message: memoryview, depth: int) -> Tuple[str, Any]:
        key, value = "", None
        for number, _, field in self._fields(message):
            if number == 1:
                key = _text(_bytes(field))
            elif number == 2:
                value = self._value(_bytes(field), depth)
            else:
                raise broken("an entry has a field %d" % number)
        return key, value

    def _value(self, message: memoryview, depth: int) -> Any:
        """None for a value of no type."""
        kind, value = 0, None
        for number, _, field in self._fields(message):
            if number == 2:
                kind = _number(field)
            elif number == 11:
                value = self._vector(_bytes(field), depth + 1)
            elif number == 12:
                value = self.dictionary(_bytes(field), depth + 1)
            elif number in self._kinds:
                value = self._kinds[number](field)
            elif number != 1:
                raise broken("a value has a field %d" % number)
        # CNTK writes only the type of a value that is 0 or empty.
        return _EMPTY[kind]() if value is None and kind in _EMPTY else value

    def _vector(self, message: memoryview, depth: int) -> List[Any]:
        if depth > _MAX_DEPTH:
            raise broken("it nests deeper than %d" % _MAX_DEPTH)
        found = []
        for number, _, field in self._fields(message):
            if number != 1:
                raise broken("a vector has a field %d" % number)
            found.append(self._value(_bytes(field), depth))
        return found

    def _shape(self, field: Any) -> Shape:
        sizes: List[int] = []
        for number, _, value in self._fields(_bytes(field)):
            if number != 1:
                raise broken("a shape has a field %d" % number)
            offset, packed = 0, _bytes(value)
            while offset < len(packed):
                size, offset = varint(packed, offset)
                sizes.append(signed(size))
                if len(sizes) > _MAX_RANK:
                    raise broken("a shape has more than %d dimensions" % _MAX_RANK)
        if any(size < 0 and size not in (INFERRED, FREE) for size in sizes):
            raise broken("a shape has a dimension beyond 63 bits")
        return Shape(sizes)

    def _axis(self, field: Any) -> Axis:
        index, name, ordered = 0, "", False
        for number, _, value in self._fields(_bytes(field)):
            if number == 1:
                index = signed(_number(value))
            elif number == 2:
                name = _text(_bytes(value))
            elif number == 3:
                ordered = bool(_number(value))
        return Axis(index, name, ordered)

    def _array(self, field: Any) -> np.ndarray:
        """Return a row-major array that is a view of the file."""
        kind, storage, shape = 0, _DENSE, Shape()
        stored: Optional[Tuple[int, memoryview]] = None
        for number, _, value in self._fields(_bytes(field)):
            if number == 1:
                kind = _number(value)
            elif number == 2:
                storage = _number(value)
            elif number == 3:
                shape = self._shape(value)
            elif number in (_FLOATS, _DOUBLES, _RAW, _VARINTS):
                if stored is not None:
                    raise broken("an array has its values twice")
                stored = number, self._packed(_bytes(value))
        if kind in _INTEGERS or (stored and stored[0] == _VARINTS):
            raise LoadError("this file has an array of integers, which is not covered: serve it by CNTK itself")
        if kind not in _DTYPES:
            raise broken("an array has a datatype %d" % kind)
        if storage != _DENSE:
            raise LoadError("this file has a sparse array, which is not covered: serve it by CNTK itself")
        if any(size < 0 for size in shape):
            raise broken("an array has no definite size")
        return _values(_DTYPES[kind], tuple(reversed(shape)), *(stored or (_RAW, memoryview(b""))))

    def _packed(self, message: memoryview) -> memoryview:
        """Return the bytes of the elements. CNTK writes them as a single packed field."""
        payload = memoryview(b"")
        for number, _, value in self._fields(message):
            if number != 1 or len(payload):
                raise broken("an array's values are in several pieces")
            payload = _bytes(value)
        return payload


def _values(dtype: np.dtype, shape: Tuple[int, ...], number: int, payload: memoryview) -> np.ndarray:
    count = 1
    for size in shape:
        count *= size  # a Python int, which cannot overflow
    stored: np.dtype = {_FLOATS: np.dtype("<f4"), _DOUBLES: np.dtype("<f8")}.get(number, dtype)
    if len(payload) != count * stored.itemsize:
        raise broken("an array of %d values has %d bytes of %s" % (count, len(payload), stored.name))
    if max(shape, default=0) >= 1 << 48:  # possible if another dimension is 0, and more than numpy can multiply
        raise broken("an array has a dimension of %d" % max(shape))
    with np.errstate(over="ignore"):  # float16 arrays are stored as float32
        return np.frombuffer(payload, stored).reshape(shape).astype(dtype, copy=False)


def _text(data: memoryview) -> str:
    try:
        return bytes(data).decode()
    except UnicodeDecodeError:
        raise broken("a string in it is not UTF-8") from None


def _bytes(field: Any) -> memoryview:
    if isinstance(field, int):
        raise broken("a field is a number, but must be a message")
    return field


def _number(field: Any) -> int:
    if not isinstance(field, int):
        raise broken("a field is a message, but must be a number")
    return field


def _floating(code: str) -> Callable[[Any], float]:
    size = struct.calcsize(code)

    def read_floating(field: Any) -> float:
        if isinstance(field, int) or len(field) != size:
            raise broken("a field is not a floating-point number of %d bytes" % size)
        return float(struct.unpack(code, field)[0])

    return read_floating


_EMPTY: Dict[int, Callable[[], Any]] = {
    1: bool, 2: int, 3: int, 4: float, 5: float, 6: str, 7: Shape, 8: Axis, 9: list, 10: dict,
}  # fmt: skip
