"""Requests over HTTP on a blocking socket, for references that do nothing else with the network."""

import socket

BINARY_AFTER = b"\r\ninference-header-content-length: "
_LENGTH = b"\r\ncontent-length: "
_HEAD_SIZE = 1 << 12


def number(head: bytes, name: bytes) -> int:
    """Return the value of a header that is a number. `name` is as in the head, with its separators."""
    return int(head[head.index(name) + len(name) :].split(b"\r", 1)[0])


def receive(connection: socket.socket, buffer: memoryview) -> tuple[bytes, memoryview] | None:
    """Return the head, in lower case, and the body of the next request; None if the client has disconnected."""
    have = connection.recv_into(buffer[:_HEAD_SIZE])
    if not have:
        return None
    head = bytes(buffer[:have]).partition(b"\r\n\r\n")[0].lower()
    start = len(head) + 4
    end = start + number(head, _LENGTH)
    while have < end:
        have += connection.recv_into(buffer[have:end])
    return head, buffer[start:end]


def reply(connection: socket.socket, body: bytes | memoryview) -> None:
    connection.sendall(b"".join([b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body), body]))
