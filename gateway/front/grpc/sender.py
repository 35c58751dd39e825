"""Who sent a call: a header field that the port adds to it.

The call carries all that is known of its sender. A table of connections would not do, because a call may be read when
its client has already left, and its sender must be the same then.
"""

import json
import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

from runtimes.bounded_cache import BoundedCache

# HPACK: a literal field that is never indexed, with a new name.
_LITERAL = 0x10
# A length in seven bits, or, if it is this or more, continued in further bytes.
_SEVEN_BITS = 0x7F
# Fields that have been read. Each connection has one; fewer are read again for each call, a few microseconds each.
_MAX_KNOWN = 4096


class Sender(NamedTuple):
    """peer: such as ipv4:127.0.0.1:1234. certificate: the names in its certificate (gateway/process/tls.py)."""

    peer: str = ""
    certificate: tuple[str, ...] = ()


_UNKNOWN = Sender()


class SenderHeader:
    """A header whose name no client can guess, so that it is always the port's."""

    def __init__(self) -> None:
        self._name = f"x-peer-{secrets.token_hex(16)}"
        self._known: BoundedCache[str, Sender] = BoundedCache(_MAX_KNOWN)

    def field(self, sender: Sender) -> bytes:
        """Return the field as HPACK bytes, which leave the state of both sides as it is."""
        value = json.dumps([sender.peer, *sender.certificate], separators=(",", ":"))
        return bytes([_LITERAL]) + _text(self._name) + _text(value)

    def sender(self, metadata: Sequence[tuple[str, Any]]) -> Sender:
        """Return who sent the call with this metadata; nobody, if it did not come through the port."""
        for name, value in metadata:
            if name == self._name:
                sender = self._known.entries.get(value)
                if sender is None:
                    peer, *certificate = json.loads(value)
                    sender = Sender(peer, tuple(certificate))
                    self._known.put(value, sender)
                return sender
        return _UNKNOWN


def _text(text: str) -> bytes:
    """Return a string as RFC 7541, section 5.2, writes it, without Huffman's code."""
    data = text.encode()
    length = len(data)
    if length < _SEVEN_BITS:
        return bytes([length]) + data
    head, length = bytearray([_SEVEN_BITS]), length - _SEVEN_BITS
    while length > _SEVEN_BITS:
        head.append(length & _SEVEN_BITS | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + data
