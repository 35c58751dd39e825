"""CNTK's Dictionary, of which a model file is one, as plain Python: dicts, lists, numbers, strings.

Arrays are read-only views of the file's bytes. Shapes are CNTK's own (column-major: the first
dimension runs fastest); `Array.values` is row-major, its shape reversed, as Python's side of CNTK
shows it. Field numbers are those of CNTK.proto in CNTK 2.7.
"""

import struct
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import numpy as np

from runtimes.cntk_onnx.protobuf import BYTES, broken, fields, signed, varint
from runtimes.contract import LoadError

# Dimensions that are no sizes, as an unsigned number of 64 bits has them.
INFERRED, FREE = -1, -3
# What CNTK writes nests about ten deep: functions lie side by side, also those of blocks.
_DEEPEST = 32
# A hostile file can have a value in two bytes, which takes a hundred here. Real models have some thousands.
_MOST_VALUES = 1000000
_HIGHEST_RANK = 64

_DTYPES = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 4: np.dtype("<f2"), 5: np.dtype("i1"), 6: np.dtype("<i2")}
_DENSE = 0


class Axis(NamedTuple):
    """Which one it is, counted as CNTK counts (0 is the fastest); a dynamic axis has a name of its own."""

    index: int = 0
    name: str = ""
    ordered: bool = False


class Shape(Tuple[int, ...]):
    """Sizes, CNTK's order; INFERRED or FREE where there is none."""


def read(data: bytes) -> Dict[str, Any]:
    """The dictionary that a file is. Raises LoadError for whatever is none."""
    if not data:
        raise broken("it is empty")
    return _Reader().dictionary(memoryview(data), 0)


class _Reader:
    def __init__(self) -> None:
        self._values = 0

    def dictionary(self, message: memoryview, depth: int) -> Dict[str, Any]:
        if depth > _DEEPEST:
            raise broken("it nests deeper than %d" % _DEEPEST)
        found: Dict[str, Any] = {}
        for number, wire, entry in fields(message):
            if number == 2:
                key, value = self._entry(_bytes(entry, wire), depth)
                found[key] = value
            elif number != 1:
                raise broken("a dictionary has a field %d" % number)
        return found

    def _entry(self, message: memoryview, depth: int) -> Tuple[str, Any]:
        key, value = "", None
        for number, wire, field in fields(message):
            if number == 1:
                key = text(_bytes(field, wire))
            elif number == 2:
                value = self._value(_bytes(field, wire), depth)
        return key, value

    def _value(self, message: memoryview, depth: int) -> Any:
        """None for a value of no type."""
        self._values += 1
        if self._values > _MOST_VALUES:
            raise LoadError("this file has more than %d values, which no model of CNTK's has" % _MOST_VALUES)
        kind, value = 0, None
        for number, wire, field in fields(message):
            if number == 2:
                kind = _number(field, wire)
            elif number in (11, 12):
                inside = _bytes(field, wire)
                value = self._vector(inside, depth + 1) if number == 11 else self.dictionary(inside, depth + 1)
            elif number in _SCALARS:
                value = _SCALARS[number](field, wire)
            elif number != 1:
                raise broken("a value has a field %d" % number)
        # What is 0 or empty is written with its type alone.
        return _EMPTY[kind]() if value is None and kind in _EMPTY else value

    def _vector(self, message: memoryview, depth: int) -> List[Any]:
        if depth > _DEEPEST:
            raise broken("it nests deeper than %d" % _DEEPEST)
        return [self._value(_bytes(field, wire), depth) for number, wire, field in fields(message) if number == 1]


def text(data: memoryview) -> str:
    try:
        return bytes(data).decode()
    except UnicodeDecodeError:
        raise broken("a text in it is not UTF-8") from None


def _bytes(field: Any, wire: int) -> memoryview:
    if wire != BYTES:
        raise broken("a field is a number where a message is wanted")
    return field


def _number(field: Any, wire: int) -> int:
    if not isinstance(field, int):
        raise broken("a field is a message where a number is wanted")
    return field


def _floating(form: str) -> Callable[[Any, int], float]:
    size = struct.calcsize(form)

    def read_floating(field: Any, wire: int) -> float:
        if isinstance(field, int) or len(field) != size:
            raise broken("a field is not the floating-point number that it should be")
        return float(struct.unpack(form, field)[0])

    return read_floating


