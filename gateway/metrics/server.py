"""What the supervisor sees itself: models, workers, processes, GPUs; and the metrics port."""

import logging
import socket
import socketserver
import sys
from threading import BoundedSemaphore, Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

log = logging.getLogger("metrics")

# The metrics port looks so often whether it is to end; whoever ends it waits for that.
_TURN_S = 0.1


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """Over a socket that is bound and listens already.

    Each connection has a thread and a descriptor of the supervisor's: one beyond `most` is closed at
    once, and so is one that lets `patience_s` pass without a word.
    """

    daemon_threads = True

    def __init__(self, sock: socket.socket, most: int, patience_s: float) -> None:
        super().__init__(("", 0), _Quiet, bind_and_activate=False)
        self.socket.close()
        self.socket = sock
        self.patience_s = patience_s
        self._free = BoundedSemaphore(most)
        self.server_bind()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self._free.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception:
            self.handle_error(request, client_address)
        finally:
            # First, so that who sees the end of a connection can have the next one.
            self._free.release()
            self.shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            log.exception("a scrape failed")

    def server_bind(self) -> None:
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.setup_environ()

    def server_activate(self) -> None:
        pass


class _Quiet(WSGIRequestHandler):
    def setup(self) -> None:
        super().setup()
        assert isinstance(self.server, _Server)
        self.connection.settimeout(self.server.patience_s)

    def log_message(self, format: str, *args: Any) -> None:
        """A line per scrape is no news."""


def serve_metrics(
    sock: socket.socket, registry: CollectorRegistry, most_connections: int = 64, patience_s: float = 10.0
) -> WSGIServer:
    """Serve /metrics on a thread of its own, so that a scrape never waits for the supervisor's loop."""
    server = _Server(sock, most_connections, patience_s)
    server.set_app(make_wsgi_app(registry))
    Thread(target=server.serve_forever, args=(_TURN_S,), name="metrics", daemon=True).start()
    return server
