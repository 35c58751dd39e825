"""Takes raw tensors out of gRPC messages and appends them, without the copies that protobuf would make.

An encoded message is the concatenation of its encoded fields, so fields can be cut out of it or appended to it.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.codecs.protobuf_fields import field
from runtimes.tensors import Buffer

# Field keys: id and raw_input_contents of ModelInferRequest, raw_output_contents of ModelInferResponse.
_ID: Final = 3 << 3 | 2
_INPUTS: Final = 7 << 3 | 2
_OUTPUTS: Final = 6 << 3 | 2
# For messages below this size, copies of tensors are cheaper than views.
_LARGE: Final = 64 * 1024
# This loop over fields runs in Python, on the event loop, and a message may have millions. Messages with more than this
# are left to protobuf. Ordinary ones have far fewer.
_MAX_FIELDS: Final = 1000
_MAX_LENGTH: Final = 1 << 30


class Split(NamedTuple):
    """A ModelInferRequest in parts. `head` is the message without its id and raw_input_contents."""

    head: bytes
    id: str
    contents: Sequence[Buffer]


def split_request(raw: bytes) -> Split | None:
    """Split a message. Returns None without raw_input_contents, and for any unusual encoding, so that protobuf decides.

    The message is valid exactly if its parts are, and then has the same content.
    """
    end = len(raw)
    if end > _MAX_LENGTH:
        return None
    source = raw if end < _LARGE else memoryview(raw)
    heads: list[bytes] = []
    name = b""
    contents: list[Buffer] = []
    head_start = position = 0
    try:
        for _ in range(_MAX_FIELDS):
            if position == end:
                if not contents:
                    return None
                if head_start < end:
                    heads.append(raw[head_start:])
                if end >= _LARGE and 2 * sum(map(len, contents)) < end:
                    contents = list(map(bytes, contents))  # views would keep the rest, which nobody counts, in memory
                return Split(b"".join(heads), name.decode(), contents)
            start = position
            tag, size = raw[position], raw[position + 1]
            # All fields of this message are length-delimited, and their keys fit one byte. 0 is not a field number.
            if tag & 0x87 != 2 or tag < 8:
                return None
            position += 2
            if size > 0x7F:
                size, position = _size(raw, position - 1)
            position += size
            if position > end:
                return None
            if tag in (_INPUTS, _ID):
                if head_start < start:
                    heads.append(raw[head_start:start])
                head_start = position
                if tag == _ID:
                    if name:
                        return None  # the last id is valid, but protobuf checks that all of them are UTF-8
                    name = raw[position - size : position]
                else:
                    contents.append(source[position - size : position])
    except (IndexError, UnicodeDecodeError):
        pass
    return None


def raw_output(data: Buffer) -> tuple[bytes, Buffer]:
    """Return one element of raw_output_contents in parts, to append to a ModelInferResponse."""
    return field(_OUTPUTS, data)


def _size(raw: bytes, position: int) -> tuple[int, int]:
    """Return the varint of at most five bytes at this position, and the position after it. Raises IndexError."""
    value = 0
    for shift in range(0, 35, 7):
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise IndexError
