"""Takes raw tensors out of gRPC messages, without the copies that protobuf would make.

An encoded message is the concatenation of its encoded fields, so fields can be cut out of it.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from runtimes.tensors import Buffer

# Field keys of ModelInferRequest. _DESCRIBED: inputs and outputs.
_MODEL_NAME: Final = 1 << 3 | 2
_MODEL_VERSION: Final = 2 << 3 | 2
_ID: Final = 3 << 3 | 2
_PARAMETERS: Final = 4 << 3 | 2
_DESCRIBED: Final = (5 << 3 | 2, 6 << 3 | 2)
_CONTENTS: Final = 7 << 3 | 2
# For messages below this size, copies of tensors are cheaper than views.
_LARGE: Final = 64 * 1024
# This loop over fields runs in Python, on the event loop, and a message may have millions. Messages with more than this
# are left to protobuf. Ordinary ones have far fewer.
_MAX_FIELDS: Final = 1000
# The bytes of the fields that `split_usual` leaves to be parsed. More are left to protobuf, for the same reason.
_MAX_PARSED: Final = 1024
_MAX_LENGTH: Final = 1 << 30


# A message in the usual encoding: the model's name and version, the id, the fields of the request's parameters, those
# of inputs and outputs, and the raw_input_contents.
UsualParts = tuple[str, str, str, bytes, bytes, list[Buffer]]


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
            if tag in (_CONTENTS, _ID):
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


def split_usual(raw: bytes) -> UsualParts | None:
    """Split a message whose fields are in the order of their numbers, as all common libraries write them.

    The message is valid exactly if the fields of parameters, inputs and outputs are, and then has the same content.
    Returns None for any other encoding, without raw_input_contents, if these are less than half of a large message, and
    if the other fields are longer than any that are worth caching.
    """
    end, position = len(raw), 0
    source = raw if end < _LARGE else memoryview(raw)
    model = version = request_id = ""
    contents: list[Buffer] = []
    try:
        # The steps are alike, but written out: a loop over them, or a function, would take half as long again.
        tag = raw[0]
        if tag == _MODEL_NAME:
            size, start = raw[1], 2
            if size > 0x7F:
                size, start = _size(raw, 1)
            position = start + size
            model = raw[start:position].decode()
            tag = raw[position]
        if tag == _MODEL_VERSION:
            size, start = raw[position + 1], position + 2
            if size > 0x7F:
                size, start = _size(raw, position + 1)
            position = start + size
            version = raw[start:position].decode()
            tag = raw[position]
        if tag == _ID:
            size, start = raw[position + 1], position + 2
            if size > 0x7F:
                size, start = _size(raw, position + 1)
            position = start + size
            request_id = raw[start:position].decode()
            tag = raw[position]
        first = position
        while tag == _PARAMETERS and position - first <= _MAX_PARSED:
            size, start = raw[position + 1], position + 2
            if size > 0x7F:
                size, start = _size(raw, position + 1)
            position = start + size
            tag = raw[position]
        described = position
        while tag in _DESCRIBED and position - first <= _MAX_PARSED:
            size, start = raw[position + 1], position + 2
            if size > 0x7F:
                size, start = _size(raw, position + 1)
            position = start + size
            tag = raw[position]
        data = position
        if tag != _CONTENTS or data - first > _MAX_PARSED:
            return None
        while True:
            size, start = raw[position + 1], position + 2
            if size > 0x7F:
                size, start = _size(raw, position + 1)
            position = start + size
            contents.append(source[start:position])
            if position >= end:
                break
            if raw[position] != _CONTENTS or len(contents) == _MAX_FIELDS:
                return None
    except (IndexError, UnicodeDecodeError):
        return None
    if position != end or (end >= _LARGE and not end / 2 < sum(map(len, contents)) <= _MAX_LENGTH):
        return None
    return model, version, request_id, raw[first:described], raw[described:data], contents


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
