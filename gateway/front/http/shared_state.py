"""The state that the connections of one HTTP server share: its options, its caches and its timer."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gateway.domain.request_record import Observer
from gateway.engine.protocol import Engine
from gateway.front.base import body
from gateway.front.base.access import Access
from gateway.front.base.cors import Cors
from gateway.front.base.dialect import Route
from gateway.front.base.limits import Limits
from gateway.front.http.head_cache import MAX_HEAD_LENGTH, HeadCache
from gateway.front.http.open_connections import UNLIMITED, ConnectionLimits, OpenConnections
from gateway.front.http.reading_threads import ReadingThreads
from gateway.front.http.routes import match
from runtimes.bounded_cache import BoundedCache

if TYPE_CHECKING:
    from gateway.front.fast_path import FastPath

# nginx's default. Shorter than a load balancer's own idle timeout, it makes the balancer send requests on connections
# that are being closed here, and report 502 for them; longer, idle clients occupy descriptors for that long.
KEEP_ALIVE_S = 75
# Small, because whatever arrives together with the head of a large body is copied once more. Smaller buffers cost more
# system calls for bodies that are not received directly.
_RECEIVE_BYTES = 1 << 16
# Clients of one server use few paths. With a smaller cache, several hundred models evict each other's entries, and each
# path is matched; a larger one is memory that one client can fill, at most this times MAX_HEAD_LENGTH.
_MAX_ROUTES = 1024
# Certificates whose heads are remembered, and for how many heads of each. Together that is as much memory as clients
# without certificates can fill, a few times.
_MAX_CERTIFICATES, _HEADS_OF_CERTIFICATE = 256, 16
# How many checks are made within the shortest timeout: a timeout may be exceeded by a tenth, and an idle server with
# many connections visits all of them every few seconds only.
_CHECKS_PER_TIMEOUT = 10


class SharedState:
    """Shared by all connections of one server."""

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        access: Access | None = None,
        connection_limits: ConnectionLimits = UNLIMITED,
        observer: Observer | None = None,
        cors: Cors | None = None,
    ) -> None:
        self.engine, self.limits, self.access, self.observer = engine, limits, access, observer
        self.cors = cors
        self.open_connections = OpenConnections(connection_limits)
        self.keep_alive = True
        self.fast_path: FastPath | None = None  # set if it is used
        self.receive_buffer = memoryview(bytearray(_RECEIVE_BYTES))
        self._routes: BoundedCache[bytes, Route | None] = BoundedCache(_MAX_ROUTES)
        self.heads = HeadCache()
        self.threads = ReadingThreads(ThreadPoolExecutor(thread_name_prefix="reading"))
        self._heads_of: BoundedCache[Sequence[str], HeadCache] = BoundedCache(_MAX_CERTIFICATES)
        self._default_headers: list[tuple[bytes, bytes]] = []
        self._response_prefixes: dict[tuple[int, bytes], bytes] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, connections: set[Any]) -> None:
        """Check timeouts of these connections regularly, until none is left."""
        if self._timer is None:
            self._start_timer(connections)

    def heads_of(self, certificate: Sequence[str]) -> HeadCache:
        """Return the heads of clients whose certificate has these names: the same head of others is not of theirs."""
        if not certificate or self.access is None:
            return self.heads
        heads = self._heads_of.entries.get(certificate)
        if heads is None:
            heads = HeadCache(_HEADS_OF_CERTIFICATE)
            self._heads_of.put(certificate, heads)
        return heads

    def route(self, url: bytes) -> Route | None:
        try:
            return self._routes.entries[url]
        except KeyError:
            pass
        # The target may be an absolute URL, as sent to proxies (RFC 9112, section 3.2.2).
        path = url if url.startswith(b"/") else httptools.parse_url(url).path or b""
        found = match(path, self.engine.deployment.predict_route)
        if len(url) <= MAX_HEAD_LENGTH:
            self._routes.put(url, found)
        return found

    def response_prefix(self, status: int, content_type: bytes, defaults: list[tuple[bytes, bytes]]) -> bytes:
        """Return the head of an answer, as far as it does not depend on the content.

        uvicorn creates a new list of default headers each second, because they contain the date.
        """
        if defaults is not self._default_headers:
            self._default_headers = defaults
            self._response_prefixes.clear()
        prefix = self._response_prefixes.get((status, content_type))
        if prefix is None:
            headers = b"".join(b"%b: %b\r\n" % header for header in (*defaults, (b"content-type", content_type)))
            prefix = STATUS_LINE[status] + headers
            self._response_prefixes[status, content_type] = prefix
        return prefix

    def _start_timer(self, connections: set[Any]) -> None:
        seconds = min(body.BODY_IDLE_TIMEOUT_S, KEEP_ALIVE_S) / _CHECKS_PER_TIMEOUT
        self._timer = asyncio.get_running_loop().call_later(seconds, self._check_timeouts, connections)

    def _check_timeouts(self, connections: set[Any]) -> None:
        """One timer serves all connections: setting and clearing one per request would cost more than parsing it."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        for connection in list(connections):
            connection.check_timeouts(now)
        if connections:
            self._start_timer(connections)
