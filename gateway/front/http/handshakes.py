"""TLS for connections to a front's HTTP server, with a limit on handshakes that are not complete.

Such a connection is not counted among the open ones yet, and takes about 50 KiB and a descriptor. If there are too
many, the oldest is closed: an honest client needs some milliseconds, and an attacker's is among the oldest.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

from uvloop.loop import SSLProtocol  # type: ignore[attr-defined]

from gateway.process.tls import ServerTls

# With a lower limit, a burst of clients on slow networks is disconnected; a higher one is memory that attackers can
# occupy.
_MAX_HANDSHAKES = 1000
# The burst of clients that a front with a small limit of connections accepts nevertheless.
_MIN_HANDSHAKES = 64
# How long a client may take to read its last answer. Without TLS, closing a connection sets no limit; a short one would
# cut off large answers to slow clients.
_FLUSH_S = 3600


class Handshakes:
    """Creates the protocols of connections: TLS, above which `connect` creates the protocol for HTTP.

    connections  the limit of open ones; where that is low, so is the number of descriptors for handshakes
    """

    def __init__(
        self, tls: ServerTls, timeout_s: float, connections: int, connect: Callable[[], asyncio.BaseProtocol]
    ) -> None:
        self._context = tls.context("http/1.1")
        self._timeout_s = timeout_s
        self._most = min(_MAX_HANDSHAKES, max(_MIN_HANDSHAKES, connections // 8))
        self._connect = connect
        self._incomplete: dict[_SecureConnection, asyncio.Transport] = {}  # in the order of arrival

    def protocol(self) -> asyncio.BaseProtocol:
        connection: asyncio.BaseProtocol = _SecureConnection(self, self._connect(), self._context, self._timeout_s)
        return connection

    def begin(self, connection: "_SecureConnection", transport: asyncio.Transport) -> None:
        if len(self._incomplete) >= self._most:
            self._incomplete.pop(next(iter(self._incomplete))).abort()
        self._incomplete[connection] = transport

    def end(self, connection: "_SecureConnection") -> None:
        self._incomplete.pop(connection, None)


class _SecureConnection(SSLProtocol):  # type: ignore[misc]
    """What uvloop itself creates for a server with TLS, which does not say when a handshake begins and ends."""

    def __init__(
        self, handshakes: Handshakes, protocol: asyncio.BaseProtocol, context: ssl.SSLContext, timeout_s: float
    ) -> None:
        super().__init__(
            asyncio.get_running_loop(),
            protocol,
            context,
            None,
            server_side=True,
            ssl_handshake_timeout=timeout_s,
            ssl_shutdown_timeout=_FLUSH_S,
        )
        self._handshakes = handshakes

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._handshakes.begin(self, transport)
        super().connection_made(transport)

    def _get_app_transport(self, context: Any = None) -> Any:
        """uvloop calls this when the handshake is complete, to create the transport for HTTP."""
        self._handshakes.end(self)
        return super()._get_app_transport(context)

    def connection_lost(self, error: Exception | None) -> None:
        self._handshakes.end(self)
        super().connection_lost(error)
