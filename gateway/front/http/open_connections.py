"""Which connections a front has, and which it closes so that others are served.

Too many connections, of which most are idle, and answers that nobody reads are the two ways to occupy a server without
sending it work.
"""

import sys
from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.errors import Overloaded, Unavailable

if TYPE_CHECKING:
    from gateway.front.http.connection import HttpConnection

# A part of all connections is closed at once, because finding the ones to close means looking at all. Larger parts
# disconnect clients that would have come back.
_PART_CLOSED = 64
# How long a client may read nothing of an answer. nginx's send_timeout has the same default. A shorter time disconnects
# clients on poor networks; a longer one lets a client that is gone occupy its answer's memory for that long.
UNREAD_TIMEOUT_S = 60.0


class ConnectionLimits(NamedTuple):
    """connections: of this front. per_peer: from one address, or one /64 network of IPv6; 0 for any number.

    unread_bytes: answers that clients have not read yet
    """

    connections: int = sys.maxsize
    per_peer: int = 0
    unread_bytes: int = sys.maxsize


UNLIMITED = ConnectionLimits()


class OpenConnections:
    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._count = 0
        self._of_peer: Counter[str] = Counter()
        # Those that have more to write than the system takes, in the order in which that began.
        self._unread: dict[HttpConnection, None] = {}

    def add(self, connection: "HttpConnection", peer: str, every: Iterable[Any]) -> None:
        """Count a new connection, and close idle ones of `every` if there are too many.

        Raises Overloaded or Unavailable if it is one too many; it is not counted then.
        """
        limits = self._limits
        if limits.per_peer and self._of_peer[_network(peer)] >= limits.per_peer:
            raise Overloaded(
                f"this address has {limits.per_peer} connections, as many as it may; close some, or use them again"
            )
        if self._count >= limits.connections and not self._make_room(connection, every):
            raise Unavailable(f"all of the {limits.connections} connections are in use; try again later")
        self._count += 1
        if limits.per_peer:
            self._of_peer[_network(peer)] += 1

    def remove(self, connection: "HttpConnection", peer: str) -> None:
        """Forget a connection that was counted."""
        self._unread.pop(connection, None)
        self._count -= 1
        if self._limits.per_peer:
            network = _network(peer)
            self._of_peer[network] -= 1
            if not self._of_peer[network]:
                del self._of_peer[network]

    def _make_room(self, new: "HttpConnection", every: Iterable[Any]) -> bool:
        """Close the connections that have been idle for longest. Returns False if all are in use."""
        idle = [(since, id(each), each) for each in every if each is not new and (since := each.idle_since) is not None]
        idle.sort()
        chosen = idle[: max(1, self._limits.connections // _PART_CLOSED)]
        for _, _, connection in chosen:
            connection.evict()
        return bool(chosen)

    def on_unread(self, connection: "HttpConnection") -> None:
        """Note that a client does not read as fast as it is answered, and end others if too much is unread."""
        self._unread[connection] = None
        excess = sum([each.unread_bytes for each in self._unread]) - self._limits.unread_bytes
        for each in list(self._unread):
            if excess <= 0 or each is connection:
                return
            excess -= each.unread_bytes
            del self._unread[each]
            each.transport.abort()

    def on_read(self, connection: "HttpConnection") -> None:
        self._unread.pop(connection, None)


def _network(peer: str) -> str:
    if ":" not in peer:
        return peer
    address = IPv6Address(peer.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return address.packed[:8].hex()
