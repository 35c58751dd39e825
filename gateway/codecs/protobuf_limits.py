"""How many fields a message has, before protobuf makes objects of them.

Of two bytes in a message protobuf can make an object of a hundred: 64 MiB of empty tensors take 4 GB and 15 s of
the event loop. So a large message is walked first, down to the messages that hold nothing but values.
"""

from functools import cache
from typing import Any, Final

from gateway.errors import InvalidRequest, TooLarge

# Smaller messages are not walked: what protobuf can make of them takes some 15 ms.
_SMALL: Final = 1 << 16
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED: Final = {_FIXED64: 8, _FIXED32: 4}

# By number, the fields that are messages with messages in them.
_Kinds = dict[int, Any]


def check_fields(raw: bytes, descriptor: Any, most: int) -> None:
    """Raises TooLarge for more than `most` fields, and InvalidRequest for what is no message."""
    if len(raw) < _SMALL:
        return
    try:
        _walk(raw, descriptor, most)
    except IndexError:
        raise InvalidRequest(f"the message is not a valid {descriptor.full_name}") from None


def _walk(raw: bytes, descriptor: Any, most: int) -> None:
    open_parts = [(0, len(raw), _kinds(descriptor))]
    left = most
    while open_parts:
        position, end, kinds = open_parts.pop()
        while position < end:
            left -= 1
            if left < 0:
                raise TooLarge(f"the message has more than {most} fields; send fewer tensors or parameters at a time")
            tag, position = _varint(raw, position)
            wire = tag & 7
            if wire == _BYTES:
                size, position = _varint(raw, position)
                inner = kinds.get(tag >> 3)
                if inner is not None:
                    open_parts.append((position, position + size, inner))
                position += size
            elif wire == _VARINT:
                _, position = _varint(raw, position)
            else:
                position += _FIXED[wire] if wire in _FIXED else len(raw) + 1
        if position > end:
            raise IndexError


@cache
def _kinds(descriptor: Any) -> _Kinds:
    inner = {field.number: field.message_type for field in descriptor.fields if field.message_type is not None}
    return {
        number: _kinds(kind)
        for number, kind in inner.items()
        if any(field.message_type is not None for field in kind.fields)
    }


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    """The number at this place, and where it ends. Raises IndexError where there is none."""
    value = shift = 0
    while shift < 70:
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise IndexError
