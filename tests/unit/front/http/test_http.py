"""HTTP/1.1: pipelining, requests in pieces, keep-alive, and hot and cold paths on one connection."""

import asyncio
import contextlib
import gc
import json
import socket
import struct
import time

import numpy as np
import pytest

from gateway.engine.arena import Arena
from gateway.engine.fake import FakeEngine
from gateway.front.http.server import HttpServer
from tests.support.bad_inputs import Subject, good_call
from tests.support.front_server import LIMITS, Serving, answer, models
from tests.support.v2_calls import as_json
from tests.unit.front.http.test_limits import head, read_answer, with_server

GOOD = good_call(Subject())
BODY = as_json(GOOD)
HOT = head(GOOD.path, **{"Content-Length": len(BODY)}) + BODY
COLD = b"GET /v2/models/doubler/ready HTTP/1.1\r\nHost: here\r\n\r\n"
EMPTY = b"POST /predict HTTP/1.1\r\nContent-Length: 0\r\n\r\n"


class Answers:
    """Reads the answers on one connection one by one."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._read = b""

    def next(self) -> tuple[int, dict[str, str], bytes]:
        while b"\r\n\r\n" not in self._read:
            self._receive()
        text, _, self._read = self._read.partition(b"\r\n\r\n")
        first, *lines = text.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = int(headers["content-length"])
        while len(self._read) < length:
            self._receive()
        body, self._read = self._read[:length], self._read[length:]
        return int(first.split()[1]), headers, body

    def _receive(self) -> None:
        received = self._connection.recv(1 << 20)
        assert received, "the connection was closed"
        self._read += received


def binary(rows: int) -> tuple[bytes, np.ndarray]:
    """Return a request for echo_FP32 with a large tensor of `rows` rows, and its array."""
    array = np.arange(rows * 1024, dtype=np.float32).reshape(rows, 1024)
    tensor = {
        "name": "x", "shape": array.shape, "datatype": "FP32", "parameters": {"binary_data_size": array.nbytes},
    }  # fmt: skip
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Content-Length": len(text) + array.nbytes, "Inference-Header-Content-Length": len(text)}
    return head("/v2/models/echo_FP32/infer", **headers) + text + array.tobytes(), array


@pytest.mark.parametrize("order", [[HOT, COLD, HOT], [COLD, HOT, COLD, COLD, HOT], [HOT] * 20])
def test_pipelined_requests_are_answered_in_order(serving: Serving, order: list[bytes]) -> None:
    with serving.connect() as connection:
        answers = Answers(connection)
        connection.sendall(b"".join(order))
        for sent in order:
            status, _, body = answers.next()
            assert status == 200
            assert ("outputs" in json.loads(body)) == (sent is HOT)


def test_a_pipelined_request_waits_for_the_one_before_it(serving: Serving) -> None:
    serving.open_gate(False)
    with serving.connect() as connection:
        answers = Answers(connection)
        connection.sendall(HOT + COLD + HOT)
        assert serving.engine.arrived.wait(60)
        serving.open_gate()
        assert ["outputs" in json.loads(answers.next()[2]) for _ in range(3)] == [True, False, True]


@pytest.mark.parametrize(
    "name", ["Traceparent", "tracestate", "X-Request-ID", "x-correlation-id", "b3", "X-Amzn-Trace-Id", "ce-id"]
)
def test_heads_with_a_request_id_are_cached_once(name: str) -> None:
    servers: list[HttpServer] = []

    async def ask(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        heads = servers[0]._shared.heads
        for number in range(3):
            writer.write(head(GOOD.path, **{name: f"00-{number}", "Content-Length": len(BODY)}) + BODY)
            assert b" 200 " in await reader.readline()
            length = int((await reader.readuntil(b"\r\n\r\n")).lower().split(b"content-length: ")[1].split()[0])
            await reader.readexactly(length)
            assert len(heads) == 1
        writer.write(HOT)
        await reader.readline()
        assert len(heads) == 1
        writer.close()
        await writer.wait_closed()
        return b""

    asyncio.run(with_server(FakeEngine(models(), answer), LIMITS, ask, servers.append))


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_request_may_come_in_pieces(serving: Serving, size: int) -> None:
    with serving.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(2):
            for start in range(0, len(HOT), size):
                connection.sendall(HOT[start : start + size])
            assert read_answer(connection)[0] == 200
            for _ in range(2):  # the second time with a head that is cached
                connection.sendall(HOT)
                assert read_answer(connection)[0] == 200


@pytest.mark.parametrize("end", [b" ", b"\t "])
def test_white_space_after_a_length_is_no_part_of_it(serving: Serving, end: bytes) -> None:
    new = HOT.replace(b"\r\n\r\n", b"\r\nOwn: %d\r\n\r\n" % len(end), 1)  # no other test's head
    sent = new.replace(b": %d" % len(BODY), b": %d%b" % (len(BODY), end))
    assert sent != new
    with serving.connect() as connection:
        for each in (sent, new, new, sent):
            connection.sendall(each)
            assert read_answer(connection)[0] == 200


@pytest.mark.parametrize("rows", [15, 16, 17, 100, 300])
def test_large_bodies_arrive_completely_and_the_connection_stays_usable(serving: Serving, rows: int) -> None:
    sent, array = binary(rows)
    with serving.connect() as connection:
        answers = Answers(connection)
        for _ in range(3):
            connection.sendall(sent + HOT)
            status, headers, body = answers.next()
            assert status == 200
            start = int(headers["inference-header-content-length"])
            assert body[start:] == array.tobytes()
            assert answers.next()[0] == 200
            connection.sendall(COLD)
            assert answers.next()[0] == 200


def test_a_large_body_over_the_json_limit_is_rejected_and_one_within_is_read(serving: Serving) -> None:
    text = BODY.ljust(LIMITS.json_bytes)
    with serving.connect() as connection:
        answers = Answers(connection)
        connection.sendall(head(GOOD.path, **{"Content-Length": len(text)}) + text + HOT)
        assert [answers.next()[0], answers.next()[0]] == [200, 200]


def test_a_disconnect_within_a_large_body_releases_its_reservation(serving: Serving) -> None:
    sent, _ = binary(400)
    with serving.connect() as connection:
        connection.sendall(sent[: len(sent) // 2])
    assert serving.http.post(GOOD.path, content=BODY).status_code == 200
    while serving.engine.reserved_bytes:
        serving.run(lambda: None)


@pytest.mark.parametrize("path", ["/predict/doubler", "/predictions/doubler", "/v2/models/doubler/infer"])
def test_bodies_of_any_length_follow_heads_that_are_otherwise_the_same(serving: Serving, path: str) -> None:
    """Those of TorchServe may be images, which are read in a thread."""
    with serving.connect() as connection:
        answers = Answers(connection)
        for padding in (0, 1, 100, 0):
            tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
            text = json.dumps({"inputs": [tensor] if "v2" in path else [[1, 2, 3]]}).encode() + b" " * padding
            connection.sendall(head(path, **{"Content-Length": len(text)}) + text)
            status, _, body = answers.next()
            assert status == 200, body


@pytest.mark.parametrize(
    ("request_head", "kept"),
    [
        (b"POST %b HTTP/1.1\r\nHost: here\r\nConnection: close\r\n", False),
        (b"POST %b HTTP/1.0\r\nHost: here\r\n", False),
        (b"POST %b HTTP/1.1\r\nHost: here\r\n", True),
    ],
)
def test_the_client_decides_whether_the_connection_is_kept(serving: Serving, request_head: bytes, kept: bool) -> None:
    with serving.connect() as connection:
        answers = Answers(connection)
        connection.sendall(request_head % GOOD.path.encode() + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
        status, headers, _ = answers.next()
        assert (status, headers.get("connection")) == (200, None if kept else "close")
        if kept:
            connection.sendall(HOT)
            assert answers.next()[0] == 200
        else:
            assert connection.recv(1) == b""


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_405_names_the_allowed_method(serving: Serving, method: str) -> None:
    answer = serving.http.request(method, GOOD.path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["error"] == f"this path accepts POST, not {method}"


def test_bytes_that_are_not_http_are_rejected(serving: Serving) -> None:
    with serving.connect() as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert serving.http.post(GOOD.path, content=BODY).status_code == 200


def test_every_answer_has_a_date(serving: Serving) -> None:
    assert serving.http.post(GOOD.path, content=BODY).headers["date"].endswith("GMT")


def test_a_client_that_does_not_read_pauses_its_connection_and_loses_nothing(serving: Serving) -> None:
    sent, array = binary(256)
    count = 40
    with serving.connect() as connection:
        answers = Answers(connection)
        connection.setblocking(True)
        for _ in range(count // 8):
            connection.sendall(sent)
        # The rest is sent while answers are read; otherwise the buffers of both sides would be full.
        for _ in range(count // 8):
            status, headers, body = answers.next()
            assert status == 200
            assert body[int(headers["inference-header-content-length"]) :] == array.tobytes()


def test_connections_that_are_silent_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.front.http.server.KEEP_ALIVE_S", 0.05)
    monkeypatch.setattr("gateway.front.http.shared_state.KEEP_ALIVE_S", 0.05)

    async def ask(port: int) -> bytes:
        _, unused = await asyncio.open_connection("127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HOT)
        received = await reader.read()  # until it is closed
        for each in (writer, unused):
            each.close()
        return received

    received = asyncio.run(with_server(FakeEngine(models(), answer), LIMITS, ask))
    assert received.startswith(b"HTTP/1.1 200")


def test_without_keep_alive_each_connection_ends_with_its_answer() -> None:
    async def ask(port: int) -> bytes:
        received = b""
        for request in (HOT, COLD):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            received += await reader.read()  # until it is closed
            writer.close()
        return received

    received = asyncio.run(with_server(FakeEngine(models(), answer), LIMITS, ask, HttpServer.disable_keep_alive))
    assert received.count(b"HTTP/1.1 200") == received.count(b"connection: close") == 2


def test_a_cold_head_is_not_cached_as_that_of_the_next_hot_request(serving: Serving) -> None:
    cold = COLD.replace(b"here", b"there")
    with serving.connect() as connection:
        answers = Answers(connection)
        connection.sendall(cold + EMPTY)
        assert [answers.next()[0], answers.next()[0]] == [200, 400]
        connection.sendall(cold)
        assert answers.next()[0] == 200


def test_a_disconnect_releases_the_reservations_of_pipelined_requests(serving: Serving) -> None:
    serving.open_gate(False)
    with serving.connect() as connection:
        connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )  # close() then resets the connection
        connection.sendall(HOT * 6)
        assert serving.engine.arrived.wait(60)
    serving.open_gate()
    ends = time.monotonic() + 5
    while serving.engine.reserved_bytes and time.monotonic() < ends:
        serving.run(lambda: None)
    assert serving.engine.reserved_bytes == 0


def test_any_number_of_pipelined_requests_may_fail(serving: Serving) -> None:
    serving.open_gate(False)
    with serving.connect() as connection:
        connection.settimeout(20)
        connection.sendall(HOT + EMPTY * 1000)
        assert serving.engine.arrived.wait(60)
        serving.open_gate()
        answers = Answers(connection)
        assert [answers.next()[0] for _ in range(1001)] == [200] + [400] * 1000


@pytest.mark.parametrize("end", [b"x" * (1 << 18), b"A: b\r\n" * (1 << 16)])
def test_headers_without_end_are_rejected(serving: Serving, end: bytes) -> None:
    with serving.connect() as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"POST /predict/doubler HTTP/1.1\r\nHost: " + end)
        status, _, body = Answers(connection).next()
        assert (status, "over the limit of 65536 bytes" in json.loads(body)["error"]) == (431, True)


def test_the_target_may_be_an_absolute_url(serving: Serving) -> None:
    with serving.connect() as connection:
        connection.sendall(HOT.replace(b"POST /", b"POST http://here/"))
        assert read_answer(connection)[0] == 200


def test_a_disconnect_within_a_large_body_frees_its_block_without_a_collection() -> None:
    arena = Arena(1 << 24)

    class Engine(FakeEngine):
        def buffer(self, size: int, model: str = "") -> memoryview:
            block = arena.allocate(size)
            assert block is not None
            return block

    async def wait_until(is_free: bool) -> None:
        while (arena.free_bytes == arena.size) is not is_free:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def ask(port: int) -> bytes:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(binary(400)[0][: 1 << 20])
        await wait_until(False)
        writer.close()
        async with asyncio.timeout(5):
            await wait_until(True)
        return b""

    gc.disable()
    try:
        asyncio.run(with_server(Engine(models(), answer), LIMITS, ask))
    finally:
        gc.enable()


UPGRADES = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA\r\n",
    b"Connection: upgrade\r\nUpgrade: TLS/1.2, HTTP/2.0\r\n",
    b"upgrade: websocket\r\nconnection: keep-alive\r\nconnection: UPGRADE\r\n",
]


def with_upgrade(request: bytes, offer: bytes) -> bytes:
    return request.replace(b"\r\n\r\n", b"\r\n" + offer + b"\r\n", 1)


@pytest.mark.parametrize("offer", UPGRADES)
@pytest.mark.parametrize("size", [1, 50, 1 << 20])
def test_an_upgrade_offer_is_ignored(serving: Serving, offer: bytes, size: int) -> None:
    """Java's HttpClient and curl --http2 send one with every request."""
    large, array = binary(16)
    post = b'POST /v2/repository/index HTTP/1.1\r\nHost: here\r\nContent-Length: 15\r\n\r\n{"ready": true}'
    chunked = head(GOOD.path, **{"Transfer-Encoding": "chunked"}) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    sent = b"".join(with_upgrade(each, offer) for each in (HOT, COLD, chunked, HOT, post, large if size > 1 else HOT))
    with serving.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answers = Answers(connection)
        for start in range(0, len(sent), size):
            connection.sendall(sent[start : start + size])
        assert [answers.next()[0] for _ in range(5)] == [200] * 5
        status, headers, body = answers.next()
        assert status == 200
        if size > 1:
            assert body[int(headers["inference-header-content-length"]) :] == array.tobytes()
        connection.sendall(HOT)
        assert answers.next()[0] == 200


