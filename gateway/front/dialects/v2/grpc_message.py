"""Raw tensors in and out of gRPC messages, without protobuf and the copies that it makes.

A message is what its fields are, one behind the other. So fields can be cut out of it, or put
behind it, as they are.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.codecs.protobuf_fields import field
from runtimes.tensors import Buffer

# In ModelInferRequest: id and raw_input_contents; in ModelInferResponse: raw_output_contents.
_ID: Final = 3 << 3 | 2
_INPUTS: Final = 7 << 3 | 2
_OUTPUTS: Final = 6 << 3 | 2
# What of less is a copy is cheaper than a view.
_LARGE: Final = 64 * 1024
# So many fields are looked at here; a message of millions of them would stop the event loop.
_MAX_FIELDS: Final = 1000
_MAX_LENGTH: Final = 1 << 30


class Split(NamedTuple):
    """A ModelInferRequest: the message without its id and raw_input_contents, and these."""

    head: bytes
    id: str
    contents: Sequence[Buffer]


def split_request(raw: bytes) -> Split | None:
    """None without raw_input_contents, and for anything but a plain row of fields, which is protobuf's to judge.

    A message and its parts are both valid or both invalid, and say the same.
    """
    end = len(raw)
    if end > _MAX_LENGTH:
        return None
    source = raw if end < _LARGE else memoryview(raw)
    heads: list[bytes] = []
    name = b""
    contents: list[Buffer] = []
    kept = position = 0
    try:
        for _ in range(_MAX_FIELDS):
            if position == end:
                if not contents:
                    return None
                if kept < end:
                    heads.append(raw[kept:])
                return Split(b"".join(heads), name.decode(), contents)
            start = position
            tag, size = raw[position], raw[position + 1]
            # All fields on the top level are of this kind, with tags of one byte; 0 is no field's number.
            if tag & 0x87 != 2 or tag < 8:
                return None
            position += 2
            if size > 0x7F:
                size, position = _size(raw, position - 1)
            position += size
            if position > end:
                return None
            if tag in (_INPUTS, _ID):
                if kept < start:
                    heads.append(raw[kept:start])
                kept = position
                if tag == _ID:
                    if name:
                        return None  # the last one holds, but each must be UTF-8
                    name = raw[position - size : position]
                else:
                    contents.append(source[position - size : position])
    except (IndexError, UnicodeDecodeError):
        pass
    return None


def raw_output(data: Buffer) -> tuple[bytes, Buffer]:
    """The parts of a ModelInferResponse that are one of its raw_output_contents."""
    return field(_OUTPUTS, data)


def _size(raw: bytes, position: int) -> tuple[int, int]:
    """The number of at most five bytes at this place, and where it ends. Raises IndexError where there is none."""
    value = 0
    for shift in range(0, 35, 7):
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise IndexError
