"""ND4J's arrays as Nd4j.write writes them: a buffer with the shape, then a buffer with the values.

A buffer is its mode (Java's modified UTF-8), its length, its datatype (likewise a string) and the elements,
big-endian. Source: BaseDataBuffer.write and .read of ND4J, and files that DL4J wrote.
"""

import struct
from typing import NoReturn, Tuple

import numpy as np

from runtimes.contract import LoadError

# Files from before 1.0.0-beta3 have one of these modes and a length of four bytes.
_SHORT_LENGTHS = ("DIRECT", "HEAP", "JAVACPP")
_MODES = (*_SHORT_LENGTHS, "LONG_SHAPE", "MIXED_DATA_TYPES")
_INTEGERS = {"INT": ">i4", "LONG": ">i8"}
_FLOATS = {"FLOAT": ">f4", "DOUBLE": ">f8", "HALF": ">f2", "FLOAT16": ">f2"}
_MAX_DIMENSIONS = 32
# The characters 'c' and 'f': row-major and column-major.
_ORDERS = {99: "C", 102: "F"}


class Bytes:
    """Reads an entry of the archive from front to back. All methods raise LoadError if it ends too early."""

    def __init__(self, data: bytes, entry: str) -> None:
        self._data, self._entry, self._offset = memoryview(data), entry, 0

    def broken(self, why: str) -> NoReturn:
        raise LoadError("%s is broken: %s" % (self._entry, why))

    def take(self, count: int) -> memoryview:
        if not 0 <= count <= len(self._data) - self._offset:
            self.broken("it ends where %d more bytes are expected" % count)
        self._offset += count
        return self._data[self._offset - count : self._offset]

    def number(self, code: str) -> int:
        """Read a big-endian number, given its format character in `struct`."""
        return struct.unpack(">" + code, self.take(struct.calcsize(">" + code)))[0]

    def real(self) -> float:
        return struct.unpack(">d", self.take(8))[0]

    def flag(self) -> bool:
        return self.number("B") != 0

    def text(self) -> str:
        try:
            return bytes(self.take(self.number("H"))).decode()
        except UnicodeDecodeError:
            self.broken("a string in it is not UTF-8")

    def end(self) -> None:
        if self._offset != len(self._data):
            self.broken("it continues for %d bytes after its end" % (len(self._data) - self._offset))


def read_array(source: Bytes) -> np.ndarray:
    """Read one array, in native byte order. Raises LoadError."""
    shape, order = _shape(source, *_buffer(source))
    dtype, length = _buffer(source)
    if dtype not in _FLOATS:
        source.broken("its values have the datatype %.40r, but must have FLOAT, DOUBLE or HALF" % dtype)
    count = 1
    for size in shape:
        count *= size
    if count != length:
        source.broken("it has %d values for the shape %s" % (length, list(shape)))
    kind = np.dtype(_FLOATS[dtype])
    values = np.frombuffer(source.take(length * kind.itemsize), kind).astype(kind.newbyteorder("="))
    return values.reshape(shape, order=order)


def _shape(source: Bytes, dtype: str, length: int) -> Tuple[Tuple[int, ...], str]:
    """Read the rank, the sizes, the strides, an offset or flags, the stride between elements, and the order."""
    if dtype not in _INTEGERS:
        source.broken("its shape has the datatype %.40r, but must have INT or LONG" % dtype)
    if not 4 <= length <= 2 * _MAX_DIMENSIONS + 4:
        source.broken("its shape consists of %d numbers" % length)
    kind = np.dtype(_INTEGERS[dtype])
    numbers = np.frombuffer(source.take(length * kind.itemsize), kind).tolist()
    rank = numbers[0]
    if not 0 <= rank <= _MAX_DIMENSIONS or length != 2 * rank + 4:
        source.broken("its shape has rank %d and consists of %d numbers" % (rank, length))
    sizes = tuple(numbers[1 : 1 + rank])
    if any(size < 0 for size in sizes):
        source.broken("its shape is %s" % list(sizes))
    if numbers[-1] not in _ORDERS:
        source.broken("its values have the order %d, but must have 99 or 102" % numbers[-1])
    return sizes, _ORDERS[numbers[-1]]


def _buffer(source: Bytes) -> Tuple[str, int]:
    """Read the header of a buffer: its datatype and its length."""
    mode = source.text()
    if mode not in _MODES:
        source.broken("it has a buffer of the mode %.40r, which ND4J does not write" % mode)
    length = source.number("i" if mode in _SHORT_LENGTHS else "q")
    return source.text(), length
