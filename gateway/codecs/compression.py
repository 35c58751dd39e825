"""Compresses and decompresses bodies with gzip or deflate, for HTTP's Content-Encoding and Accept-Encoding.

Compression takes tens of milliseconds per megabyte, so all but the smallest bodies are compressed in a thread.
"""

import zlib
from collections.abc import Sequence
from functools import lru_cache

from gateway.codecs.media_types import quality
from gateway.errors import InvalidRequest, TooLarge
from runtimes.tensors import Buffer

# zlib's parameter `wbits` for each format. HTTP's "deflate" is the zlib format (RFC 1950) with header and checksum, not
# a raw deflate stream (RFC 9110, section 8.4.1.2).
_WINDOW_BITS = {"gzip": 31, "deflate": 15}
_ALIASES = {"": "", "identity": "", "x-gzip": "gzip", **{name: name for name in _WINDOW_BITS}}
# Smaller answers are not compressed, because they fit into one or two network packets anyway.
MIN_BYTES = 1 << 10
# Larger answers are compressed in a thread. Up to this size, compression takes less than a millisecond.
MAX_INLINE = 1 << 14
# Answers of this size are compressed only if a sample shrinks to _MAX_RATIO. Tensors of floats hardly shrink, and it
# costs more to compress one than to send it. A small sample may not be typical; a large one costs as much as the body.
_SAMPLE_BYTES = 1 << 15
_MAX_RATIO = 0.8
# A gzip body may consist of several members. zlib returns a copy of all input after the end of a member, so many small
# members in a large body would cost quadratic time. _SLICE limits the size of each copy, _MAX_MEMBERS their number.
_SLICE = 1 << 16
_MAX_MEMBERS = 256
# Higher levels take longer, and hardly make tensors smaller.
_LEVEL = 1


def read_encoding(value: str) -> str:
    """Read a Content-Encoding: gzip, deflate or "". Raises InvalidRequest."""
    encoding = _ALIASES.get(value.strip().lower())
    if encoding is None:
        raise InvalidRequest("the body's Content-Encoding is not supported; send gzip, deflate or none")
    return encoding


@lru_cache(256)
def choose_encoding(accept: str) -> str:
    """Choose the answer's encoding by an Accept-Encoding: gzip, deflate, or "" if neither is accepted."""
    weights: dict[str, float] = {}
    for item in accept.lower().split(","):
        name, _, rest = item.partition(";")
        weights[_ALIASES.get(name.strip(), name.strip())] = quality(rest)
    best = max(_WINDOW_BITS, key=lambda name: weights.get(name, weights.get("*", 0.0)))
    return best if weights.get(best, weights.get("*", 0.0)) > 0 else ""


def inflate(body: Buffer, encoding: str, limit: int, kind: str) -> bytes:
    """Decompress a body. Raises TooLarge for more than `limit` bytes, the limit for this `kind`; InvalidRequest."""
    parts: list[bytes] = []
    left, members = limit + 1, 1
    view, reader = memoryview(body), zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        for start in range(0, len(view), _SLICE):
            rest: Buffer = view[start : start + _SLICE]
            while rest:
                if reader.eof:  # gzip allows another member or, according to gzip(1), padding with zeros
                    if encoding == "gzip" and not (rest := bytes(rest).lstrip(b"\0")):
                        break
                    members += 1
                    if encoding != "gzip" or members > _MAX_MEMBERS:
                        raise InvalidRequest(
                            f"the body continues after the end of its {encoding} data; compress it as a whole"
                        )
                    reader = zlib.decompressobj(_WINDOW_BITS[encoding])
                part = reader.decompress(rest, left)
                parts.append(part)
                left -= len(part)
                if left <= 0:
                    raise TooLarge(f"the decompressed body is over the limit of {limit} bytes for {kind}")
                rest = reader.unused_data
    except zlib.error:
        raise InvalidRequest(f"the body is not valid {encoding}, although its Content-Encoding says so") from None
    if len(view) and not reader.eof:
        raise InvalidRequest(f"the body ends within its {encoding} data; send all of it")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def is_worth(parts: Sequence[Buffer]) -> bool:
    """Whether compression is worthwhile, judging by a sample from the middle of the largest part.

    Small answers are always compressed, because that takes less than a millisecond.
    """
    if sum(map(len, parts)) <= MAX_INLINE:
        return True
    largest = memoryview(max(parts, key=len)).cast("B")
    start = max(0, (len(largest) - _SAMPLE_BYTES) // 2)
    sample = largest[start : start + _SAMPLE_BYTES]
    return len(zlib.compress(sample, _LEVEL)) < _MAX_RATIO * len(sample)


def deflate(parts: Sequence[Buffer], encoding: str) -> bytes:
    writer = zlib.compressobj(_LEVEL, wbits=_WINDOW_BITS[encoding])
    return b"".join([*map(writer.compress, parts), writer.flush()])
