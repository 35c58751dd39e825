"""The metrics port with clients that behave badly."""

import gzip
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.metrics.exposition import CONTENT_TYPE, Family
from gateway.metrics.server import serve_metrics

WAIT_S = 60


@contextmanager
def port(max_connections: int, idle_timeout_s: float) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = serve_metrics(listener, families, max_connections, idle_timeout_s)
        yield listener.getsockname()[1]
        server.shutdown()


def connect(number: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", number), WAIT_S)


def families() -> list[Family]:
    family = Family("a", "b", "gauge")
    family.add((), 1)
    return [family]


def scrape(number: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{number}/metrics", timeout=WAIT_S) as answer:
        return int(answer.status)


def test_connections_beyond_the_limit_are_closed_immediately() -> None:
    with port(max_connections=2, idle_timeout_s=WAIT_S) as number, connect(number) as first, connect(number) as second:
        for _ in range(3):
            with connect(number) as third:
                assert third.recv(1) == b""
        # The first ones are still served; each response closes its connection.
        for idle in (first, second):
            idle.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert idle.makefile("rb").read().startswith(b"HTTP/1.0 200")
        assert scrape(number) == 200


def test_idle_connections_are_closed_after_the_timeout(capfd: pytest.CaptureFixture[str]) -> None:
    with port(max_connections=3, idle_timeout_s=0.05) as number:
        idle = [connect(number) for _ in range(3)]
        idle[1].sendall(b"GET /met")
        idle[2].sendall(b"GET /metrics HTTP/1.0\r\nHost:")
        for connection in idle:
            assert connection.recv(1) == b""
            connection.close()
        assert scrape(number) == 200
    assert capfd.readouterr().err == ""


def ask(number: int, request: bytes) -> tuple[bytes, bytes]:
    """Return head and body of the answer."""
    with connect(number) as connection:
        connection.sendall(request)
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
        return head, body


def test_answers() -> None:
    text = b"# HELP a b\n# TYPE a gauge\na 1.0\n"
    with port(max_connections=3, idle_timeout_s=WAIT_S) as number:
        head, body = ask(number, b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 200 OK\r\n")
        assert f"Content-Type: {CONTENT_TYPE}\r\n".encode() in head
        assert body == text
        head, body = ask(number, b"HEAD /metrics HTTP/1.1\r\n\r\n")
        assert b"Content-Length: %d\r\n" % len(text) in head
        assert body == b""
        for accepts in (b"gzip", b"deflate, GZIP;q=0.5", b"br, gzip"):
            head, body = ask(number, b"GET / HTTP/1.1\r\nAccept-Encoding: " + accepts + b"\r\n\r\n")
            assert b"Content-Encoding: gzip\r\n" in head
            assert gzip.decompress(body) == text
        for accepts in (b"gzip;q=0", b"identity, gzip; q=0.0, br", b"br"):
            assert ask(number, b"GET / HTTP/1.1\r\nAccept-Encoding: " + accepts + b"\r\n\r\n")[1] == text


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"\x16\x03\x01\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n", b"431"),
    ],
)
def test_invalid_requests(request_bytes: bytes, status: bytes) -> None:
    with port(max_connections=3, idle_timeout_s=WAIT_S) as number:
        assert ask(number, request_bytes)[0].startswith(b"HTTP/1.0 " + status)
        assert scrape(number) == 200


def test_a_line_that_never_ends_is_cut_off() -> None:
    with port(max_connections=3, idle_timeout_s=WAIT_S) as number:
        assert ask(number, b"GET /" + b"x" * (1 << 16)) == (b"", b"")
        assert scrape(number) == 200
