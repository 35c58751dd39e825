"""The ASGI side of a request: its headers that matter, its body up to a limit, its client going away."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from gateway.engine.protocol import Engine
from gateway.engine.types import InferRequest, InferResponse
from gateway.errors import InvalidRequest, TooLarge

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Unread(TooLarge):
    """Raised while (some of) the body is still on its way."""


class Gone(Exception):
    """The client closed its connection: nobody waits for an answer."""


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


async def read_body(receive: Receive, headers: Headers, limit: int, what: str) -> bytes:
    """The whole body. Raises Unread as soon as it is known to be over the limit (of `what`), and Gone."""
    if headers.content_length is not None and headers.content_length > limit:
        raise Unread(f"the body has {headers.content_length} bytes, over the limit of {limit} for {what}")
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise Unread(f"the body is over the limit of {limit} bytes for {what}")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


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


async def discard(receive: Receive, seconds: float) -> None:
    """Read on for a while, to nowhere.

    A socket that is closed with unread bytes resets the connection, and the client may lose the
    answer that it was sent.
    """
    try:
        async with asyncio.timeout(seconds):
            while (await receive()).get("more_body", False):
                pass
    except TimeoutError:
        pass
