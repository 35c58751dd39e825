"""Finds what was read from a head, if the same head, or one that differs in nothing that matters, came before.

The heads of one client are alike but for the length of the body and for headers that name the request or its trace.
So a head is also looked up without these lines. What is left of it must be line for line what is left of a head that
the parser accepted, and each removed line must be one plain header line, so that the parser would accept it too.
"""

from collections.abc import Sequence
from dataclasses import replace

from gateway.domain.caller import PER_REQUEST_HEADERS
from gateway.engine.arena import MIN_ARENA_BYTES
from gateway.front.base.request_ids import valid_id
from gateway.front.http.hot_request import Head
from runtimes.bounded_cache import BoundedCache

# Clients of one server use few heads. With a smaller cache, several hundred clients evict each other's entries, and
# each request is parsed; a larger one is memory that one client can fill, at most this times MAX_HEAD_LENGTH.
_MAX_HEADS = 1024
# Heads longer than this are not cached. Heads of common client libraries have a few hundred bytes, with a bearer token
# a thousand more.
MAX_HEAD_LENGTH = 2048
# The lines of heads in use: most heads share most of theirs.
_LINES_PER_HEAD = 4
# Headers that can change where the body ends, or whether it is sent at all.
_FRAMING_HEADERS = {b"transfer-encoding", b"expect", b"upgrade", b"connection"}
_LENGTH, _REQUEST_ID = b"content-length", b"x-request-id"
_VARYING = frozenset({_LENGTH, *[name.encode() for name in PER_REQUEST_HEADERS]})


class HeadCache:
    """Heads of hot requests, on connections that stay open, by their bytes.

    varying  names of lines, in lower case, in whose values heads may differ that mean the same. None of them has
             credentials, so that all such heads are of the same client
    """

    varying = _VARYING

    def __init__(self, max_heads: int = _MAX_HEADS) -> None:
        self._exact: BoundedCache[bytes, Head] = BoundedCache(max_heads)
        # By the lines that are left of them without those of _VARYING; of those `find` may answer for with another
        # length.
        self._reduced: BoundedCache[tuple[bytes, ...], Head] = BoundedCache(max_heads)
        # The lines of _reduced, so that the others of a head are found without a look at their names.
        self._lines: BoundedCache[bytes, None] = BoundedCache(_LINES_PER_HEAD * max_heads)

    def __len__(self) -> int:
        return len(self._exact) + len(self._reduced)

    def find(self, text: bytes, body_length: int) -> Head | None:
        """Return the head with these bytes, if exactly its body follows.

        Its length, and headers that identify a request, may be those of an earlier one.
        """
        head = self._exact.entries.get(text)
        if head is not None:
            return head if head.headers.content_length == body_length and _is_valid(head) else None
        head, length = self.find_reduced(text)
        return head if head is not None and length == b"%d" % body_length and body_length <= head.limit else None

    def find_large(self, text: bytes, received: int) -> Head | None:
        """Return the head with these bytes, if a large body follows, of which only `received` bytes have arrived.

        Headers that identify a request may be those of an earlier one.
        """
        head = self._exact.entries.get(text)
        if head is None:
            head, value = self.find_reduced(text)
            if head is not None:
                # Leading zeros are for the parser, and for `read_headers`, to judge.
                length = int(value) if value.isdigit() and value[:1] != b"0" else 0
                head = head._replace(headers=replace(head.headers, content_length=length))
        if head is None or not _is_valid(head):
            return None
        length = head.headers.content_length or 0
        # A compressed body is not received directly, so the parser has to see its head.
        is_large = MIN_ARENA_BYTES <= length <= head.limit and not head.headers.encoding
        return head if is_large and received < length else None

    def find_reduced(self, text: bytes) -> tuple[Head | None, bytes]:
        """Return a head that differs in nothing but lines of _VARYING, and the length that `text` gives."""
        if not self._reduced.entries or len(text) > MAX_HEAD_LENGTH:
            return None, b""
        known, lengths, kept = self._lines.entries, [], []
        request_id: bytes | None = None
        for line in text.split(b"\r\n"):
            if line in known:
                kept.append(line)
                continue
            name, colon, value = line.partition(b":")
            name = name.lower()
            if name not in _VARYING or not colon or not _is_plain(value):
                return None, b""
            if name == _LENGTH:
                lengths.append(value.strip(b" \t"))
            elif name == _REQUEST_ID and request_id is None:
                request_id = valid_id(value)
        # The request line comes first: a head that begins with a header line is not valid.
        if len(lengths) != 1 or not kept or not text.startswith(kept[0]):
            return None, b""
        head = self._reduced.entries.get(tuple(kept))
        if head is None or not _is_valid(head):
            return None, lengths[0]
        return head._replace(request_id=request_id) if request_id else head, lengths[0]

    def put(self, text: bytes, head: Head, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Remember a head that the parser accepted, if requests with it can skip the parser.

        Two Content-Length headers are not cached: the parser rejects them before this is called.
        """
        length, names = head.headers.content_length, [name for name, _ in headers]
        if length is None or not _FRAMING_HEADERS.isdisjoint(names):
            return
        if [name for name in names if name in _VARYING] == [_LENGTH]:
            self._exact.put(text, head)
        # Where requests are checked or unpacked, what the head says of this one request is needed.
        if not head.is_plain:
            return
        kept = []
        for line in text.split(b"\r\n"):
            if line[:1] in (b" ", b"\t"):
                return  # it continues the line before (RFC 9112, section 5.2), which might be one that varies
            name, _, value = line.partition(b":")
            if name.lower() not in _VARYING or not _is_plain(value):
                kept.append(line)
        if len(kept) == len(names) + 1 - len([name for name in names if name in _VARYING]):
            self._reduced.put(tuple(kept), head)
            for line in kept:
                self._lines.put(line, None)


def _is_valid(head: Head) -> bool:
    """Whether the credentials in the head are still valid. If not, the request is identified again."""
    return head.identity is None or head.identity.is_valid


def _is_plain(value: bytes) -> bool:
    """Whether a value is printable ASCII. Other bytes are for the parser to judge."""
    return value.isascii() and value.decode().isprintable()
