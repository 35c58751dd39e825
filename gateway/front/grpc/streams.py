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
from typing import TYPE_CHECKING, Any

from gateway.domain.request_record import Observer
from gateway.front.base.access import Access
from gateway.front.base.grpc_method import Service
from gateway.front.grpc.port import GuardedPort
from gateway.front.grpc.relay import End

if TYPE_CHECKING:
    import grpc

log = logging.getLogger("front")


class StreamServer:
    """The native server connects once, and keeps the connection, so its bytes are passed on here for good."""

    def __init__(
        self,
        services: Sequence[Service],
        options: Sequence[tuple[str, Any]],
        access: Access | None,
        port: GuardedPort | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._services, self._options, self._access, self._port = services, options, access, port
        self._observer = observer
        self._folder = ""
        self._listener: asyncio.Server | None = None
        self._server: asyncio.Task[grpc.aio.Server] | None = None

    async def listen(self) -> str:
        """Listen, and return the path of the socket."""
        self._folder = tempfile.mkdtemp(prefix="grpc-")
        self._listener = await asyncio.get_running_loop().create_unix_server(lambda: _Near(self), self._path("front"))
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
        server = grpcio.grpcio_server(self._services, self._options, self._access, self._port, self._observer)
        server.add_insecure_port(f"unix:{self._path('grpcio')}")
        await server.start()
        return server

    async def connect(self, near: End) -> None:
        """Connect a connection of the native server to grpcio, which is started first if necessary."""
        if self._server is None:
            self._server = asyncio.create_task(self._start())
        loop = asyncio.get_running_loop()
        try:
            await asyncio.shield(self._server)
            _, far = await loop.create_unix_connection(End, self._path("grpcio"))
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


class _Near(End):
    """A connection of the native server."""

    def __init__(self, server: StreamServer) -> None:
        super().__init__()
        self._server = server
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connecting = asyncio.create_task(self._server.connect(self))
