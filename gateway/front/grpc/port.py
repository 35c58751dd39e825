"""The port in front of the native gRPC server: it speaks TLS, and keeps floods from the server.

The native server listens at a Unix socket, in a folder that only this user can enter, so that no client gets past the
port. The bytes of each connection go through the front's event loop.
"""

import asyncio
import contextlib
import heapq
import logging
import resource
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from gateway.engine.protocol import BodyReservation
from gateway.front.base.limits import Limits
from gateway.front.grpc.goaway import ServerEnd
from gateway.front.grpc.guard import Guard, Policy, Violation
from gateway.front.grpc.messages import Refusals
from gateway.front.grpc.relay import End
from gateway.front.grpc.sender import Sender, SenderHeader
from gateway.process.tls import ServerTls, certificate_names

log = logging.getLogger("front")

# How often slow clients are looked for.
_SWEEP_S = 1.0
# Clients that have not begun to speak HTTP/2: one more, and the oldest of them is disconnected. An honest client needs
# some milliseconds, so more of them would only let an attacker use more memory, about 75 KiB each with TLS.
_MAX_SILENT = 1000
# Of the descriptors that the process may have open, the part for clients, which need two each. REST has three quarters.
_PART_OF_FILES = 12
# A part of the clients is disconnected at once when there are too many, because all are looked at to find them.
_PART_CLOSED = 64
_BACKLOG = 1024
# How often disconnections are logged, because a client could fill the log.
_LOG_S = 10.0
_ALPN = "h2"
# How long a client may take to read its last answer over TLS. Without TLS, closing a connection sets no limit; a short
# one would cut off large answers to slow clients.
_SHUTDOWN_S = 3600.0


