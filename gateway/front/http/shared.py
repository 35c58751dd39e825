"""What the connections of one HTTP server have in common, and what they remember for each other."""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gateway.engine.protocol import Engine
from gateway.front.base import body
from gateway.front.base.access import Access
from gateway.front.base.dialect import Route
from gateway.front.base.limits import Limits
from gateway.front.http.exchange import Head
from gateway.front.http.routes import match
from runtimes.bounded_cache import BoundedCache

KEEP_ALIVE_S = 75
# Small, so that little of a large body comes with its head.
_RECEIVE_BYTES = 1 << 16
_MAX_ROUTES = _MAX_HEADS = 1024
# Longer ones are not remembered: what clients can have kept shall stay small.
MAX_HEAD_LENGTH = 2048
# How often connections are looked at, of what they may at most be silent.
_LOOKS = 10


class Shared:
    """What the connections of one server have in common."""

    def __init__(self, engine: Engine, limits: Limits, access: Access | None = None) -> None:
        self.engine, self.limits, self.access = engine, limits, access
        self.keeps_alive = True
        self.buffer = memoryview(bytearray(_RECEIVE_BYTES))
        self._routes: BoundedCache[bytes, Route | None] = BoundedCache(_MAX_ROUTES)
        # Heads of hot requests that have a short body and keep their connection, as they came.
        self.heads: BoundedCache[bytes, Head] = BoundedCache(_MAX_HEADS)
        self._default_headers: list[tuple[bytes, bytes]] = []
        self._beginnings: dict[tuple[int, bytes], bytes] = {}
        self._looking: asyncio.TimerHandle | None = None

    def watch(self, connections: set[Any]) -> None:
        """See to it that these, of which one is new, do not stay for ever where nothing comes."""
        if self._looking is None:
            self._look_later(connections)

    def route(self, url: bytes) -> Route | None:
        try:
            return self._routes.entries[url]
        except KeyError:
            pass
        # Clients may name the host in it too, as proxies are asked.
        found = match(url if url.startswith(b"/") else httptools.parse_url(url).path or b"")
        if len(url) <= MAX_HEAD_LENGTH:
            self._routes.put(url, found)
        return found

    def beginning(self, status: int, content_type: bytes, defaults: list[tuple[bytes, bytes]]) -> bytes:
        """Of an answer, up to its length. uvicorn makes new default headers each second, for the date."""
        if defaults is not self._default_headers:
            self._default_headers = defaults
            self._beginnings.clear()
        made = self._beginnings.get((status, content_type))
        if made is None:
            headers = b"".join(b"%b: %b\r\n" % header for header in (*defaults, (b"content-type", content_type)))
            made = self._beginnings[status, content_type] = STATUS_LINE[status] + headers + b"content-length: "
        return made

    def _look_later(self, connections: set[Any]) -> None:
        seconds = min(body.PAUSE_S, KEEP_ALIVE_S) / _LOOKS
        self._looking = asyncio.get_running_loop().call_later(seconds, self._look, connections)

    def _look(self, connections: set[Any]) -> None:
        """One timer for all connections: one each, set and cleared for each request, would cost more than parsing."""
        self._looking = None
        now = asyncio.get_running_loop().time()
        for connection in list(connections):
            connection.look(now)
        if connections:
            self._look_later(connections)
