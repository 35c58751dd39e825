"""The connection between the supervisor and one of its processes: frames over a socket pair, and calls with replies."""

import asyncio
import itertools
import json
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any, cast

from gateway.errors import ModelportError, Unavailable, from_kind
from runtimes import wire
from runtimes.wire import Frame, FrameReader

log = logging.getLogger(__name__)

# Kinds of frames between supervisor and fronts, in addition to those of runtimes/wire.py. All of them contain JSON.
TABLE, SNAPSHOT, DRAIN, SERVING, TLS, AUDIT, POLICY, REFETCH = 32, 33, 34, 35, 36, 37, 38, 39
LOG_SETTINGS, TRACE_SETTINGS, TRACED, REOPEN, UNLOGGED, TABLE_CHANGES, WANTED = 40, 41, 42, 43, 44, 45, 46
CALL, REPLY, REFUSAL = 48, 49, 50

OnFrame = Callable[[Frame], None]
OnCall = Callable[[str, dict[str, Any]], Awaitable[Any]]


class Channel(asyncio.Protocol):
    """Calls `on_frame` with every frame except calls and their replies, and `on_call` to handle the peer's calls.

    `closed` resolves when the connection has ended.
    """

    def __init__(self, on_frame: OnFrame, on_call: OnCall | None = None, max_bytes: int = 1 << 62) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._on_frame = on_frame
        self._on_call = on_call
        self._reader = FrameReader(max_bytes)
        self._transport: asyncio.Transport | None = None
        self._ids = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(
        cls, sock: socket.socket, on_frame: OnFrame, on_call: OnCall | None = None, max_bytes: int = 1 << 62
    ) -> "Channel":
        """max_bytes: a peer that sends a longer frame, or none of this protocol, loses the connection."""
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(lambda: cls(on_frame, on_call, max_bytes), sock=sock)
        return protocol

    def send(self, kind: int, body: Any, request_id: int = 0) -> None:
        """Send a frame. Does nothing if the connection has ended; see `closed`."""
        if self._transport is not None:
            self._transport.write(wire.pack_json(kind, body, request_id))

    @property
    def has_backlog(self) -> bool:
        """Whether the peer has not read all frames yet."""
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    async def call(self, verb: str, **arguments: Any) -> Any:
        """Call the peer and return its result. Raises the peer's ModelportError; Unavailable if the connection ends."""
        if self._transport is None:
            raise Unavailable("the connection to the supervisor has ended")
        call_id = next(self._ids)
        answer = self._calls[call_id] = asyncio.get_running_loop().create_future()
        self.send(CALL, {"verb": verb, "arguments": arguments}, call_id)
        try:
            return await answer
        finally:
            self._calls.pop(call_id, None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._reader.feed(data)
        except wire.WireError as error:
            log.warning("a connection of the supervisor is closed: %s", error)
            self.close()
            return
        for frame in frames:
            if frame.kind == CALL and self._on_call is not None:
                task = asyncio.get_running_loop().create_task(self._answer(frame))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            elif frame.kind in (REPLY, REFUSAL):
                self._resolve(frame)
            else:
                self._on_frame(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(Unavailable("the connection to the supervisor has ended"))
        self._calls.clear()
        if not self.closed.done():
            self.closed.set_result(None)

    async def _answer(self, frame: Frame) -> None:
        call = wire.unpack_json(frame.body)
        log.debug("the call %r", call["verb"])
        try:
            assert self._on_call is not None
            result = await self._on_call(call["verb"], call["arguments"])
        except ModelportError as error:
            self.send(REFUSAL, {"kind": error.kind, "message": str(error)}, frame.id)
        except Exception:
            log.exception("the call %r failed", call["verb"])
            self.send(REFUSAL, {"kind": "internal", "message": "internal error"}, frame.id)
        else:
            self.send(REPLY, {"result": result}, frame.id)

    def _resolve(self, frame: Frame) -> None:
        answer = self._calls.get(frame.id)
        if answer is None or answer.done():
            return  # the caller was cancelled
        body = json.loads(bytes(frame.body))
        if frame.kind == REPLY:
            answer.set_result(body["result"])
        else:
            answer.set_exception(from_kind(body["kind"], body["message"]))
