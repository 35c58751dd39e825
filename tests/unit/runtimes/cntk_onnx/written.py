"""Build CNTK files byte by byte, for the tests of the reader."""

import struct
from collections.abc import Mapping, Sequence


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    found = b""
    while value > 0x7F:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def message(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def dictionary(entries: Mapping[str, bytes]) -> bytes:
    """Return a dictionary's bytes. entries: key → value, as the functions below return it."""
    return number(1, 1) + b"".join(
        message(2, message(1, key.encode()) + message(2, value)) for key, value in entries.items()
    )


def boolean(value: bool) -> bytes:
    return number(1, 1) + number(2, 1) + number(3, value)


def integer(value: int) -> bytes:
    return number(1, 1) + number(2, 2) + number(4, value)


def size(value: int) -> bytes:
    return number(1, 1) + number(2, 3) + number(5, value)


def double(value: float) -> bytes:
    return number(1, 1) + number(2, 5) + varint(7 << 3 | 1) + struct.pack("<d", value)


def text(value: str) -> bytes:
    return number(1, 1) + number(2, 6) + message(8, value.encode())


def dims(sizes: Sequence[int]) -> bytes:
    return message(1, b"".join(varint(each) for each in sizes)) if sizes else b""


def shape(sizes: Sequence[int]) -> bytes:
    return number(1, 1) + number(2, 7) + message(9, dims(sizes))


def vector(values: Sequence[bytes]) -> bytes:
    return number(1, 1) + number(2, 9) + message(11, b"".join(message(1, value) for value in values))


def nested(entries: Mapping[str, bytes]) -> bytes:
    return number(1, 1) + number(2, 10) + message(12, dictionary(entries))


def array(sizes: Sequence[int], payload: bytes, kind: int = 1, storage: int = 0, field: int = 4) -> bytes:
    content = number(1, kind) + number(2, storage) + message(3, dims(sizes)) + message(field, message(1, payload))
    return number(1, 1) + number(2, 11) + message(13, content)
