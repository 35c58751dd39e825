"""The metrics port: what a scrape may choose, and clients that behave badly."""

import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.domain.caller import Caller
from gateway.domain.identity import Identity
from gateway.metrics.exposition import negotiated, render
from gateway.metrics.selection import select
from gateway.metrics.server import Check, serve_metrics
from gateway.process.tls import ServerTls, TlsFiles
from tests.support.certificates import Authority

WAIT_S = 60
NO_METRICS = CollectorRegistry()


@contextmanager
def port(
    max_connections: int,
    idle_timeout_s: float,
    registry: CollectorRegistry = NO_METRICS,
    tls: ssl.SSLContext | None = None,
    check: Check | None = None,
) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = serve_metrics(listener, registry, max_connections, idle_timeout_s, tls, check)
        yield listener.getsockname()[1]
        server.shutdown()


def connect(number: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", number), WAIT_S)


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


def test_clients_that_do_not_read_are_disconnected_and_not_logged(capfd: pytest.CaptureFixture[str]) -> None:
    registry = CollectorRegistry()
    Gauge("large", "x" * (16 << 20), registry=registry)
    with port(max_connections=1, idle_timeout_s=0.05, registry=registry) as number, connect(number) as connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        while True:  # until the only connection is free again
            with connect(number) as other:
                other.sendall(b"GET /metrics?name[]=no HTTP/1.0\r\n\r\n")
                if other.recv(12) == b"HTTP/1.0 200":
                    break
    assert capfd.readouterr().err == ""


def test_a_scrape_chooses_the_format_and_the_metrics() -> None:
    registry = CollectorRegistry()
    for name in ("wanted", "other"):
        Gauge(name, "help", registry=registry).set(1)
    with port(max_connections=3, idle_timeout_s=WAIT_S, registry=registry) as number:
        url = f"http://127.0.0.1:{number}/metrics?name[]=wanted"
        asked = urllib.request.Request(url, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        with urllib.request.urlopen(asked, timeout=WAIT_S) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
            assert answer.read() == b"# HELP wanted help\n# TYPE wanted gauge\nwanted 1.0\n# EOF\n"


def test_tls(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.server()
    tls = ServerTls(TlsFiles(str(cert), str(key), str(authority.cert)).read()).context("http/1.1")
    client = authority.client_context(authority.client())
    request = b"GET /metrics HTTP/1.0\r\n\r\n"

    def scrape_with(context: ssl.SSLContext, number: int) -> bytes:
        with context.wrap_socket(connect(number), server_hostname="localhost") as scraper:
            scraper.suppress_ragged_eofs = False  # type: ignore[attr-defined]  # the end must be a close_notify
            scraper.sendall(request)
            return b"".join(iter(lambda: scraper.recv(1 << 16), b""))

    with port(max_connections=4, idle_timeout_s=WAIT_S, tls=tls) as number, connect(number) as silent:
        silent.sendall(b"\x16\x03\x01")  # a handshake that never completes delays no other client
        assert scrape_with(client, number).startswith(b"HTTP/1.0 200")
        with connect(number) as plain:
            plain.sendall(request)
            assert plain.recv(1) == b""
        with pytest.raises((ssl.SSLError, ConnectionError)):
            scrape_with(authority.client_context(), number)
    with port(max_connections=1, idle_timeout_s=0.05, tls=tls) as number, connect(number) as silent:
        assert silent.recv(1) == b""
    assert capfd.readouterr().err == ""


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    requests = Counter("requests", "by model", ["model"], registry=registry)
    for model in ("resnet50", "bert"):
        requests.labels(model).inc()
    Gauge("process_fds", "by process", ["process"], registry=registry).labels("worker-bert-1").set(3)
    return registry


def _get(number: int, headers: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Return status, WWW-Authenticate and body."""
    request = urllib.request.Request(f"http://127.0.0.1:{number}/metrics", headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return answer.status, "", answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers.get("WWW-Authenticate", ""), error.read().decode()


def test_a_scrape_shows_what_its_sender_may_see() -> None:
    roles = {"Bearer all": ("*",), "Bearer some": ("resnet*",), "Bearer none": ()}
    peers: list[str] = []

    def check(caller: Caller) -> Identity:
        peers.append(caller.peer)
        found = dict(caller.headers)
        identity = Identity("someone", {"metrics": roles[found["authorization"]]} if found else {}, anonymous=not found)
        identity.check("metrics")
        return identity

    with port(3, WAIT_S, _registry(), check=check) as number:
        status, challenge, body = _get(number)
        assert (status, challenge) == (401, 'Bearer realm="modelport"')
        assert "needs an API key" in body
        assert _get(number, {"Authorization": "Bearer none"})[0] == 403
        full = _get(number, {"Authorization": "Bearer all"})[2]
        some = _get(number, {"Authorization": "Bearer some"})[2]
    assert "bert" in full
    assert 'requests_total{model="resnet50"} 1.0' in some
    assert "bert" not in some
    assert all(peer.startswith("127.0.0.1:") for peer in peers)
    _, text = render(select(_registry(), ("resnet*",)), "")
    assert "resnet50" in text
    assert "bert" not in text


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/html, */*;q=0.8", False),
        ("text/plain; version=0.0.4", False),
        ("application/openmetrics-text", True),
        ("application/OpenMetrics-Text; version=1.0.0; charset=utf-8", True),
        # Prometheus 2.42
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            True,
        ),
        ("application/openmetrics-text;q=0.2, text/plain;q=0.9", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=half", False),
        ("application/openmetrics-text;version=abc", True),
        (",;,=;q=,", False),
    ],
)
def test_openmetrics_is_for_clients_that_ask_for_it(accept: str, openmetrics: bool) -> None:
    assert negotiated(accept) == ("application/openmetrics-text" if openmetrics else "text/plain")


def test_the_port_answers_in_the_format_that_a_client_accepts() -> None:
    def check(caller: Caller) -> Identity:
        return Identity("someone", {"metrics": ("resnet*",)})

    for limited in (None, check):
        with port(3, WAIT_S, _registry(), check=limited) as number:
            # Neither a version that is no number nor one that does not exist makes a difference.
            for version in ("1.0.0", "x", "9.9.9"):
                accept = f"application/openmetrics-text;version={version}"
                request = urllib.request.Request(f"http://127.0.0.1:{number}/metrics", headers={"Accept": accept})
                with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
                    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0;")
                    text = answer.read().decode()
                families = {family.name: family for family in text_string_to_metric_families(text)}
                assert families["requests"].type == "counter"
                models = {s.labels["model"] for s in families["requests"].samples if s.name == "requests_total"}
                assert models == ({"resnet50", "bert"} if limited is None else {"resnet50"})
                assert text.endswith("# EOF\n")
            assert "# EOF" not in _get(number)[2]
