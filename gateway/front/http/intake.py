"""How bytes of a connection are received: see server.py."""

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.front.http.connection import HttpConnection


class Intake(asyncio.BufferedProtocol):
    """Receives for a connection. uvloop takes no protocol that is both buffered and, as uvicorn's are, plain."""

    __slots__ = ("_connection", "_into", "_shared")

    def __init__(self, connection: "HttpConnection", shared: memoryview) -> None:
        self._connection = connection
        self._shared = shared
        self._into: memoryview | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connection.connection_made(transport)  # type: ignore[arg-type]

    def connection_lost(self, exc: Exception | None) -> None:
        self._into = None
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def get_buffer(self, sizehint: int) -> memoryview:
        self._into = self._connection.space()
        return self._shared if self._into is None else self._into

    def buffer_updated(self, nbytes: int) -> None:
        if self._into is None:
            self._connection.data_received(self._shared[:nbytes])
        else:
            self._into = None
            self._connection.filled(nbytes)
