"""Cross-origin resource sharing: which web pages of other origins may read this server's answers, and the headers that
tell their browser so.

What is the same for all answers is among uvicorn's default headers, so it costs no request anything. The rest depends
on the request's Origin. Without the setting `cors_origin` there is no Cors, and browsers keep answers from such pages.
"""

from collections.abc import Collection, Iterable

ANY = "*"
_METHODS = "GET, HEAD, POST, PUT, DELETE"
# What pages may send, besides the headers that need no permission. Credentials are among them by name, because a
# wildcard would not include Authorization.
_REQUEST_HEADERS = (
    "Authorization, X-API-Key, Content-Type, Content-Encoding, Inference-Header-Content-Length, If-None-Match, Range, "
    "X-Request-Id, traceparent, tracestate, baggage, b3"
)
# What pages may read, besides the headers that need no permission.
_ANSWER_HEADERS = (
    "Inference-Header-Content-Length, Retry-After, WWW-Authenticate, X-Request-Id, traceparent, Content-Encoding, "
    "Content-Disposition, Location, ETag, Allow"
)
# For how long a browser need not ask again, in seconds: at most as long as Chromium remembers it.
_MAX_AGE = "7200"
_EXPOSED = f"access-control-expose-headers: {_ANSWER_HEADERS}\r\n".encode()

RawHeaders = Iterable[tuple[bytes, bytes]]


class Cors:
    """origins: as browsers send them, such as https://app.example, or ANY."""

    def __init__(self, origins: Collection[str]) -> None:
        self._any = ANY in origins
        self._blocks = {
            origin.encode(): b"access-control-allow-origin: %b\r\n%b" % (origin.encode(), _EXPOSED)
            for origin in origins
            if origin != ANY
        }

    @property
    def defaults(self) -> list[tuple[str, str]]:
        """The headers of every answer."""
        if self._any:
            return [("access-control-allow-origin", ANY), ("access-control-expose-headers", _ANSWER_HEADERS)]
        return [("vary", "origin")]

    def allows(self, origin: str) -> bool:
        """Whether pages of this origin may read answers."""
        return bool(origin) and (self._any or origin.encode("latin-1", "replace") in self._blocks)

    def block(self, headers: RawHeaders) -> bytes:
        """Return the lines to add to the answer to a request with these headers, whose names are in lower case."""
        origins = [value for name, value in headers if name == b"origin"]
        return self._blocks.get(origins[0], b"") if len(origins) == 1 and not self._any else b""

    def headers(self, headers: RawHeaders) -> list[tuple[bytes, bytes]]:
        """Return the same as `block`, as names and values."""
        lines = self.block(headers).split(b"\r\n")[:-1]
        return [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]

    def preflight(self, headers: RawHeaders) -> list[tuple[bytes, bytes]]:
        """Return the further headers of the answer to a preflight request: what pages may send."""
        return [
            *self.headers(headers),
            (b"access-control-allow-methods", _METHODS.encode()),
            (b"access-control-allow-headers", _REQUEST_HEADERS.encode()),
            (b"access-control-max-age", _MAX_AGE.encode()),
        ]
