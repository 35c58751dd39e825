"""gzip and deflate of bodies, both ways, by HTTP's Content-Encoding and Accept-Encoding.

Compressing takes tens of milliseconds a megabyte, so all but the smallest is work for a thread.
"""

import zlib
from collections.abc import Sequence
from functools import lru_cache

from gateway.errors import InvalidRequest, TooLarge
from runtimes.tensors import Buffer

# What zlib calls the two formats. HTTP's "deflate" is zlib's own format, with header and check sum.
_WINDOW_BITS = {"gzip": 31, "deflate": 15}
_ALIASES = {"": "", "identity": "", "x-gzip": "gzip", **{name: name for name in _WINDOW_BITS}}
# Smaller answers are sent as they are: they would fit a packet or two anyway.
MIN_BYTES = 1 << 10
# Larger ones are compressed in a thread, if a sample of so many bytes shrinks to that share: floats hardly do.
MAX_INLINE = 1 << 14
_SAMPLE_BYTES = 1 << 15
_WORTH_SHARE = 0.8
# What is behind a member is copied for the next: so little is given at a time, and few members are read.
_SLICE = 1 << 16
_MAX_MEMBERS = 256
# Tensors hardly get smaller by more effort.
_LEVEL = 1


def read_encoding(value: str) -> str:
    """gzip, deflate or "" of a Content-Encoding. Raises InvalidRequest."""
    encoding = _ALIASES.get(value.strip().lower())
    if encoding is None:
        raise InvalidRequest("the body's Content-Encoding is not understood; send gzip, deflate or none")
    return encoding


@lru_cache(256)
def choose_encoding(accept: str) -> str:
    """The encoding for the answer by an Accept-Encoding: gzip, deflate, or "" where neither is accepted."""
    weights: dict[str, float] = {}
    for item in accept.lower().split(","):
        name, _, rest = item.partition(";")
        weights[_ALIASES.get(name.strip(), name.strip())] = _weight(rest)
    best = max(_WINDOW_BITS, key=lambda name: weights.get(name, weights.get("*", 0.0)))
    return best if weights.get(best, weights.get("*", 0.0)) > 0 else ""


def _weight(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def inflate(body: Buffer, encoding: str, limit: int, what: str) -> bytes:
    """What was compressed. Raises TooLarge over `limit` bytes (of `what`), and InvalidRequest."""
    parts: list[bytes] = []
    left, members = limit + 1, 1
    view, reader = memoryview(body), zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        for start in range(0, len(view), _SLICE):
            rest: Buffer = view[start : start + _SLICE]
            while rest:
                if reader.eof:  # of gzip there may be another behind it, or zeros, as gzip(1) has it
                    if encoding == "gzip" and not (rest := bytes(rest).lstrip(b"\0")):
                        break
                    members += 1
                    if encoding != "gzip" or members > _MAX_MEMBERS:
                        raise InvalidRequest(
                            f"the body has more behind the end of its {encoding}; compress it in one go"
                        )
                    reader = zlib.decompressobj(_WINDOW_BITS[encoding])
                part = reader.decompress(rest, left)
                parts.append(part)
                left -= len(part)
                if left <= 0:
                    raise TooLarge(f"the body, unpacked, is over the limit of {limit} bytes for {what}")
                rest = reader.unused_data
    except zlib.error:
        raise InvalidRequest(f"the body is not valid {encoding}, which its Content-Encoding names") from None
    if len(view) and not reader.eof:
        raise InvalidRequest(f"the body ends inside its {encoding}; send all of it")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def is_worth(parts: Sequence[Buffer]) -> bool:
    """Whether these will shrink by enough: a sample from the middle of the largest decides.

    Small answers are always compressed; they cost less than a millisecond.
    """
    if sum(map(len, parts)) <= MAX_INLINE:
        return True
    largest = memoryview(max(parts, key=len)).cast("B")
    start = max(0, (len(largest) - _SAMPLE_BYTES) // 2)
    sample = largest[start : start + _SAMPLE_BYTES]
    return len(zlib.compress(sample, _LEVEL)) < _WORTH_SHARE * len(sample)


def deflate(parts: Sequence[Buffer], encoding: str) -> bytes:
    writer = zlib.compressobj(_LEVEL, wbits=_WINDOW_BITS[encoding])
    return b"".join([*map(writer.compress, parts), writer.flush()])
