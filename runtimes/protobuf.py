"""Protocol Buffers' wire format, read within bounds and without generated code.

A message is an iteration over its fields; what lies in them is a view of the message's bytes. Every length is checked
against what is left, so that a file that lies is refused where it lies. Source: the Protocol Buffers encoding
specification.
"""

from typing import Any, Iterator, Tuple, Union

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# A field's number, its wire type, and its value: a number, or the bytes (also of fixed sizes).
Field = Tuple[int, int, Any]

_SIZES = {FIXED64: 8, FIXED32: 4}
_VARINT_BYTES = 10  # of 64 bits
# A message up to this size is read as a whole, of a larger one only the fields that are looked at.
_AT_ONCE = 1 << 16


class Malformed(ValueError):
    """This is no message; the text says why."""


class FileMessage:
    """A message in a file, of which large fields are not read before they are looked at."""

    def __init__(self, file: Any, start: int, end: int) -> None:
        self._file, self._start, self._end = file, start, end

    def __len__(self) -> int:
        return self._end - self._start

    def read(self, start: int, size: int) -> bytes:
        self._file.seek(self._start + start)
        return self._file.read(min(size, len(self) - start))

    def part(self, start: int, size: int) -> "Message":
        if size <= _AT_ONCE:
            return memoryview(self.read(start, size))
        return FileMessage(self._file, self._start + start, self._start + start + size)


Message = Union[bytes, memoryview, FileMessage]


def fields(message: Message) -> Iterator[Field]:
    """The fields of a message, in their order. Raises Malformed."""
    place, end = 0, len(message)
    in_file = isinstance(message, FileMessage)
    while place < end:
        head = message.read(place, 2 * _VARINT_BYTES) if in_file else message
        start = place if in_file else 0
        key, place = varint(head, place - start)
        number, wire = key >> 3, key & 7
        if not number:
            raise Malformed("a field has the number 0")
        if wire == VARINT:
            value, place = varint(head, place)
            place += start
            yield number, wire, value
            continue
        if wire == BYTES:
            size, place = varint(head, place)
        elif wire in _SIZES:
            size = _SIZES[wire]
        else:
            raise Malformed("a field has the wire type %d, which nothing in it can have" % wire)
        place += start
        if size > end - place:
            raise Malformed("a field says that it has %d bytes, and %d are left" % (size, end - place))
        yield number, wire, message.part(place, size) if in_file else message[place : place + size]
        place += size


def varint(message: Union[bytes, memoryview], place: int) -> Tuple[int, int]:
    """An unsigned number of up to 64 bits at a place, and the place after it. Raises Malformed."""
    value = 0
    for count in range(_VARINT_BYTES):
        if place >= len(message):
            raise Malformed("it ends inside a number")
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, place
    raise Malformed("a number has more than %d bytes" % _VARINT_BYTES)


def signed(value: int) -> int:
    """An int32 or int64, which the wire has as an unsigned number of 64 bits."""
    return value - (1 << 64) if value >= 1 << 63 else value