@pytest.mark.parametrize("request_head", [HOT, COLD])
def test_the_body_of_a_request_to_upgrade_does_not_become_the_next_request(
    serving: Serving, request_head: bytes
) -> None:
    start = request_head.partition(b"\r\n\r\n")[0].partition(b"\r\nContent-Length")[0]
    length = b"Content-Length: %d\r\n\r\n" % len(EMPTY)
    with serving.connect() as connection:
        connection.sendall(start + b"\r\n" + UPGRADES[0] + length + EMPTY + b"GET /v2 HTTP/1.1\r\n\r\n")
        answers = Answers(connection)
        status, _, _ = answers.next()
        assert status == (400 if request_head is HOT else 200)
        assert json.loads(answers.next()[2])["name"]
    assert not serving.engine.requests


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Content-Length: \r\n",
    ],
)
@pytest.mark.parametrize("offer", [b"", UPGRADES[0]])
def test_a_body_of_two_lengths_is_rejected(serving: Serving, framing: bytes, offer: bytes) -> None:
    with serving.connect() as connection:
        connection.sendall(head(GOOD.path).removesuffix(b"\r\n") + offer + framing + b"\r\n0\r\n\r\n" + HOT)
        status, headers, body = read_answer(connection)
        assert (status, headers["connection"]) == (400, "close")
        assert "not valid HTTP" in json.loads(body)["error"]
    assert not serving.engine.requests


