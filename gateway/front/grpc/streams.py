"""A grpcio server that starts with the first call for it.

The native server hands calls that it cannot serve, which are bidirectional streams and unknown methods, to another
server at a Unix socket. That server needs grpcio, which takes 16 MiB of memory, and which most fronts never need. So
this class listens at the socket in its place, and starts it when the native server connects.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from gateway.front.base.access import Access
from gateway.front.base.grpc_method import Service

if TYPE_CHECKING:
    import grpc

log = logging.getLogger("front")


class StreamServer:
    """The native server connects once, and keeps the connection, so its bytes are passed on here for good."""

    def __init__(self, services: Sequence[Service], options: Sequence[tuple[str, Any]], access: Access | None) -> None:
        self._services, self._options, self._access = services, options, access
        self._folder = ""
        self._listener: asyncio.Server | None = None
        self._server: asyncio.Task[grpc.aio.Server] | None = None

    async def listen(self) -> str:
        """Listen, and return the path of the socket."""
        self._folder = tempfile.mkdtemp(prefix="grpc-")
        self._listener = await asyncio.get_running_loop().create_unix_server(lambda: _End(self), self._path("front"))
        return self._path("front")

    async def stop(self, grace: float | None) -> None:
        """Reject new calls, and wait up to `grace` seconds for those in progress."""
        if self._listener is not None:
            self._listener.close()
        if self._server is not None:
            with contextlib.suppress(Exception):  # `connect` logs why it could not start
                await (await self._server).stop(grace)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _start(self) -> "grpc.aio.Server":
        # Imported in a thread, because it takes a tenth of a second, in which other requests should be served.
        grpcio = await asyncio.to_thread(_import_grpcio)
        server = grpcio.grpcio_server(self._services, self._options, self._access)
        server.add_insecure_port(f"unix:{self._path('grpcio')}")
        await server.start()
        return server

    async def connect(self, near: "_End") -> None:
        """Connect a connection of the native server to grpcio, which is started first if necessary."""
        if self._server is None:
            self._server = asyncio.create_task(self._start())
        loop = asyncio.get_running_loop()
        try:
            await asyncio.shield(self._server)
            _, far = await loop.create_unix_connection(_End, self._path("grpcio"))
        except Exception:
            log.exception("the gRPC server for streams could not be started")
            self._server = None  # the next connection tries again
            near.close()
            return
        near.join(far)

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)


def _import_grpcio() -> Any:
    from gateway.front.grpc import grpcio

    return grpcio


class _End(asyncio.Protocol):
    """One of two connections, each of which passes on to the other what it receives.

    It stops reading while the other one cannot write, or is not connected yet. If one is closed, so is the other.
    """

    def __init__(self, server: StreamServer | None = None) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._other: asyncio.Transport | None = None
        self._early: list[bytes] = []  # received before `join`
        self._connecting: asyncio.Task[None] | None = None

    def join(self, other: "_End") -> None:
        """Connect both. If one has been closed, the other is."""
        if self._transport is None or other._transport is None:
            self.close()
            other.close()
            return
        self._other, other._other = other._transport, self._transport
        self._start()
        other._start()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none of asyncio's classes
        if self._server is not None:
            self._connecting = asyncio.create_task(self._server.connect(self))

    def data_received(self, data: bytes) -> None:
        if self._other is None:
            assert self._transport is not None
            self._transport.pause_reading()
            self._early.append(data)
        else:
            self._other.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._other is not None:
            self._other.close()

    def pause_writing(self) -> None:
        if self._other is not None:
            self._other.pause_reading()

    def resume_writing(self) -> None:
        if self._other is not None:
            self._other.resume_reading()

    def _start(self) -> None:
        assert self._transport is not None
        assert self._other is not None
        self._other.writelines(self._early)
        self._early.clear()
        self._transport.resume_reading()
