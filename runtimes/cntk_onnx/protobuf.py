"""Protocol Buffers' wire format, as far as CNTK's files use it, read within bounds.

No generated code and no recursion: a message is an iteration over its fields, and what lies in them
is a view of the file's bytes. Every length is checked against what is left of its message, so that
a file that lies is refused where it lies. Source: the Protocol Buffers encoding specification.
"""

from typing import Any, Iterator, Tuple, Union

from runtimes.contract import LoadError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# A field's number, its wire type, and its value: a number, or the bytes (also of fixed sizes).
Field = Tuple[int, int, Union[int, memoryview]]

_SIZES = {FIXED64: 8, FIXED32: 4}
_VARINT_BYTES = 10  # of 64 bits
# A hostile file can have a field in two bytes. Real models have some ten thousands; these take seconds.
MOST_FIELDS = 2000000


# Of what is told: names and shapes come from the file, and sentences about them stay sentences.
LONGEST = 400


def broken(why: str) -> LoadError:
    return LoadError("this is no whole CNTK v2 model file: %s; save or copy it again" % short(why, LONGEST))


def short(value: Any, most: int = 80) -> str:
    """A name or a number as a sentence tells it; "" for anything else."""
    text = str(value) if isinstance(value, (str, int)) else ""
    return text if len(text) <= most else text[: most - 1] + "…"


class Wire:
    """Of one file: how many fields have been read of it."""

    def __init__(self) -> None:
        self._read = 0

    def fields(self, message: memoryview) -> Iterator[Field]:
        """The fields of a message, in their order. Raises LoadError for what is no message."""
        for field in _fields(message):
            self._read += 1
            if self._read > MOST_FIELDS:
                raise LoadError("this file has more than %d fields, which no model of CNTK's has" % MOST_FIELDS)
            yield field


def _fields(message: memoryview) -> Iterator[Field]:
    place, end = 0, len(message)
    while place < end:
        key, place = varint(message, place)
        number, wire = key >> 3, key & 7
        if not number:
            raise broken("a field has the number 0")
        if wire == VARINT:
            value, place = varint(message, place)
            yield number, wire, value
            continue
        if wire == BYTES:
            size, place = varint(message, place)
        elif wire in _SIZES:
            size = _SIZES[wire]
        else:
            raise broken("a field has the wire type %d, which nothing in it can have" % wire)
        if size > end - place:
            raise broken("a field says that it has %d bytes, and %d are left" % (size, end - place))
        yield number, wire, message[place : place + size]
        place += size


def varint(message: memoryview, place: int) -> Tuple[int, int]:
    """An unsigned number of up to 64 bits at a place, and the place after it. Raises LoadError."""
    value = 0
    for count in range(_VARINT_BYTES):
        if place >= len(message):
            raise broken("it ends inside a number")
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, place
    raise broken("a number has more than %d bytes" % _VARINT_BYTES)


def signed(value: int) -> int:
    """An int32 or int64, which the wire has as an unsigned number of 64 bits."""
    return value - (1 << 64) if value >= 1 << 63 else value
