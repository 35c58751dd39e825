"""Addresses: probed exclusively, then held, so that a second gateway fails at once and in words."""

import errno
import socket

from gateway.config import SettingsError
from gateway.listen import Address


def listen(address: Address, key: str) -> socket.socket:
    """A listening socket that every front inherits: a front that dies loses no queued connection."""
    sock = _bind(address, key, reuse_port=False)
    sock.listen(2048)
    return sock


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
    except socket.gaierror as error:
        raise SettingsError(f"--{key}: the host '{address.host}' is not known: {error.strerror}") from None
    sock = socket.socket(family, socket.SOCK_STREAM)
    if reuse_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    else:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((address.host, address.port))
    except OSError as error:
        sock.close()
        told = "it is in use; stop what listens there" if error.errno == errno.EADDRINUSE else str(error.strerror)
        raise SettingsError(
            f"--{key}: {address} cannot be had: {told}, or choose another with --{key} HOST:PORT"
        ) from None
    return sock
