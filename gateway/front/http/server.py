"""HTTP/1.1 for a front: uvicorn's server and protocol, with hot requests answered where they are parsed.

uvicorn manages the connections and passes every cold request to the admin app. A hot one is a HotRequest instead
of uvicorn's own cycle, on the same connection and in the same order.

Bytes are received without a copy: into one buffer for all connections, whose content is processed before the next
read, or, for a large body, directly into that body's buffer.

A client repeats the same few heads. A head that is byte for byte the same as one that the parser has accepted before
skips the parser.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn

from gateway.domain.request_record import Observer
from gateway.engine.protocol import Engine
from gateway.errors import NotAllowed
from gateway.front.base.access import Access
from gateway.front.base.body import App, Receive, Scope, Send
from gateway.front.base.cors import Cors
from gateway.front.base.limits import Limits
from gateway.front.base.request_ids import NamedApp
from gateway.front.http.buffered_receiver import BufferedReceiver
from gateway.front.http.connection import HttpConnection
from gateway.front.http.cors_app import CorsApp
from gateway.front.http.handshakes import Handshakes
from gateway.front.http.observed_app import ObservedApp
from gateway.front.http.open_connections import UNLIMITED, ConnectionLimits
from gateway.front.http.shared_state import KEEP_ALIVE_S, SharedState
from gateway.front.http.states import Receiving
from gateway.process.tls import ServerTls

if TYPE_CHECKING:
    from gateway.front.fast_path import FastPath


_DATE_S = 1.0  # the resolution of the Date header


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: the supervisor handles signals."""

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        fallback: App,
        access: Access | None = None,
        fast_path: "FastPath | None" = None,
        tls: ServerTls | None = None,
        connection_limits: ConnectionLimits = UNLIMITED,
        observer: Observer | None = None,
        cors: Cors | None = None,
    ) -> None:
        """`access` checks hot requests; `fallback` serves the others and checks access itself.

        Without `tls`, connections are not encrypted.

        `fast_path` takes the usual requests. `observer` gets the record of each request. With `cors`, web pages of
        other origins may read answers.
        """
        shared = self._shared = SharedState(engine, limits, access, connection_limits, observer, cors)
        if fast_path is not None:
            shared.fast_path = fast_path
            fast_path.serve_http(shared, Receiving.AT_BOUNDARY)
        self._connect = partial(_connect, shared)
        app: App = _hot_methods_only(shared, fallback)
        if cors is not None:
            app = CorsApp(app, cors)
        app = NamedApp(app)
        config = uvicorn.Config(
            app if observer is None else ObservedApp(app, observer),
            http=self._connect,  # type: ignore[arg-type]  # uvicorn calls it like a class
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            headers=[] if cors is None else cors.defaults,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        super().__init__(config)
        self._tls, self._stopping = tls, asyncio.Event()
        self._handshake_limits = limits.header_timeout_s, connection_limits.connections

    def stop(self) -> None:
        """Have `serve` end: it closes what listens, and waits for the requests in progress."""
        self.should_exit = True
        self._stopping.set()

    async def main_loop(self) -> None:
        """Renew the Date header each second until `stop`.

        uvicorn's own method looks ten times a second whether it should end. On a core that a model uses, each look is
        a switch, and finds its caches cold.
        """
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DATE_S):
                    await self._stopping.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections. uvicorn's own method does not limit TLS handshakes as the headers of requests."""
        await self.lifespan.startup()
        config, loop = self.config, asyncio.get_running_loop()
        connect: Callable[..., asyncio.BaseProtocol]
        connect = partial(self._connect, config=config, server_state=self.server_state, app_state={})
        if self._tls is not None:
            connect = Handshakes(self._tls, *self._handshake_limits, connect).accept
        self.servers = [await loop.create_server(connect, sock=sock, backlog=config.backlog) for sock in sockets or []]
        self.started = True

    def disable_keep_alive(self) -> None:
        """Close each connection with its next answer, so that clients send further requests elsewhere."""
        self._shared.keep_alive = False
        if self._shared.fast_path is not None:
            self._shared.fast_path.keep_alive = False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _hot_methods_only(shared: SharedState, fallback: App) -> App:
    """`fallback`, except that it answers 405 to a request for a hot path with a method that the path does not allow."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        route = shared.route(scope["raw_path"]) if scope["type"] == "http" else None
        if route is not None:
            allowed = b", ".join(route.dialect.methods)
            methods = " or ".join(method.decode() for method in route.dialect.methods)
            body = route.dialect.encode_error(NotAllowed(f"this path accepts {methods}, not {scope['method']}"))
            headers = [
                (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), (b"allow", allowed),
            ]  # fmt: skip
            await send({"type": "http.response.start", "status": 405, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        else:
            await fallback(scope, receive, send)

    return app


def _connect(shared: SharedState, certificate: Sequence[str] = (), **arguments: Any) -> asyncio.BufferedProtocol:
    connection = HttpConnection(shared, certificate, **arguments)
    shared.watch(connection.connections)
    if shared.fast_path is not None:
        return shared.fast_path.receiver(connection)
    return BufferedReceiver(connection, shared.receive_buffer)
