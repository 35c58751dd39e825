"""The metrics port: serves /metrics from a thread of the supervisor."""

import logging
import socket
import socketserver
import ssl
import sys
from contextlib import suppress
from threading import BoundedSemaphore, Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

log = logging.getLogger("metrics")

# How often the server checks whether it should stop. `shutdown` waits that long at most; a shorter interval wakes the
# process more often.
_POLL_S = 0.1
# What a client without TLS may have sent when its handshake fails.
_RECEIVE_BYTES = 1 << 16


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


class _QuietHandler(WSGIRequestHandler):
    def setup(self) -> None:
        super().setup()
        assert isinstance(self.server, _Server)
        self.connection.settimeout(self.server.idle_timeout_s)
        if isinstance(self.connection, ssl.SSLSocket):
            self.connection.do_handshake()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: there is a scrape every few seconds."""


def serve_metrics(
    sock: socket.socket,
    registry: CollectorRegistry,
    max_connections: int = 64,
    idle_timeout_s: float = 10.0,
    tls: ssl.SSLContext | None = None,
) -> WSGIServer:
    """Serve /metrics on a separate thread, so that scrapes do not wait for the supervisor's event loop."""
    server = _Server(sock, max_connections, idle_timeout_s, tls)
    server.set_app(make_wsgi_app(registry))
    Thread(target=server.serve_forever, args=(_POLL_S,), name="metrics", daemon=True).start()
    return server