def _shape(field: Any, wire: int) -> Shape:
    sizes: List[int] = []
    for number, inner, value in fields(_bytes(field, wire)):
        if number != 1:
            raise broken("a shape has a field %d" % number)
        if isinstance(value, int):
            sizes.append(signed(value))
            continue
        place, packed = 0, _bytes(value, inner)
        while place < len(packed) and len(sizes) <= _HIGHEST_RANK:
            size, place = varint(packed, place)
            sizes.append(signed(size))
    if len(sizes) > _HIGHEST_RANK:
        raise broken("a shape has more than %d dimensions" % _HIGHEST_RANK)
    if any(size < 0 and size not in (INFERRED, FREE) for size in sizes):
        raise broken("a shape has a dimension beyond 63 bits")
    return Shape(sizes)


def _axis(field: Any, wire: int) -> Axis:
    index, name, ordered = 0, "", False
    for number, inner, value in fields(_bytes(field, wire)):
        if number == 1:
            index = signed(_number(value, inner))
        elif number == 2:
            name = text(_bytes(value, inner))
        elif number == 3:
            ordered = bool(_number(value, inner))
    return Axis(index, name, ordered)


def _array(field: Any, wire: int) -> np.ndarray:
    """Row-major, a view."""
    kind, storage, shape, stored = 0, _DENSE, Shape(), None
    for number, inner, value in fields(_bytes(field, wire)):
        if number == 1:
            kind = _number(value, inner)
        elif number == 2:
            storage = _number(value, inner)
        elif number == 3:
            shape = _shape(value, inner)
        elif number in (4, 5, 6, 7):
            if stored is not None:
                raise broken("an array has its values twice")
            stored = number, _bytes(value, inner)
    if kind not in _DTYPES:
        raise LoadError("an array in this file has CNTK's datatype %d, which is not covered" % kind)
    if storage != _DENSE:
        raise LoadError("an array in this file is sparse, and only dense ones are covered: make it dense in CNTK")
    if any(size < 0 for size in shape):
        raise broken("an array has no definite size")
    return _values(_DTYPES[kind], tuple(reversed(shape)), stored)


def _values(dtype: np.dtype, shape: Tuple[int, ...], stored: Any) -> np.ndarray:
    count = 1
    for size in shape:
        count *= size  # Python's numbers: no overflow
    number, message = stored or (0, memoryview(b""))
    payload = memoryview(b"")
    for inner, wire, value in fields(message):
        if inner != 1 or len(payload):
            raise broken("an array's values are in several pieces")
        payload = _bytes(value, wire)
    if number == 7:
        return _small_integers(dtype, shape, count, payload)
    stored_as = {4: np.dtype("<f4"), 5: np.dtype("<f8"), 6: dtype}.get(number, dtype)
    if len(payload) != count * stored_as.itemsize:
        raise broken("an array of %d values has %d bytes of %s" % (count, len(payload), stored_as.name))
    return np.frombuffer(payload, stored_as).reshape(shape).astype(dtype, copy=False)


def _small_integers(dtype: np.dtype, shape: Tuple[int, ...], count: int, payload: memoryview) -> np.ndarray:
    """Zigzag numbers, one byte at least for each."""
    if count > len(payload):
        raise broken("an array of %d values has %d bytes" % (count, len(payload)))
    values, place = np.empty(count, np.int64), 0
    for index in range(count):
        value, place = varint(payload, place)
        values[index] = (value >> 1) ^ -(value & 1)
    if place != len(payload):
        raise broken("an array has more values than its shape")
    return values.astype(dtype).reshape(shape)


_SCALARS: Dict[int, Callable[[Any, int], Any]] = {
    3: lambda field, wire: bool(_number(field, wire)),
    4: lambda field, wire: signed(_number(field, wire)),
    5: _number,
    6: _floating("<f"),
    7: _floating("<d"),
    8: lambda field, wire: text(_bytes(field, wire)),
    9: _shape,
    10: _axis,
    13: _array,
}
_EMPTY: Dict[int, Callable[[], Any]] = {
    1: bool, 2: int, 3: int, 4: float, 5: float, 6: str, 7: Shape, 8: Axis, 9: list, 10: dict,
}  # fmt: skip
