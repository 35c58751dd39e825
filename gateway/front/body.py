"""The ASGI side of a request: its headers that matter, its body up to a limit, its client going away."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from gateway.engine.protocol import Engine, Gone
from gateway.engine.types import InferRequest, InferResponse
from gateway.errors import InvalidRequest, TooLarge

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


# A client that sends nothing for so long has gone, or holds what it was reserved for nothing.
PAUSE_S = 60.0
LINGER_S = 2.0


@dataclass(slots=True)
class Headers:
    """None: there is no such header."""

    content_length: int | None = None
    json_length: int | None = None
    content_type: str = ""
    accept: str = ""


def read_headers(scope: Scope) -> Headers:
    """Raises InvalidRequest."""
    headers = Headers()
    for name, value in scope["headers"]:
        if name == b"content-length":
            headers.content_length = _count("Content-Length", value)
        elif name == b"content-type":
            headers.content_type = value.decode("latin-1")
        elif name == b"accept":
            headers.accept = value.decode("latin-1")
        elif name == b"inference-header-content-length":
            headers.json_length = _count("Inference-Header-Content-Length", value)
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise InvalidRequest("compressed bodies are not served; send it without Content-Encoding")
    return headers


def _count(name: str, value: bytes) -> int:
    if not value.isdigit() or len(value) > 18:
        raise InvalidRequest(f"the header {name} must be a whole number of bytes")
    return int(value)


class Body:
    """A request's body as it comes. `whole`: all of it has, so the connection can take another request."""

    __slots__ = ("receive", "whole")

    def __init__(self, receive: Receive) -> None:
        self.receive = receive
        self.whole = False

    async def read(self, length: int | None, limit: int, what: str, reserve: Callable[[int], None]) -> bytes:
        """All of it, of the `length` that its header tells, if it does.

        Raises TooLarge as soon as it is known to be over the limit (of `what`), what `reserve`
        raises when it is asked for room, InvalidRequest when nothing comes any more, and Gone.
        """
        if length is not None:
            if length > limit:
                raise TooLarge(f"the body has {length} bytes, over the limit of {limit} for {what}")
            reserve(length)
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self._next()
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

    async def _next(self) -> Message:
        try:
            async with asyncio.timeout(PAUSE_S):
                message = await self.receive()
        except TimeoutError:
            raise InvalidRequest("the body stopped coming before its end; send it again") from None
        if message["type"] == "http.disconnect":
            raise Gone
        return message

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


async def infer_unless_gone(engine: Engine, request: InferRequest, receive: Receive) -> InferResponse:
    """engine.infer, cancelled when the client goes away. Raises Gone then."""
    task = asyncio.current_task()
    assert task is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.ensure_future(watch())
    try:
        return await engine.infer(request)
    except asyncio.CancelledError:
        if not gone:
            raise
        task.uncancel()
        raise Gone from None
    finally:
        watcher.cancel()
