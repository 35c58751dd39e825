"""The interface of a REST dialect: it reads requests, and writes answers and errors."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from gateway.codecs.json_text import dumps
from gateway.domain.types import InferRequest, InferResponse
from gateway.engine.protocol import Engine
from gateway.errors import ModelportError, Overloaded
from gateway.front.base.access import challenge
from gateway.front.base.body import Headers
from gateway.front.base.client_errors import client_message, to_client_error
from gateway.front.base.limits import Limits
from runtimes.tensors import Buffer

# Up to this size, an answer is joined to one buffer: a copy costs less than a write of several buffers. Above it, the
# copy costs more.
MAX_JOINED_BYTES = 1 << 14

# The statuses of answers that have no content and, since its length would be that of another answer, no Content-Length
# (RFC 9110, sections 6.4.1 and 8.6).
WITHOUT_CONTENT = frozenset({204, 304})

# The content type of server-sent events.
EVENTS = b"text/event-stream; charset=utf-8"


class Reply(NamedTuple):
    """An HTTP answer.

    body     in parts, so that large tensors need not be copied together
    headers  further ones, as bytes of the head: each line ends with CRLF
    """

    status: int
    body: Sequence[Buffer]
    content_type: bytes = b"application/json"
    headers: bytes = b""


Writer = Callable[[InferResponse], Reply]


class EachWriter(Protocol):
    """Writes any number of answers."""

    def add(self, response: InferResponse) -> bytes:
        """Return what is sent at once for an answer that is not the final one; b"" for nothing. Raises ModelportError.

        If this is ever more than nothing, answers and errors are server-sent events.
        """

    def __call__(self, response: InferResponse) -> Reply:
        """Return the reply for the final answer. If anything was sent before, only its body is sent."""


def encode_error(error: ModelportError) -> bytes:
    """Encode an error in the form that most dialects share."""
    return dumps({"error": client_message(error)})


def _never(headers: Headers, body: Buffer) -> bool:
    return False


class Dialect(NamedTuple):
    """One way to write a request. `limit` and `read` raise ModelportError.

    limit         returns the largest body allowed with these headers, in bytes, and the kind of body this limit is
                  for, for error messages
    read          returns the request and the function that writes its answer
    encode_error  encodes an error as the JSON body of an answer
    is_slow       returns whether `read` takes milliseconds for such a body; if so, it is called in a thread
    methods       the HTTP methods that the path accepts
    takes_many    whether a request may get several answers; the writers are EachWriters then
    """

    limit: Callable[[Headers, Limits], tuple[int, str]]
    read: Callable[[Engine, Limits, "Route", Headers, Buffer], tuple[InferRequest, Writer]]
    encode_error: Callable[[ModelportError], bytes] = encode_error
    is_slow: Callable[[Headers, Buffer], bool] = _never
    methods: tuple[bytes, ...] = (b"POST",)
    takes_many: bool = False


class Route(NamedTuple):
    """A hot path.

    model, version  "" if the path does not name them
    is_label        whether `version` is a label
    path            as the client has sent it, without its query
    """

    dialect: Dialect
    model: str = ""
    version: str = ""
    is_label: bool = False
    path: str = ""


def error_reply(dialect: Dialect, error: Exception) -> Reply:
    """Return the answer for an error."""
    client_error = to_client_error(error)
    headers = challenge(client_error)
    if isinstance(client_error, Overloaded):
        headers["retry-after"] = str(client_error.retry_after_s)
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode()
    return Reply(client_error.status, [dialect.encode_error(client_error)], headers=lines)
