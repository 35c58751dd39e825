"""Bodies over a limit, and clients that go away: by a socket of our own."""

import json
import socket

import pytest

from tests.bad_inputs import Subject, good_call
from tests.calls import as_json
from tests.front_server import LIMITS, WAIT_S, Serving

GOOD = good_call(Subject())
CASES = [
    ("/v2/models/doubler/infer", {}, LIMITS.json_bytes),
    ("/v2/models/doubler/infer", {"Inference-Header-Content-Length": "10"}, LIMITS.binary_bytes),
    ("/predict", {}, LIMITS.json_bytes),
    ("/predict/doubler", {"Content-Type": "application/x-npy"}, LIMITS.binary_bytes),
    ("/predict/doubler", {"Content-Type": "application/x-npz"}, LIMITS.binary_bytes),
]


def head(path: str, **headers: object) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: here", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    stream = connection.makefile("rb")
    status = int(stream.readline().split()[1])
    headers = {}
    while line := stream.readline().strip():
        name, _, value = line.decode().partition(": ")
        headers[name.lower()] = value
    return status, headers, stream.read(int(headers["content-length"]))


def is_refused(answer: tuple[int, dict[str, str], bytes]) -> None:
    status, headers, body = answer
    assert status == 413
    assert headers["connection"] == "close"
    assert "over the limit" in json.loads(body)["error"]


@pytest.mark.parametrize(("path", "headers", "limit"), CASES)
def test_a_length_over_the_limit_is_refused_before_the_body_comes(
    serving: Serving, path: str, headers: dict[str, str], limit: int
) -> None:
    with serving.connect() as connection:
        connection.sendall(head(path, **{"Content-Length": limit + 1}, **headers))
        is_refused(read_answer(connection))


@pytest.mark.parametrize(("path", "headers", "limit"), CASES)
def test_a_chunked_body_is_refused_at_the_limit(
    serving: Serving, path: str, headers: dict[str, str], limit: int
) -> None:
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    with serving.connect() as connection:
        connection.sendall(head(path, **{"Transfer-Encoding": "chunked"}, **headers))
        for _ in range(limit // 0x10000 + 1):
            connection.sendall(chunk)
        is_refused(read_answer(connection))


def test_who_sends_the_whole_body_first_still_reads_the_refusal(serving: Serving) -> None:
    """Most clients write all, then read: closing at once would reset their connection."""
    body = bytes(8 * LIMITS.json_bytes)
    for _ in range(5):
        with serving.connect() as connection:
            connection.sendall(head(GOOD.path, **{"Content-Length": len(body)}) + body)
            is_refused(read_answer(connection))
            assert connection.recv(1) == b""


def test_a_body_at_the_limit_is_read(serving: Serving) -> None:
    body = as_json(GOOD).ljust(LIMITS.json_bytes)
    assert serving.http.post(GOOD.path, content=body).status_code == 200
    assert serving.http.post(GOOD.path, content=body + b" ").status_code == 413


def test_a_client_that_goes_away_is_not_computed_for(serving: Serving) -> None:
    serving.open_gate(False)
    for path, body in ((GOOD.path, as_json(GOOD)), ("/predict/doubler", b'{"inputs": [[1, 2, 3]]}')):
        serving.engine.arrived.clear()
        serving.engine.left.clear()
        with serving.connect() as connection:
            connection.sendall(head(path, **{"Content-Length": len(body)}) + body)
            assert serving.engine.arrived.wait(WAIT_S)
        assert serving.engine.left.wait(WAIT_S)
    serving.open_gate()
    assert serving.http.post(GOOD.path, content=as_json(GOOD)).status_code == 200


def test_a_client_that_goes_away_in_its_body_is_forgotten(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    with serving.connect() as connection:
        connection.sendall(head(GOOD.path, **{"Content-Length": 1000}) + b"{")
    assert serving.http.post(GOOD.path, content=as_json(GOOD)).status_code == 200
    assert not serving.engine.arrived.is_set() or len(serving.engine.requests) == 1
    assert not caplog.records


def test_connections_are_kept(serving: Serving) -> None:
    body = as_json(GOOD)
    with serving.connect() as connection:
        for _ in range(3):
            connection.sendall(head(GOOD.path, **{"Content-Length": len(body)}) + body)
            status, headers, _ = read_answer(connection)
            assert (status, headers.get("connection")) == (200, None)


def test_who_asks_before_sending_is_told_to_go_on_or_refused(serving: Serving) -> None:
    body = as_json(GOOD)
    with serving.connect() as connection:
        connection.sendall(head(GOOD.path, **{"Content-Length": len(body), "Expect": "100-continue"}))
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert read_answer(connection)[0] == 200
    with serving.connect() as connection:
        connection.sendall(head(GOOD.path, **{"Content-Length": 1 << 40, "Expect": "100-continue"}))
        is_refused(read_answer(connection))
