"""REST over TLS: how connections begin and end, and what clients learn when they are refused."""

import gc
import json
import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.front.http.connection import HttpConnection
from gateway.process.tls import ServerTls, TlsFiles
from tests.support.certificates import Authority
from tests.support.front_server import LIMITS, WAIT_S, Serving, in_thread

LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = LIVE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def mutual(authority: Authority) -> Iterator[Serving]:
    """A server that requires client certificates, with one of its clients."""
    cert, key = authority.server()
    tls = ServerTls(TlsFiles(str(cert), str(key), str(authority.cert)).read())
    with in_thread(tls=tls, client_context=authority.client_context(authority.client())) as serving:
        yield serving


def plain(serving: Serving) -> socket.socket:
    return replace(serving, client_context=None).connect()


def ended(connection: ssl.SSLSocket) -> bool:
    """Read until the end. Raises SSLEOFError if the connection ends without close_notify."""
    connection.suppress_ragged_eofs = False  # type: ignore[attr-defined]
    while connection.recv(1 << 16):
        pass
    return True


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_requests_and_the_end_of_a_connection(mutual: Serving, version: ssl.TLSVersion) -> None:
    context = mutual.client_context
    assert context is not None
    context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    with mutual.connect() as connection:
        assert isinstance(connection, ssl.SSLSocket)
        assert connection.selected_alpn_protocol() == "http/1.1"
        connection.sendall(LIVE * 20 + LAST)
        received = connection.recv(1)
        while received.count(b"HTTP/1.1 200 OK") < 21 or not received.endswith(b"}"):
            received += connection.recv(1 << 16)
        assert ended(connection)


def test_a_large_last_answer_reaches_a_client_that_reads_late(mutual: Serving) -> None:
    numbers = [0.5] * (LIMITS.json_bytes // 8)
    body = json.dumps({"inputs": [numbers]}).encode()
    head = f"POST /predict/echo_FP64 HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    with mutual.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.sendall(head.encode() + body)
        stream = connection.makefile("rb")
        assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
        _, _, answer = stream.read().partition(b"\r\n\r\n")
        assert json.loads(answer)["outputs"] == {"y": [numbers]} or json.loads(answer) == {"outputs": [numbers]}


def test_a_client_that_does_not_speak_tls_sees_the_connection_close(mutual: Serving) -> None:
    with plain(mutual) as connection:
        connection.sendall(LIVE)
        assert connection.recv(1) == b""  # a reset would raise


def send_and_receive(serving: Serving) -> None:
    with serving.connect() as connection:
        # With TLS 1.3 a client sends before it knows, and much of it: a reset would hide the reason.
        connection.sendall(bytes(1 << 20))
        connection.recv(1)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("wrong", [False, True], ids=["no certificate", "another CA's certificate"])
def test_a_refused_client_learns_why(
    mutual: Serving, authority: Authority, tmp_path: Path, version: ssl.TLSVersion, wrong: bool
) -> None:
    context = authority.client_context(Authority(tmp_path, "other").client() if wrong else None)
    context.maximum_version = version
    reason = r"UNKNOWN_CA" if wrong else r"CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE"
    with pytest.raises(ssl.SSLError, match=reason):
        send_and_receive(replace(mutual, client_context=context))


def test_a_handshake_must_complete_within_the_time_for_headers(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.server("impatient")
    tls = ServerTls(TlsFiles(str(cert), str(key)).read())
    with in_thread(tls=tls, limits=replace(LIMITS, header_timeout_s=0.1)) as serving:
        silent, slow, refused = (plain(serving) for _ in range(3))
        slow.sendall(b"\x16\x03\x01\x00")
        refused.sendall(b"\x16\x03\x01\x00\x05hello")
        for connection in (silent, slow, refused):
            with connection:
                alert = connection.recv(100)
                assert not alert or connection.recv(1) == b""


def test_refused_connections_are_not_logged(
    mutual: Serving, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    test_a_client_that_does_not_speak_tls_sees_the_connection_close(mutual)
    with (
        pytest.raises(ssl.SSLError),
        replace(mutual, client_context=authority.client_context()).connect() as connection,
    ):
        connection.recv(1)
    plain(mutual).close()
    with mutual.connect() as connection:  # handled after them
        connection.settimeout(WAIT_S)
        connection.sendall(LAST)
        assert ended(connection)
    assert not caplog.records


@pytest.mark.parametrize("name", [b"w\xfcrm.example", "würm.example".encode()], ids=["no text", "not ASCII"])
def test_a_certificate_with_a_name_that_is_not_valid_is_one_of_the_ca(
    mutual: Serving, authority: Authority, caplog: pytest.LogCaptureFixture, name: bytes
) -> None:
    """Who it is does not matter here; tests/e2e/test_certificates.py has servers that want to know."""
    context = authority.client_context(authority.client("odd", dns=name))
    with replace(mutual, client_context=context).connect() as connection:
        connection.sendall(LAST)
        assert connection.recv(12) == b"HTTP/1.1 200"
    assert not caplog.records


def test_an_ended_connection_is_freed_without_the_collector(mutual: Serving) -> None:
    """Fronts hardly ever collect, and a connection over TLS holds buffers."""

    def count() -> int:
        return sum(isinstance(each, HttpConnection) for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = count()
        for _ in range(3):
            with mutual.connect() as connection:
                connection.sendall(LAST)
                connection.recv(1)
            mutual.connect().close()
        turns = 0
        while count() > before and turns < 500:  # the server's loop sees the ends sooner or later
            mutual.run(lambda: None)
            turns += 1
        assert count() <= before  # connections of other tests may have ended as well
    finally:
        gc.enable()


def test_too_many_incomplete_handshakes_end_the_oldest(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.front.http.handshakes._MAX_HANDSHAKES", 3)
    cert, key = authority.server("crowded")
    tls = ServerTls(TlsFiles(str(cert), str(key)).read())
    context = authority.client_context()
    with in_thread(tls=tls, client_context=context) as serving:
        oldest, *others = (plain(serving) for _ in range(3))
        for _ in range(4):  # complete ones do not count, whether they are open or not
            assert serving.http.get("/v2/health/live").status_code == 200
            serving.connect().close()
        with oldest:
            assert oldest.recv(1) == b""
        for other in others:
            with context.wrap_socket(other, server_hostname="localhost") as connection:
                connection.sendall(LAST)
                assert connection.recv(100).startswith(b"HTTP/1.1 200")
