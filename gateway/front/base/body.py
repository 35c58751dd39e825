"""The ASGI side of a request: its headers that matter, its body up to a limit, its client going away."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.codecs.compression import inflate, read_encoding
from gateway.codecs.json_text import loads, without_nulls
from gateway.engine.protocol import ClientDisconnected
from gateway.errors import InvalidRequest, TooLarge
from gateway.front.base.limits import Limits

if TYPE_CHECKING:
    from starlette.requests import Request

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
# The body of a request to the FastAPI app, a JSON object.
ReadObject = Callable[["Request"], Awaitable[dict[str, Any]]]


# A client that sends nothing for so long has gone, or holds what it was reserved for nothing.
PAUSE_S = 60.0
LINGER_S = 2.0

# Of a body that is one JSON object: nothing is asked for in many words there, and what is being read is not counted.
_MAX_BYTES = 128 * 1024


@dataclass(slots=True)
class Headers:
    """None: there is no such header.

    encoding  how the body is compressed: gzip, deflate or ""
    """

    content_length: int | None = None
    json_length: int | None = None
    content_type: str = ""
    accept: str = ""
    encoding: str = ""
    accept_encoding: str = ""


def read_headers(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    """`raw`: names in lower case, and values. Raises InvalidRequest."""
    headers = Headers()
    for name, value in raw:
        if name == b"content-length":
            headers.content_length = _count("Content-Length", value)
        elif name == b"content-type":
            headers.content_type = value.decode("latin-1")
        elif name == b"accept":
            headers.accept = value.decode("latin-1")
        elif name == b"inference-header-content-length":
            headers.json_length = _count("Inference-Header-Content-Length", value)
        elif name == b"content-encoding":
            headers.encoding = read_encoding(value.decode("latin-1"))
        elif name == b"accept-encoding":
            headers.accept_encoding = value.decode("latin-1")
    return headers


def _count(name: str, value: bytes) -> int:
    if not value.isdigit() or len(value) > 18:
        raise InvalidRequest(f"the header {name} must be a whole number of bytes")
    return int(value)


class Pauses:
    """Ends the waiting for bodies of which nothing comes any more.

    One timer for all of them: one each would cost as much as the rest of reading a small body.
    """

    def __init__(self) -> None:
        # The soonest deadline is the first: all of them wait equally long.
        self._deadlines: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._armed = False

    async def next(self, receive: Receive) -> Message:
        """Raises InvalidRequest after PAUSE_S."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        self._deadlines[task] = loop.time() + PAUSE_S
        if not self._armed:
            self._arm(loop, PAUSE_S)
        try:
            return await receive()
        except asyncio.CancelledError:
            if task not in self._late or task.uncancel():
                raise
            raise InvalidRequest("the body stopped coming before its end; send it again") from None
        finally:
            del self._deadlines[task]
            self._late.discard(task)

    def _arm(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._armed = True
        loop.call_later(seconds, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._armed = False
        for task, deadline in self._deadlines.items():
            left = deadline - loop.time()
            if left > 0:
                self._arm(loop, left)
                return
            if task not in self._late:
                self._late.add(task)
                task.cancel()


class Body:
    """A request's body as it comes. `whole`: all of it has, so the connection can take another request."""

    __slots__ = ("_pauses", "receive", "whole")

    def __init__(self, receive: Receive, pauses: Pauses) -> None:
        self.receive = receive
        self.whole = False
        self._pauses = pauses

    async def read(self, length: int | None, limit: int, what: str, reserve: Callable[[int], None]) -> bytes:
        """All of it, of the `length` that its header tells, if it does.

        Raises TooLarge as soon as it is known to be over the limit (of `what`), what `reserve`
        raises when it is asked for room, InvalidRequest when nothing comes any more, and ClientDisconnected.
        """
        if length is not None:
            if length > limit:
                raise TooLarge(f"the body has {length} bytes, over the limit of {limit} for {what}")
            reserve(length)
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self._pauses.next(self.receive)
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise TooLarge(f"the body is over the limit of {limit} bytes for {what}")
            if length is None:
                reserve(len(chunk))
            chunks.append(chunk)
            if not message.get("more_body", False):
                self.whole = True
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def discard(self) -> None:
        """Read on for a while, to nowhere; then close the connection.

        A socket that is closed with unread bytes resets the connection, and the client may lose the
        answer that it was sent.
        """
        try:
            async with asyncio.timeout(LINGER_S):
                while (await self.receive()).get("more_body", False):
                    pass
        except TimeoutError:
            pass


async def read_object(request: "Request", limits: Limits, pauses: Pauses) -> dict[str, Any]:
    """The body as a JSON object; no body is an empty one."""
    request.state.body = body = Body(request.receive, pauses)
    most = min(limits.json_bytes, _MAX_BYTES)
    headers = read_headers(request.scope["headers"])
    content = await body.read(headers.content_length, most, "this path", _no_matter)
    if headers.encoding:
        content = inflate(content, headers.encoding, most, "this path")
    document = loads(content) if content.strip() else {}
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object")
    return without_nulls(document)


def _no_matter(size: int) -> None:
    """Bodies this small need no room reserved."""
