"""ND4J's arrays as Nd4j.write leaves them: a buffer with the shape, then a buffer with the values.

Read off files, and BaseDataBuffer.write and .read of ND4J: a buffer is its mode (Java's UTF), its length,
its datatype (UTF) and the elements, big-endian.
"""

import struct
from typing import NoReturn, Tuple

import numpy as np

from runtimes.contract import LoadError

# Before 1.0.0-beta3 buffers had one of these modes, and a length of four bytes.
_SHORT_LENGTHS = ("DIRECT", "HEAP", "JAVACPP")
_MODES = (*_SHORT_LENGTHS, "LONG_SHAPE", "MIXED_DATA_TYPES")
_INTEGERS = {"INT": ">i4", "LONG": ">i8"}
_FLOATS = {"FLOAT": ">f4", "DOUBLE": ">f8", "HALF": ">f2", "FLOAT16": ">f2"}
_MAX_DIMENSIONS = 32
# 'c' and 'f': rows or columns first.
_ORDERS = {99: "C", 102: "F"}


class Bytes:
    """What is left to read of an entry. Raises LoadError where it ends too early, or holds what it should not."""

    def __init__(self, data: bytes, entry: str) -> None:
        self._data, self._entry, self._place = memoryview(data), entry, 0

    def broken(self, why: str) -> NoReturn:
        raise LoadError("%s is broken: %s" % (self._entry, why))

    def take(self, count: int) -> memoryview:
        if not 0 <= count <= len(self._data) - self._place:
            self.broken("it ends where %d more bytes are wanted" % count)
        self._place += count
        return self._data[self._place - count : self._place]

    def number(self, code: str) -> int:
        """Big-endian, by struct's code."""
        return struct.unpack(">" + code, self.take(struct.calcsize(">" + code)))[0]

    def real(self) -> float:
        return struct.unpack(">d", self.take(8))[0]

    def flag(self) -> bool:
        return self.number("B") != 0

    def text(self) -> str:
        try:
            return bytes(self.take(self.number("H"))).decode()
        except UnicodeDecodeError:
            self.broken("a text in it is not UTF-8")

    def end(self) -> None:
        if self._place != len(self._data):
            self.broken("it goes on for %d bytes after its end" % (len(self._data) - self._place))


def read_array(source: Bytes) -> np.ndarray:
    """In native byte order. Raises LoadError."""
    shape, order = _shape(source, *_buffer(source))
    dtype, length = _buffer(source)
    if dtype not in _FLOATS:
        source.broken("its values are %.40r, where FLOAT, DOUBLE or HALF are known" % dtype)
    count = 1
    for size in shape:
        count *= size
    if count != length:
        source.broken("it holds %d values for the shape %s" % (length, list(shape)))
    kind = np.dtype(_FLOATS[dtype])
    values = np.frombuffer(source.take(length * kind.itemsize), kind).astype(kind.newbyteorder("="))
    return values.reshape(shape, order=order)


def _shape(source: Bytes, dtype: str, length: int) -> Tuple[Tuple[int, ...], str]:
    """rank, sizes, strides, offset or flags, the stride between elements, order."""
    if dtype not in _INTEGERS:
        source.broken("its shape is %.40r, where INT or LONG is known" % dtype)
    if not 4 <= length <= 2 * _MAX_DIMENSIONS + 4:
        source.broken("its shape takes %d numbers" % length)
    kind = np.dtype(_INTEGERS[dtype])
    numbers = np.frombuffer(source.take(length * kind.itemsize), kind).tolist()
    rank = numbers[0]
    if not 0 <= rank <= _MAX_DIMENSIONS or length != 2 * rank + 4:
        source.broken("its shape has rank %d and takes %d numbers" % (rank, length))
    sizes = tuple(numbers[1 : 1 + rank])
    if any(size < 0 for size in sizes):
        source.broken("its shape is %s" % list(sizes))
    if numbers[-1] not in _ORDERS:
        source.broken("its values lie in the order %d, where 99 and 102 are known" % numbers[-1])
    return sizes, _ORDERS[numbers[-1]]


def _buffer(source: Bytes) -> Tuple[str, int]:
    """Datatype and length of the buffer that follows."""
    mode = source.text()
    if mode not in _MODES:
        source.broken("it has a buffer of the kind %.40r, which ND4J does not write" % mode)
    length = source.number("i" if mode in _SHORT_LENGTHS else "q")
    return source.text(), length
