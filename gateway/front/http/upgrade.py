"""Requests that offer another protocol: Upgrade: h2c, TLS/1.2 or websocket (RFC 9110, section 7.8)."""

from collections.abc import Sequence

# The Connection options that concern this server. The others name hop-by-hop headers, which only proxies process.
_PERSISTENCE = (b"close", b"keep-alive")


def without_upgrade(method: bytes, url: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return the head of the same request without Upgrade, and without the Connection options that refer to it."""
    lines = [b"%b %b HTTP/%b" % (method, url, version.encode())]
    for name, value in headers:
        if name == b"connection":
            tokens = [token.strip().lower() for token in value.split(b",")]
            lines += [b"connection: " + token for token in tokens if token in _PERSISTENCE]
        elif name not in (b"upgrade", b"http2-settings"):
            lines.append(b"%b: %b" % (name, value))
    return b"\r\n".join(lines) + b"\r\n\r\n"
