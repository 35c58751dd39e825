"""The ASGI side of a request: relevant headers, the body up to a limit, and the client's disconnect."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gateway.codecs.compression import inflate, read_encoding
from gateway.codecs.json_text import loads, without_nulls
from gateway.engine.protocol import ClientDisconnected
from gateway.errors import InvalidRequest, TooLarge
from gateway.front.base.limits import LARGE_JSON, Limits

if TYPE_CHECKING:
    from starlette.requests import Request

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


# For a body that is one JSON object, in bytes. These requests are short, and their bodies are not reserved against the
# admission limit while they are read, so this bounds what a connection can occupy.
MAX_OBJECT_BYTES = 128 * 1024


class ReadObject(Protocol):
    def __call__(
        self, request: "Request", nulls: bool = False, limit: int = MAX_OBJECT_BYTES
    ) -> Awaitable[dict[str, Any]]:
        """Read the body of a request to the admin app: see `read_object`."""


# How long a client may send nothing within a body; nginx's client_body_timeout has the same default. A shorter time
# ends uploads over poor networks; a longer one lets a client that is gone occupy its reservation for that long.
BODY_IDLE_TIMEOUT_S = 60.0
# How long a connection stays open after an early answer, so that the client can read the answer while it still sends;
# nginx's lingering_timeout is 5 s. If it is too short, slow clients see a reset instead of the answer; if it is too
# long, rejected clients occupy connections.
LINGER_S = 2.0


@dataclass(slots=True)
class Headers:
    """The headers that matter here; None or "" if absent.

    encoding  how the body is compressed: gzip, deflate or ""
    target_model  the model that a client of SageMaker's endpoints with several models names
    raw      all of them, with names in lower case
    """

    content_length: int | None = None
    json_length: int | None = None
    content_type: str = ""
    accept: str = ""
    encoding: str = ""
    accept_encoding: str = ""
    target_model: str = ""
    raw: Sequence[tuple[bytes, bytes]] = ()


def read_headers(raw: Sequence[tuple[bytes, bytes]]) -> Headers:
    """`raw` has names in lower case, and values. Raises InvalidRequest."""
    headers = Headers(raw=raw)
    for name, value in raw:
        if name == b"content-length":
            headers.content_length = _byte_count("Content-Length", value)
        elif name == b"content-type":
            headers.content_type = value.decode("latin-1")
        elif name == b"accept":
            headers.accept = value.decode("latin-1")
        elif name == b"inference-header-content-length":
            headers.json_length = _byte_count("Inference-Header-Content-Length", value)
        elif name == b"content-encoding":
            headers.encoding = read_encoding(value.decode("latin-1"))
        elif name == b"accept-encoding":
            headers.accept_encoding = value.decode("latin-1")
        elif name == b"x-amzn-sagemaker-target-model":
            headers.target_model = value.decode("latin-1").strip()
    return headers


def _byte_count(name: str, value: bytes) -> int:
    value = value.rstrip(b" \t")  # the parser only removes what comes before a value (RFC 9112, section 5.1)
    if not value.isdigit() or len(value) > 18:
        raise InvalidRequest(f"the header {name} must be a whole number of bytes")
    return int(value)


class BodyTimeouts:
    """Interrupts tasks that wait for a body of which nothing arrives for BODY_IDLE_TIMEOUT_S.

    One timer serves all tasks: one per message would cost as much as the rest of reading a small body.
    """

    def __init__(self) -> None:
        # In order of deadline, because all tasks wait equally long.
        self._deadlines: dict[asyncio.Task[Any], float] = {}
        self._timed_out: set[asyncio.Task[Any]] = set()
        self._armed = False

    async def receive(self, receive: Receive) -> Message:
        """Return the next message. Raises InvalidRequest on timeout."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        self._deadlines[task] = loop.time() + BODY_IDLE_TIMEOUT_S
        if not self._armed:
            self._arm(loop, BODY_IDLE_TIMEOUT_S)
        try:
            return await receive()
        except asyncio.CancelledError:
            # `uncancel` returns how many other cancellations are pending, such as one at shutdown: those win.
            if task not in self._timed_out or task.uncancel():
                raise
            raise InvalidRequest("the body stopped arriving before it was complete; send it again") from None
        finally:
            del self._deadlines[task]
            self._timed_out.discard(task)

    def _arm(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._armed = True
        loop.call_later(seconds, self._cancel_expired, loop)

    def _cancel_expired(self, loop: asyncio.AbstractEventLoop) -> None:
        self._armed = False
        for task, deadline in self._deadlines.items():
            remaining = deadline - loop.time()
            if remaining > 0:
                self._arm(loop, remaining)
                return
            if task not in self._timed_out:
                self._timed_out.add(task)
                task.cancel()


class Body:
    """A request's body, received as ASGI messages.

    complete  whether all of it has arrived, so that the connection can be used for another request
    """

    __slots__ = ("_timeouts", "complete", "receive")

    def __init__(self, receive: Receive, timeouts: BodyTimeouts) -> None:
        self.receive = receive
        self.complete = False
        self._timeouts = timeouts

    async def read(self, length: int | None, limit: int, kind: str, reserve: Callable[[int], None]) -> bytes:
        """Read the whole body. `length` is its Content-Length, if it has one, and `kind` describes it in errors.

        Raises TooLarge as soon as the body is known to be over the limit, InvalidRequest on timeout,
        ClientDisconnected, and whatever `reserve` raises, which is called with numbers of bytes.
        """
        if length is not None:
            if length > limit:
                raise TooLarge(f"the body has {length} bytes, over the limit of {limit} for {kind}")
            reserve(length)
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self._timeouts.receive(self.receive)
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise TooLarge(f"the body is over the limit of {limit} bytes for {kind}")
            if length is None:
                reserve(len(chunk))
            chunks.append(chunk)
            if not message.get("more_body", False):
                self.complete = True
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def discard(self) -> None:
        """Read and drop what still arrives, for at most LINGER_S, before the connection is closed.

        Closing a socket that has unread bytes resets the connection, and the client may lose the answer
        (RFC 9112, section 9.6).
        """
        try:
            async with asyncio.timeout(LINGER_S):
                while (await self.receive()).get("more_body", False):
                    pass
        except TimeoutError:
            pass


async def read_object(
    request: "Request", limits: Limits, timeouts: BodyTimeouts, nulls: bool = False, limit: int = MAX_OBJECT_BYTES
) -> dict[str, Any]:
    """Read the body as a JSON object. A missing body counts as an empty object.

    nulls  whether keys whose value is null are returned
    limit  in bytes; a higher one than usual is the caller's to bound
    """
    request.state.body = body = Body(request.receive, timeouts)
    limit = min(limits.json_bytes, limit) if limit <= MAX_OBJECT_BYTES else limit
    headers = read_headers(request.scope["headers"])
    content = await body.read(headers.content_length, limit, "this path", _without_reservation)
    if headers.encoding:
        content = inflate(content, headers.encoding, limit, "this path")
    if len(content) >= LARGE_JSON:
        document = await asyncio.to_thread(loads, content)
    else:
        document = loads(content) if content.strip() else {}
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object")
    return document if nulls else without_nulls(document)


def _without_reservation(size: int) -> None:
    """Reserve nothing: see MAX_OBJECT_BYTES."""
