"""Requests that offer another protocol: Upgrade: h2c, TLS/1.2 or websocket (RFC 9110, 7.8)."""

from collections.abc import Sequence

# Tokens of Connection that concern us. The others name headers for the next hop only, which we are not.
_PERSISTENCE = (b"close", b"keep-alive")


def without_offer(method: bytes, url: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The head of the same request without Upgrade, and without what Connection says of it."""
    lines = [b"%b %b HTTP/%b" % (method, url, version.encode())]
    for name, value in headers:
        if name == b"connection":
            tokens = [token.strip().lower() for token in value.split(b",")]
            lines += [b"connection: " + token for token in tokens if token in _PERSISTENCE]
        elif name not in (b"upgrade", b"http2-settings"):
            lines.append(b"%b: %b" % (name, value))
    return b"\r\n".join(lines) + b"\r\n\r\n"
