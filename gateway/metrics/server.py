"""The metrics port: serves /metrics from a thread of the supervisor."""

import io
import json
import logging
import socket
import socketserver
import ssl
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from threading import BoundedSemaphore, Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from gateway.domain.caller import Caller
from gateway.domain.identity import Identity
from gateway.errors import ModelportError, Unauthenticated
from gateway.metrics.exposition import negotiated
from gateway.metrics.selection import select
from gateway.process.tls import certificate_names

log = logging.getLogger("metrics")

# How often the server checks whether it should stop. On Linux, `shutdown` wakes it; elsewhere, it waits that long at
# most. Each check wakes an idle process, or delays a model that runs on the same core.
_POLL_S = 0.5
# What a client without TLS may have sent when its handshake fails.
_RECEIVE_BYTES = 1 << 16


# The headers that have credentials, and their names in WSGI. Where one occurs twice, the server joins the values by a
# comma, which no credentials have.
_CREDENTIALS = (("authorization", "HTTP_AUTHORIZATION"), ("x-api-key", "HTTP_X_API_KEY"))

_CERTIFICATE = "modelport.certificate"

Check = Callable[[Caller], Identity]
_App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """Serves on a socket that already listens.

    Each connection uses a thread and a file descriptor of the supervisor. Therefore connections beyond
    `max_connections` are closed immediately, and idle ones after `idle_timeout_s`.
    """

    daemon_threads = True

    def __init__(
        self, sock: socket.socket, max_connections: int, idle_timeout_s: float, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(("", 0), _QuietHandler, bind_and_activate=False)
        self.socket.close()
        self.socket = sock
        self.idle_timeout_s = idle_timeout_s
        self._tls = tls
        self._free = BoundedSemaphore(max_connections)
        self.server_bind()

    def shutdown(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RD)  # it no longer listens, which wakes the thread that waits for clients
        super().shutdown()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self._free.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            if self._tls is not None:
                request = self._tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
            self.finish_request(request, client_address)
        except Exception:
            self.handle_error(request, client_address)
        finally:
            # Released first, so that a client that sees its connection close can open the next one.
            self._free.release()
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        if isinstance(request, ssl.SSLSocket):
            request.settimeout(0)  # the client's close_notify is not awaited
            with suppress(OSError):
                request.unwrap()
            with suppress(OSError):
                socket.socket.recv(request, _RECEIVE_BYTES)  # otherwise closing resets the connection
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            log.exception("a scrape failed")

    def server_bind(self) -> None:
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.setup_environ()

    def server_activate(self) -> None:
        pass


class _Writer(io.BufferedIOBase):
    """Writes to a client. wsgiref prints a traceback for each client that leaves or does not read, except for this."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        try:
            self._connection.sendall(data)
        except OSError:
            raise ConnectionAbortedError from None
        return len(data)


class _QuietHandler(WSGIRequestHandler):
    def setup(self) -> None:
        super().setup()
        assert isinstance(self.server, _Server)
        self.connection.settimeout(self.server.idle_timeout_s)
        if isinstance(self.connection, ssl.SSLSocket):
            self.connection.do_handshake()
        self.wfile = _Writer(self.connection)

    def get_environ(self) -> dict[str, Any]:
        connection = self.connection
        certificate = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
        return {
            **super().get_environ(),
            "REMOTE_PORT": self.client_address[1],
            _CERTIFICATE: certificate_names(certificate),
        }

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: there is a scrape every few seconds."""


def _app(registry: CollectorRegistry) -> _App:
    app: _App = make_wsgi_app(registry)
    return lambda environ, start_response: app(
        {**environ, "HTTP_ACCEPT": negotiated(environ.get("HTTP_ACCEPT", ""))}, start_response
    )


def _guarded(app: _App, registry: CollectorRegistry, check: Check) -> _App:
    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        headers = [(name, environ[key]) for name, key in _CREDENTIALS if key in environ]
        try:
            peer = f"{environ['REMOTE_ADDR']}:{environ['REMOTE_PORT']}"
            identity = check(Caller(peer, headers, environ[_CERTIFICATE]))
        except ModelportError as error:
            answer = [("Content-Type", "application/json")]
            if isinstance(error, Unauthenticated):
                answer.append(("WWW-Authenticate", error.challenge))
            start_response(f"{error.status} {HTTPStatus(error.status).phrase}", answer)
            return [json.dumps({"error": str(error)}).encode()]
        patterns = identity.patterns("metrics")
        selected = app if "*" in patterns else _app(select(registry, patterns))
        return selected(environ, start_response)

    return guarded


def serve_metrics(
    sock: socket.socket,
    registry: CollectorRegistry,
    max_connections: int = 64,
    idle_timeout_s: float = 10.0,
    tls: ssl.SSLContext | None = None,
    check: Check | None = None,
) -> WSGIServer:
    """Serve /metrics on a separate thread, so that scrapes do not wait for the supervisor's event loop.

    check  returns who sent a request; raises ModelportError if it may not see metrics. None: everyone may
    """
    server = _Server(sock, max_connections, idle_timeout_s, tls)
    app = _app(registry)
    server.set_app(app if check is None else _guarded(app, registry, check))
    Thread(target=server.serve_forever, args=(_POLL_S,), name="metrics", daemon=True).start()
    return server
