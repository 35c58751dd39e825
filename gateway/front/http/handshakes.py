"""TLS for connections to a front's HTTP server, with a limit on handshakes that are not complete.

Such a connection is not counted among the open ones yet, and takes about 50 KiB and a descriptor. If there are too
many, the oldest is closed: an honest client needs some milliseconds, and an attacker's is among the oldest.
"""

import asyncio
from collections.abc import Callable

from uvloop.loop import SSLProtocol  # type: ignore[attr-defined]

from gateway.process.tls import ServerTls, certificate_names

# With a lower limit, a burst of clients on slow networks is disconnected; a higher one is memory that attackers can
# occupy.
_MAX_HANDSHAKES = 1000
# The burst of clients that a front with a small limit of connections accepts nevertheless.
_MIN_HANDSHAKES = 64
# How long a client may take to read its last answer. Without TLS, closing a connection sets no limit; a short one would
# cut off large answers to slow clients.
_FLUSH_S = 3600


class Handshakes(asyncio.Protocol):
    """Creates the TLS of connections, and `connect` creates the protocol above it when the handshake is complete.

    Until then, this is the protocol above it, for all connections.

    connect      gets the names in the client's certificate, as `certificate`
    connections  the limit of open ones; where that is low, so is the number of descriptors for handshakes
    """

    def __init__(
        self, tls: ServerTls, timeout_s: float, connections: int, connect: Callable[..., asyncio.BaseProtocol]
    ) -> None:
        self.context = tls.context("http/1.1")
        self.timeout_s = timeout_s
        self._most = min(_MAX_HANDSHAKES, max(_MIN_HANDSHAKES, connections // 8))
        self._connect = connect
        self._incomplete: dict[_SecureConnection, asyncio.Transport] = {}  # in the order of arrival

    def accept(self) -> asyncio.BaseProtocol:
        connection: asyncio.BaseProtocol = _SecureConnection(self)
        return connection

    def begin(self, connection: "_SecureConnection", transport: asyncio.Transport) -> None:
        if len(self._incomplete) >= self._most:
            self._incomplete.pop(next(iter(self._incomplete))).abort()
        self._incomplete[connection] = transport

    def end(self, connection: "_SecureConnection") -> None:
        self._incomplete.pop(connection, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called when a handshake is complete."""
        self.end(transport.get_extra_info("uvloop.sslproto"))
        protocol = self._connect(certificate=certificate_names(transport.get_extra_info("peercert")))
        transport.set_protocol(protocol)
        protocol.connection_made(transport)


class _SecureConnection(SSLProtocol):  # type: ignore[misc]
    """What uvloop itself creates for a server with TLS, which does not say when a handshake begins and fails."""

    def __init__(self, handshakes: Handshakes) -> None:
        super().__init__(
            asyncio.get_running_loop(),
            handshakes,
            handshakes.context,
            None,
            server_side=True,
            ssl_handshake_timeout=handshakes.timeout_s,
            ssl_shutdown_timeout=_FLUSH_S,
        )
        self._handshakes = handshakes

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._handshakes.begin(self, transport)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._handshakes.end(self)
        super().connection_lost(error)
