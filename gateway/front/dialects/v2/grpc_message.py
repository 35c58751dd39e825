"""Takes raw tensors out of gRPC messages, without the copies that protobuf would make.

An encoded message is the concatenation of its encoded fields, so fields can be cut out of it.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from runtimes.tensors import Buffer

# Field keys of ModelInferRequest.
_MODEL_NAME: Final = 1 << 3 | 2
_MODEL_VERSION: Final = 2 << 3 | 2
_ID: Final = 3 << 3 | 2
_PARAMETERS: Final = 4 << 3 | 2
_INPUTS: Final = 5 << 3 | 2
_OUTPUTS: Final = 6 << 3 | 2
_CONTENTS: Final = 7 << 3 | 2
_DESCRIBED: Final = (_INPUTS, _OUTPUTS)
# For messages below this size, copies of tensors are cheaper than views.
_LARGE: Final = 64 * 1024
# This loop over fields runs in Python, on the event loop, and a message may have millions. Messages with more than this
# are left to protobuf. Ordinary ones have far fewer.
_MAX_FIELDS: Final = 1000
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
    Returns None for any other encoding, without inputs and raw_input_contents, and if few of many bytes are contents.
    """
    end = len(raw)
    source = raw if end < _LARGE else memoryview(raw)
    model = version = request_id = ""
    contents: list[Buffer] = []
    position = last = 0
    parameters = described = data = -1
    try:
        for _ in range(_MAX_FIELDS):
            tag, size, start = raw[position], raw[position + 1], position + 2
            if size > 0x7F:
                size, start = _size(raw, position + 1)
            stop = start + size
            if tag < last:
                return None
            if tag == _CONTENTS:
                if last != _CONTENTS:
                    data = position
                contents.append(source[start:stop])
                if stop >= end:
                    break
            elif tag in _DESCRIBED:
                if described < 0:
                    described = position
            elif tag == _PARAMETERS:
                if parameters < 0:
                    parameters = position
            elif tag == last:
                return None  # the last of several strings is valid, but protobuf checks that all of them are UTF-8
            elif tag == _MODEL_NAME:
                model = raw[start:stop].decode()
            elif tag == _ID:
                request_id = raw[start:stop].decode()
            elif tag == _MODEL_VERSION:
                version = raw[start:stop].decode()
            else:
                return None
            last, position = tag, stop
        if stop != end or described < 0 or (end >= _LARGE and not end / 2 < sum(map(len, contents)) <= _MAX_LENGTH):
            return None
    except (IndexError, UnicodeDecodeError):
        return None
    options = raw[parameters:described] if parameters >= 0 else b""
    return model, version, request_id, options, raw[described:data], contents


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
