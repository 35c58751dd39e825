"""HTTP/2 frames and gRPC messages as bytes, for tests that send what no library would."""

from collections.abc import Callable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, PADDED = 1, 4, 8
FULL = 1 << 14  # the longest frame


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def message(payload: bytes, compressed: bool = False, length: int | None = None) -> bytes:
    return bytes([compressed]) + (len(payload) if length is None else length).to_bytes(4, "big") + payload


def many(number: int, one: Callable[[int], bytes]) -> bytes:
    return b"".join(one(2 * each + 1) for each in range(number))


def head(stream: int) -> bytes:
    return frame(HEADERS, END_HEADERS, stream, b"\x82")


def call(stream: int) -> bytes:
    return head(stream) + frame(DATA, END_STREAM, stream, message(b"one"))


def refused(stream: int) -> bytes:
    return head(stream) + frame(DATA, 0, stream, message(b"", length=1 << 31))


def reset(stream: int) -> bytes:
    return frame(RST_STREAM, 0, stream, bytes(4))