class GuardedPort:
    """Listens, and connects each client to the server.

    reserve   returns a reservation for a message that is being received
    identify  whether `peer` and `certificate` must work; if so, each call gets a header that says who has sent it
    """

    def __init__(
        self, limits: Limits, reserve: Callable[[], BodyReservation], tls: ServerTls | None, identify: bool
    ) -> None:
        self.refusals = Refusals()
        self.policy = Policy(limits, self.refusals, reserve)
        self._tls = None if tls is None else tls.context(_ALPN)
        self._header = SenderHeader() if identify else None
        self._socket: socket.socket | None = None
        self._loop = asyncio.get_event_loop()
        self._silent: dict[Client, float] = {}  # and when each was accepted, in this order
        self._clients: set[Client] = set()
        self._max_clients = max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _PART_OF_FILES)
        self.sweeps = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._sweeping: asyncio.TimerHandle | None = None
        self._disconnected, self._logged_at = 0, -_LOG_S
        self.path = ""

    def bind(self, address: str, reuse_port: bool) -> int:
        """Bind HOST:PORT, and return the port. Raises OSError."""
        host, _, port = address.rpartition(":")
        family, kind, protocol, _, name = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        self._socket = socket.socket(family, kind, protocol)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind(name)
        bound: int = self._socket.getsockname()[1]
        return bound

    def start(self, path: str) -> None:
        """Accept clients, and connect them to the server at the Unix socket `path`."""
        assert self._socket is not None
        self.path = path
        self._socket.setblocking(False)
        self._socket.listen(_BACKLOG)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._accept)
        self._sweeping = self._loop.call_later(_SWEEP_S, self._sweep)

    def go_away(self) -> None:
        """Have the clients that are connected send further calls elsewhere. Those that they are sending are served."""
        for client in list(self._clients):
            client.go_away()

    def stop_accepting(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    async def close(self, seconds: float) -> None:
        """Wait up to `seconds` until clients have what the closed server has sent, and close their connections."""
        self.stop_accepting()
        if self._sweeping is not None:
            self._sweeping.cancel()
        for client in list(self._silent):
            self.lost(client)
            client.abort()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), seconds)
        for client in list(self._clients):
            client.abort()

    def peer(self, metadata: Sequence[tuple[str, Any]]) -> str:
        """Return the address of who sent the call with this metadata, such as ipv4:127.0.0.1:1234.

        A call that did not come through this port has none.
        """
        return self._sender(metadata).peer

    def certificate(self, metadata: Sequence[tuple[str, Any]]) -> Sequence[str]:
        """Return the names in the certificate of the client that sent the call with this metadata."""
        return self._sender(metadata).certificate

    def _sender(self, metadata: Sequence[tuple[str, Any]]) -> Sender:
        return Sender() if self._header is None else self._header.sender(metadata)

    def _accept(self) -> None:
        for _ in range(_BACKLOG):
            assert self._socket is not None
            try:
                accepted, _ = self._socket.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError as error:  # there are too many open files, for example
                log.warning("gRPC clients cannot be accepted for now: %s", error.strerror)
                self._loop.remove_reader(self._socket)
                self._loop.call_later(_SWEEP_S, self._resume, self._socket)
                return
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client = Client(self)
            self._silent[client] = time.monotonic()
            client.opening = self._loop.create_task(self._open(client, accepted))
            if len(self._silent) > _MAX_SILENT:
                self.disconnect(
                    next(iter(self._silent)), f"{_MAX_SILENT} others are connected but have not said anything"
                )

    def _resume(self, listening: socket.socket) -> None:
        if self._socket is listening:
            self._loop.add_reader(listening, self._accept)

    async def _open(self, client: "Client", accepted: socket.socket) -> None:
        """Make the client's connection, with the handshake of TLS."""
        times: dict[str, Any] = {}
        if self._tls is not None:
            times["ssl_handshake_timeout"] = self.policy.limits.header_timeout_s
            times["ssl_shutdown_timeout"] = _SHUTDOWN_S
        try:
            await self._loop.connect_accepted_socket(lambda: client, accepted, ssl=self._tls, **times)
        except OSError:  # the client does not speak TLS, or has gone; ssl.SSLError and TimeoutError are OSErrors
            self.lost(client)

    def spoke(self, client: "Client") -> None:
        """The client has begun to speak HTTP/2. If there are too many, those that were silent for longest must go."""
        self._silent.pop(client, None)
        if len(self._clients) >= self._max_clients:
            number = max(1, self._max_clients // _PART_CLOSED)
            for other in heapq.nsmallest(number, self._clients, key=lambda each: each.heard_at):
                self.disconnect(other, f"there are {self._max_clients}, and it was silent for longest")
        self._clients.add(client)
        self._empty.clear()

    def lost(self, client: "Client") -> None:
        self._silent.pop(client, None)
        self._clients.discard(client)
        if not self._clients:
            self._empty.set()

    def disconnect(self, client: "Client", reason: str) -> None:
        """Close the connection at once."""
        self.lost(client)
        client.abort()
        self._disconnected += 1
        now = time.monotonic()
        if now - self._logged_at >= _LOG_S:
            self._logged_at = now
            log.warning("%d gRPC clients were disconnected; the last one: %s", self._disconnected, reason)

    def field_of(self, sender: Sender) -> bytes:
        """Return the header field that the calls of this client get, if any."""
        return b"" if self._header is None else self._header.field(sender)

    def _sweep(self) -> None:
        now = time.monotonic()
        for client, accepted_at in list(self._silent.items()):
            if now - accepted_at < self.policy.limits.header_timeout_s:
                break
            self.disconnect(client, "it did not begin to speak HTTP/2 in time")
        self.sweeps += 1
        for client in list(self._clients):
            client.cut_slow()
        self._sweeping = self._loop.call_later(_SWEEP_S, self._sweep)


class Client(End):
    """A client's connection. It is connected to the server once the client has begun to speak HTTP/2.

    opening   the task that makes the connection
    heard_at  the port's `sweeps` when the client has last sent something
    """

    def __init__(self, port: GuardedPort) -> None:
        super().__init__()
        self.opening: asyncio.Task[None] | None = None
        self.heard_at = port.sweeps
        self._port = port
        self._guard = Guard(port.policy)
        self._connecting: asyncio.Task[None] | None = None
        self._server: ServerEnd | None = None
        self._must_leave = False  # as soon as it can be told

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called after the handshake, with TLS."""
        super().connection_made(transport)
        secure = transport.get_extra_info("ssl_object")
        # Like grpcio, so that what a client sends for another protocol is never read as HTTP/2.
        if secure is not None and secure.selected_alpn_protocol() != _ALPN:
            self._port.disconnect(self, "it did not agree on HTTP/2 (ALPN h2)")
            return
        host, number, *_ = transport.get_extra_info("peername") or ("", 0)
        peer = f"ipv6:[{host}]:{number}" if ":" in host else f"ipv4:{host}:{number}"
        names = certificate_names(transport.get_extra_info("peercert"))
        self._guard.field = self._port.field_of(Sender(peer, names))

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._guard.close()
        self._port.lost(self)

    def abort(self) -> None:
        """Close the connection at once, even before it has been made."""
        if self._transport is not None:
            self._transport.abort()
        elif self.opening is not None:
            self.opening.cancel()

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._port.sweeps
        try:
            passed = self._guard.feed(data)
        except Violation as violation:
            self._port.disconnect(self, str(violation))
            return
        if self._guard.is_silent:
            self._early.append(passed)  # the beginning of what HTTP/2 begins with
            return
        if self._connecting is None:
            self._port.spoke(self)
            self._connecting = asyncio.create_task(self._connect())
        if passed:
            super().data_received(passed)
        if self._must_leave:
            self.go_away()

    def cut_slow(self) -> None:
        if self._guard.has_messages and self._other is not None:
            try:
                self._other.write(self._guard.cut_slow())
            except Violation as violation:
                self._port.disconnect(self, str(violation))

    def go_away(self) -> None:
        """Have the client send further calls elsewhere, now or as soon as something may come between its frames."""
        if self._other is None or self._server is None or self._guard.in_headers:
            self._must_leave = True
            return
        self._must_leave = False
        # The guard passes on whole frames only, so this comes between two.
        self._other.write(self._server.go_away())

    async def _connect(self) -> None:
        try:
            _, server = await asyncio.get_running_loop().create_unix_connection(ServerEnd, self._port.path)
        except OSError as error:
            self._port.disconnect(self, f"the server cannot be reached: {error.strerror}")
            return
        self._server = server
        self.join(server)
        if self._must_leave:
            self.go_away()
