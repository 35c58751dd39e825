"""Limits the number of fields in a message before protobuf parses it.

protobuf can turn two bytes of a message into an object of a hundred bytes: 64 MiB of empty tensors take 4 GB of memory
and block the event loop for 15 s. So the fields of a large message are counted first, also in nested messages, unless
these contain only values.
"""

from functools import cache
from typing import Any, Final

from gateway.errors import InvalidRequest, TooLarge

# The fields of smaller messages are not counted, because parsing one takes 15 ms at most. A higher limit allows longer
# pauses; with a lower one, the fields of more ordinary messages are counted.
_SMALL: Final = 1 << 16
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED: Final = {_FIXED64: 8, _FIXED32: 4}

# The fields, by number, whose messages contain messages in turn.
_Nested = dict[int, Any]


def check_fields(raw: bytes, descriptor: Any, max_fields: int) -> None:
    """Raises TooLarge for more than `max_fields` fields, and InvalidRequest for an invalid message."""
    if len(raw) < _SMALL:
        return
    try:
        _walk(raw, descriptor, max_fields)
    except IndexError:
        raise InvalidRequest(f"the message is not a valid {descriptor.full_name}") from None


def _walk(raw: bytes, descriptor: Any, max_fields: int) -> None:
    open_parts = [(0, len(raw), _nested(descriptor))]
    left = max_fields
    while open_parts:
        position, end, nested = open_parts.pop()
        while position < end:
            left -= 1
            if left < 0:
                raise TooLarge(
                    f"the message has more than {max_fields} fields; send fewer tensors or parameters at a time"
                )
            tag, position = _varint(raw, position)
            wire = tag & 7
            if wire == _BYTES:
                size, position = _varint(raw, position)
                inner = nested.get(tag >> 3)
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
def _nested(descriptor: Any) -> _Nested:
    inner = {field.number: field.message_type for field in descriptor.fields if field.message_type is not None}
    return {
        number: _nested(kind)
        for number, kind in inner.items()
        if any(field.message_type is not None for field in kind.fields)
    }


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    """Return the varint at this position, and the position after it. Raises IndexError if it is invalid."""
    value = shift = 0
    while shift < 70:
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise IndexError