def test_a_missing_body_never_exposes_data_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.front.base.body.BODY_IDLE_TIMEOUT_S", 0.05)
    monkeypatch.setattr("gateway.front.base.body.LINGER_S", 0.05)
    sent, _ = binary(100)
    start, _, stale = sent.partition(b"\r\n\r\n")

    class Engine(FakeEngine):
        def buffer(self, size: int, model: str = "") -> memoryview:
            return memoryview(bytearray(size - len(stale)) + stale)

    async def ask(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(start + b"\r\n" + UPGRADES[0] + b"\r\n")
        received = await reader.read()  # until it is closed
        writer.close()
        return received

    engine = Engine(models(), answer)
    assert asyncio.run(with_server(engine, LIMITS, ask)).startswith(b"HTTP/1.1 400")
    assert not engine.requests


@pytest.mark.parametrize(
    ("path", "kind"), [(GOOD.path, "error"), ("/predictions/doubler", "message"), ("/predict/doubler", "error")]
)
def test_a_body_longer_than_its_length_gets_an_error_in_its_dialect(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, path: str, kind: str
) -> None:
    monkeypatch.setattr("gateway.front.base.body.LINGER_S", 0.05)
    serving.open_gate(False)
    text = b'{"inputs": [[1, 2, 3]]}' if path != GOOD.path else BODY
    with serving.connect() as connection:
        connection.sendall(head(path, **{"Content-Length": len(text)}) + text + b"more of it")
        status, headers, body = read_answer(connection)
        assert (status, headers["content-type"], headers["connection"]) == (400, "application/json", "close")
        assert "longer than its Content-Length" in json.loads(body)[kind]
        connection.sendall(HOT)  # the server does not read it
        assert connection.recv(1) == b""
    serving.open_gate()


@pytest.mark.parametrize("sent", [HOT, COLD])
def test_an_http_1_0_connection_is_kept_on_request(serving: Serving, sent: bytes) -> None:
    with serving.connect() as connection:
        answers = Answers(connection)
        for _ in range(3):
            connection.sendall(with_upgrade(sent.replace(b"HTTP/1.1", b"HTTP/1.0"), b"Connection: Keep-Alive\r\n"))
            status, headers, _ = answers.next()
            assert (status, headers["connection"]) == (200, "keep-alive")
        connection.sendall(sent.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert answers.next()[1]["connection"] == "close"
        assert connection.recv(1) == b""


@pytest.mark.parametrize("trailer", [b"A: b\r\n" * (1 << 16), b"A: " + b"b" * (1 << 18)])
def test_trailers_have_a_limit(serving: Serving, trailer: bytes) -> None:
    with serving.connect() as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(head(GOOD.path, **{"Transfer-Encoding": "chunked"}) + b"0\r\n" + trailer)
        assert Answers(connection).next()[0] == 431


def test_a_body_may_come_in_chunks_of_one_byte(serving: Serving) -> None:
    body = BODY.ljust(1 << 16)
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    with serving.connect() as connection:
        connection.sendall(head(GOOD.path, **{"Transfer-Encoding": "chunked"}) + chunks)
        assert read_answer(connection)[0] == 200
