"""How the bytes of a connection are received: see server.py."""

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.front.http.connection import HttpConnection


class BufferedReceiver(asyncio.BufferedProtocol):
    """Receives for one connection, into the body it belongs to or into the buffer that all connections share.

    It is separate from the connection because uvloop treats a protocol either as buffered or as streaming, and
    uvicorn's is streaming.
    """

    __slots__ = ("_body_buffer", "_connection", "_shared_buffer")

    def __init__(self, connection: "HttpConnection", shared_buffer: memoryview) -> None:
        self._connection = connection
        self._shared_buffer = shared_buffer
        self._body_buffer: memoryview | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connection.connection_made(transport)  # type: ignore[arg-type]

    def connection_lost(self, exc: Exception | None) -> None:
        self._body_buffer = None
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def get_buffer(self, sizehint: int) -> memoryview:
        self._body_buffer = self._connection.receive_buffer()
        return self._shared_buffer if self._body_buffer is None else self._body_buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._body_buffer is None:
            self._connection.data_received(self._shared_buffer[:nbytes].tobytes())
        else:
            self._body_buffer = None
            complete = self._connection.buffer_filled(nbytes)
            if complete is not None:
                complete.on_body_complete()
