"""Binds the gateway's ports, exclusively first, so that a second gateway on the same port fails with a clear error."""

import errno
import socket
from contextlib import ExitStack

from gateway.config import Settings, SettingsError, parse_address
from gateway.process.address import Address

# A client whose machine has disappeared is detected after two minutes (60 s + 4 times 15 s). Shorter times cost packets
# on each idle connection; longer ones keep dead connections open.
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


class Ports:
    """The sockets of a gateway, bound when it is created. metrics: None if metrics have no port of their own."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError."""
        with ExitStack() as bound:  # releases the ports if a later one cannot be bound
            self.http = bound.enter_context(listen(parse_address(settings.http), "http"))
            self.grpc = bound.enter_context(reserve(parse_address(settings.grpc), "grpc"))
            self.metrics: socket.socket | None = None
            if settings.metrics:
                self.metrics = bound.enter_context(listen(parse_address(settings.metrics), "metrics"))
            bound.pop_all()

    def numbers(self) -> dict[str, int]:
        bound = {"http": self.http, "grpc": self.grpc}
        if self.metrics is not None:
            bound["metrics"] = self.metrics
        return {name: sock.getsockname()[1] for name, sock in bound.items()}

    def close(self) -> None:
        for sock in (self.http, self.grpc, self.metrics):
            if sock is not None:
                sock.close()


def listen(address: Address, key: str) -> socket.socket:
    """Return a listening socket that all fronts inherit. Queued connections survive the end of a front."""
    sock = _bind(address, key, reuse_port=False)
    _keep_alive(sock)
    sock.listen(2048)
    return sock


def _keep_alive(sock: socket.socket) -> None:
    """Enable TCP keepalive. Accepted connections inherit the options of their listening socket."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # macOS does not have all of them
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def reserve(address: Address, key: str) -> socket.socket:
    """Return a bound socket that reserves a port, which the fronts share by SO_REUSEPORT.

    It never listens, so the kernel assigns it no connections. The port is first bound exclusively, because with
    SO_REUSEPORT alone, a second gateway could start on the same port and take some of its connections.
    """
    probe = _bind(address, key, reuse_port=False)
    held = Address(address.host, probe.getsockname()[1])
    probe.close()
    return _bind(held, key, reuse_port=True)


def _bind(address: Address, key: str, reuse_port: bool) -> socket.socket:
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
    except (socket.gaierror, UnicodeError) as error:
        reason = getattr(error, "strerror", "it is not a host name")
        raise SettingsError(f"--{key}: the host '{address.host}' is not known: {reason}") from None
    sock: socket.socket | None = None
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT if reuse_port else socket.SO_REUSEADDR, 1)
        sock.bind((address.host, address.port))
    except OSError as error:
        if sock is not None:
            sock.close()
        in_use = error.errno == errno.EADDRINUSE
        # Also by a connection of any program that ended a minute ago, if the port is in the range for such connections.
        busy = "it is in use; stop the process that listens there, wait a minute if there is none, or"
        reason = busy if in_use else f"{error.strerror};"
        raise SettingsError(
            f"--{key}: {address} cannot be bound: {reason} choose another with --{key} HOST:PORT"
        ) from None
    return sock
