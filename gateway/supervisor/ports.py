"""Addresses: probed exclusively, then held, so that a second gateway fails at once and in words."""

import errno
import socket

from gateway.config import SettingsError
from gateway.process.address import Address

# A client whose machine is gone is noticed after two minutes.
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


def listen(address: Address, key: str) -> socket.socket:
    """A listening socket that every front inherits: a front that dies loses no queued connection."""
    sock = _bind(address, key, reuse_port=False)
    _keep_alive(sock)
    sock.listen(2048)
    return sock


def _keep_alive(sock: socket.socket) -> None:
    """Have the kernel ask those who are silent whether they still live: connections have what their listener has."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # macOS lacks some
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def reserve(address: Address, key: str) -> socket.socket:
    """A bound socket that keeps the port ours while fronts share it by SO_REUSEPORT.

    It never listens, so the kernel gives it no connection. The exclusive bind comes first: with
    SO_REUSEPORT alone a second gateway would start silently on the same port.
    """
    probe = _bind(address, key, reuse_port=False)
    held = Address(address.host, probe.getsockname()[1])
    probe.close()
    return _bind(held, key, reuse_port=True)


def _bind(address: Address, key: str, reuse_port: bool) -> socket.socket:
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
    except (socket.gaierror, UnicodeError) as error:
        reason = getattr(error, "strerror", "it is no host's name")
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
        told = "it is in use; stop what listens there, or" if in_use else f"{error.strerror};"
        raise SettingsError(f"--{key}: {address} cannot be had: {told} choose another with --{key} HOST:PORT") from None
    return sock
