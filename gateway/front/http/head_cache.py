"""Finds what was read from a head, if the same head, or one that differs in nothing that matters, came before.

The heads of one client are alike but for the length of the body and for headers that name the request or its trace.
So a head is also looked up without these lines. What is left of it must be byte for byte what is left of a head that
the parser accepted, and each removed line must be one plain header line, so that the parser would accept it too.
"""

import re
from collections.abc import Sequence

from gateway.engine.arena import MIN_ARENA_BYTES
from gateway.front.http.hot_request import Head
from runtimes.bounded_cache import BoundedCache

# Clients of one server use few heads. With a smaller cache, several hundred clients evict each other's entries, and
# each request is parsed; a larger one is memory that one client can fill, at most this times MAX_HEAD_LENGTH.
_MAX_HEADS = 1024
# Heads longer than this are not cached. Heads of common client libraries have a few hundred bytes, with a bearer token
# a thousand more.
MAX_HEAD_LENGTH = 2048
# Headers that can change where the body ends, or whether it is sent at all.
_FRAMING_HEADERS = {b"transfer-encoding", b"expect", b"upgrade", b"connection"}
# Headers that identify one request or its trace. A head with one of them is never repeated.
_PER_REQUEST_HEADERS = (
    b"traceparent", b"tracestate", b"b3", b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid",
    b"x-request-id", b"request-id", b"x-correlation-id", b"x-amzn-trace-id", b"x-cloud-trace-context",
    b"uber-trace-id", b"sentry-trace", b"x-datadog-trace-id", b"x-datadog-parent-id", b"ce-id", b"idempotency-key",
)  # fmt: skip
_LENGTH = b"content-length"
_VARYING = {_LENGTH, *_PER_REQUEST_HEADERS}
# A line of printable ASCII: other bytes are for the parser to judge.
_VARYING_LINES = re.compile(rb"\r\n(?:" + b"|".join(sorted(_VARYING)) + rb"):[\t\x20-\x7e]*(?=\r\n|\Z)", re.IGNORECASE)
_LENGTHS = re.compile(rb"\r\n" + _LENGTH + rb":[ \t]*([^\r\n]*)", re.IGNORECASE)


class HeadCache:
    """Heads of hot requests with a short body, on connections that stay open, by their bytes."""

    def __init__(self) -> None:
        self._exact: BoundedCache[bytes, Head] = BoundedCache(_MAX_HEADS)
        # By what is left of them without the lines of _VARYING; of those `find` may answer for with another length.
        self._reduced: BoundedCache[bytes, Head] = BoundedCache(_MAX_HEADS)

    def __len__(self) -> int:
        return len(self._exact) + len(self._reduced)

    def find(self, text: bytes, body_length: int, exactly: bool = False) -> Head | None:
        """Return the head with these bytes, if exactly its body follows.

        Unless `exactly` is set, its length, and headers that identify a request, may be those of an earlier one.
        """
        head = self._exact.entries.get(text)
        if head is not None:
            return head if head.headers.content_length == body_length else None
        if exactly or not self._reduced.entries or len(text) > MAX_HEAD_LENGTH:
            return None
        lengths = _LENGTHS.findall(text)
        if len(lengths) != 1 or lengths[0] != b"%d" % body_length:
            return None
        head = self._reduced.entries.get(_VARYING_LINES.sub(b"", text))
        return head if head is not None and body_length <= head.limit else None

    def put(self, text: bytes, head: Head, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Remember a head that the parser accepted, if requests with it can skip the parser.

        Two Content-Length headers are not cached: the parser rejects them before this is called.
        """
        length, names = head.headers.content_length, [name for name, _ in headers]
        if length is None or length >= MIN_ARENA_BYTES or not _FRAMING_HEADERS.isdisjoint(names):
            return
        varying = [name for name in names if name in _VARYING]
        if varying == [_LENGTH]:
            self._exact.put(text, head)
        if b"\r\n " in text or b"\r\n\t" in text:
            return  # a line that continues the one before it (RFC 9112, section 5.2), which might be a removed one
        reduced, count = _VARYING_LINES.subn(b"", text)
        # Where requests are checked or unpacked, what the head says of this one request is needed.
        if head.is_plain and count == len(varying):
            self._reduced.put(reduced, head)
