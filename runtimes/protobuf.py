"""Reads the wire format of Protocol Buffers, with checks of all lengths and without generated code.

`fields` iterates over the fields of a message; their values are views of the message's bytes. Each length is checked
against the bytes that are left, so that a malformed or hostile file is refused where it is wrong. Source: the
encoding specification of Protocol Buffers.
"""

from typing import Any, Iterator, Tuple, Union

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# A field's number, its wire type, and its value: an int for VARINT, bytes for all other types.
Field = Tuple[int, int, Any]

_SIZES = {FIXED64: 8, FIXED32: 4}
_MAX_VARINT_BYTES = 10  # 64 bits, seven in each byte
# Messages up to this size are read with one call. Of a larger one, such as a tensor's, only the fields that a caller
# looks at are read. A larger limit reads more bytes that are not needed; a smaller one needs more calls.
_MAX_WHOLE_BYTES = 1 << 16


class Malformed(ValueError):
    """The bytes are not a valid message. The text says why."""


class FileMessage:
    """A message in a file. Its large fields are read only when a caller looks at them."""

    def __init__(self, file: Any, start: int, end: int) -> None:
        self._file, self._start, self._end = file, start, end

    def __len__(self) -> int:
        return self._end - self._start

    def read(self, start: int, size: int) -> bytes:
        self._file.seek(self._start + start)
        return self._file.read(min(size, len(self) - start))

    def part(self, start: int, size: int) -> "Message":
        if size <= _MAX_WHOLE_BYTES:
            return memoryview(self.read(start, size))
        return FileMessage(self._file, self._start + start, self._start + start + size)


Message = Union[bytes, memoryview, FileMessage]


def fields(message: Message) -> Iterator[Field]:
    """Iterate over the fields of a message, in order. Raises Malformed."""
    position, end = 0, len(message)
    head: Union[bytes, memoryview]
    while position < end:
        if isinstance(message, FileMessage):
            head, start = message.read(position, 2 * _MAX_VARINT_BYTES), position
        else:
            head, start = message, 0
        key, position = varint(head, position - start)
        number, wire = key >> 3, key & 7
        if not number:
            raise Malformed("a field has the number 0")
        if wire == VARINT:
            value, position = varint(head, position)
            position += start
            yield number, wire, value
            continue
        if wire == BYTES:
            size, position = varint(head, position)
        elif wire in _SIZES:
            size = _SIZES[wire]
        else:
            raise Malformed("a field has the wire type %d, which does not exist" % wire)
        position += start
        if size > end - position:
            raise Malformed("a field declares %d bytes, but only %d are left" % (size, end - position))
        if isinstance(message, FileMessage):
            yield number, wire, message.part(position, size)
        else:
            yield number, wire, message[position : position + size]
        position += size


def varint(message: Union[bytes, memoryview], position: int) -> Tuple[int, int]:
    """Return the unsigned integer of up to 64 bits at `position`, and the position after it. Raises Malformed."""
    value = 0
    for count in range(_MAX_VARINT_BYTES):
        if position >= len(message):
            raise Malformed("it ends inside a number")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
    raise Malformed("a number has more than %d bytes" % _MAX_VARINT_BYTES)


def signed(value: int) -> int:
    """Return the int32 or int64 that is encoded as this unsigned integer of 64 bits."""
    return value - (1 << 64) if value >= 1 << 63 else value
