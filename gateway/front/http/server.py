"""HTTP/1.1 for a front: uvicorn's server and protocol, with hot requests answered where they are parsed.

uvicorn keeps the connections, and takes every request that is not hot to the FastAPI app. A hot one
is an Exchange in place of uvicorn's own cycle, on the same connection and in the same order. Bytes
are received without a copy: into one buffer for all connections, whose content has been dealt with
before the next read; or, once a large body is on its way, to where that body belongs. The requests of
one client have the same few heads again and again: one that the parser has taken before, byte by
byte the same, needs no parser.
"""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import uvicorn

from gateway.engine.protocol import Engine
from gateway.errors import NotAllowed
from gateway.front.base.access import Access
from gateway.front.base.body import App, Receive, Scope, Send
from gateway.front.base.limits import Limits
from gateway.front.http.connection import HttpConnection
from gateway.front.http.intake import Intake
from gateway.front.http.shared import KEEP_ALIVE_S, Shared


class HttpServer(uvicorn.Server):
    """uvicorn, with the signals left to the supervisor."""

    def __init__(self, engine: Engine, limits: Limits, fallback: App, access: Access | None = None) -> None:
        """`access` is asked about hot requests; `fallback` asks for its own."""
        shared = self._shared = Shared(engine, limits, access)
        config = uvicorn.Config(
            _hot_methods_only(shared, fallback),
            http=partial(_connect, shared),  # type: ignore[arg-type]  # called as a class would be
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        super().__init__(config)

    def let_go(self) -> None:
        """Close each connection with its next answer: who still sends requests shall send them elsewhere."""
        self._shared.keeps_alive = False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _hot_methods_only(shared: Shared, fallback: App) -> App:
    """`fallback`, but for requests to a hot path by a method that it does not take."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        route = shared.route(scope["raw_path"]) if scope["type"] == "http" else None
        if route is not None:
            allowed = b", ".join(route.dialect.methods)
            wanted = " or ".join(method.decode() for method in route.dialect.methods)
            told = route.dialect.tell(NotAllowed(f"this path takes {wanted}, not {scope['method']}"))
            headers = [
                (b"content-type", b"application/json"), (b"content-length", b"%d" % len(told)), (b"allow", allowed),
            ]  # fmt: skip
            await send({"type": "http.response.start", "status": 405, "headers": headers})
            await send({"type": "http.response.body", "body": told})
        else:
            await fallback(scope, receive, send)

    return app


def _connect(shared: Shared, **arguments: Any) -> Intake:
    connection = HttpConnection(shared, **arguments)
    shared.watch(connection.connections)
    return Intake(connection, shared.buffer)
