"""The metrics port: serves /metrics from a thread of the supervisor.

It is a small HTTP server of its own, because Python's takes a MiB of memory for parsing e-mail and writing web pages.
"""

import logging
import re
import socket
import socketserver
import sys
import zlib
from threading import BoundedSemaphore, Thread
from typing import Any

from gateway.metrics import exposition
from gateway.metrics.exposition import Collect

log = logging.getLogger("metrics")

# How often the server checks whether it should stop. `shutdown` waits that long at most; a shorter interval wakes the
# process more often.
_POLL_S = 0.1


# Longest line of a request, and number of lines of its head, as in Python's own server.
_MAX_LINE, _MAX_LINES = 1 << 16, 100
_GZIP = re.compile(rb"accept-encoding:[^\r\n]*\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))", re.IGNORECASE)
_GZIP_BITS = 31  # zlib's sign for gzip's format


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Serves on a socket that already listens.

    Each connection uses a thread and a file descriptor of the supervisor. Therefore connections beyond
    `max_connections` are closed immediately, and idle ones after `idle_timeout_s`.
    """

    daemon_threads = True

    def __init__(self, sock: socket.socket, collect: Collect, max_connections: int, idle_timeout_s: float) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = sock
        self.collect = collect
        self.idle_timeout_s = idle_timeout_s
        self._free = BoundedSemaphore(max_connections)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self._free.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception:
            self.handle_error(request, client_address)
        finally:
            # Released first, so that a client that sees its connection close can open the next one.
            self._free.release()
            self.shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            log.exception("a scrape failed")


class _Handler(socketserver.StreamRequestHandler):
    """Answers one request and closes the connection. Every path has the metrics."""

    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(self.server.idle_timeout_s)

    def handle(self) -> None:
        method, _, rest = self._line().partition(b" ")
        if not rest.rstrip().endswith((b" HTTP/1.0", b" HTTP/1.1")):
            return self._answer("400 Bad Request", b"this port serves HTTP/1.1\n")
        head = []
        while line := self._line().rstrip():
            head.append(line)
            if len(head) > _MAX_LINES:
                return self._answer("431 Request Header Fields Too Large", b"too many headers\n")
        if method not in (b"GET", b"HEAD"):
            return self._answer("405 Method Not Allowed", b"use GET\n", "Allow: GET, HEAD")
        body = exposition.text(self.server.collect()).encode()
        headers = [f"Content-Type: {exposition.CONTENT_TYPE}"]
        if any(_GZIP.match(line) for line in head):
            packer = zlib.compressobj(wbits=_GZIP_BITS)
            body = packer.compress(body) + packer.flush()
            headers.append("Content-Encoding: gzip")
        self._answer("200 OK", body, *headers, with_body=method == b"GET")

    def _line(self) -> bytes:
        """Read a line of the head. Raises OSError if it is too long, or the client has closed the connection."""
        line = self.rfile.readline(_MAX_LINE)
        if not line.endswith(b"\n"):
            raise OSError("the head of a request ends early")
        return line

    def _answer(self, status: str, body: bytes, *headers: str, with_body: bool = True) -> None:
        lines = [f"HTTP/1.0 {status}", *headers, f"Content-Length: {len(body)}", "Connection: close", "", ""]
        self.wfile.write("\r\n".join(lines).encode() + (body if with_body else b""))


def serve_metrics(
    sock: socket.socket, collect: Collect, max_connections: int = 64, idle_timeout_s: float = 10.0
) -> socketserver.BaseServer:
    """Serve /metrics on a separate thread, so that scrapes do not wait for the supervisor's event loop."""
    server = _Server(sock, collect, max_connections, idle_timeout_s)
    Thread(target=server.serve_forever, args=(_POLL_S,), name="metrics", daemon=True).start()
    return server
