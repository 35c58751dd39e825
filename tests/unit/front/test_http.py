"""HTTP/1.1 as it comes: pipelined, in pieces, kept alive, and hot and cold paths on one connection."""

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
from gateway.front.http import HttpServer
from tests.bad_inputs import Subject, good_call
from tests.calls import as_json
from tests.front_server import LIMITS, Serving, answer, models
from tests.unit.front.test_limits import head, read_answer, with_server

GOOD = good_call(Subject())
BODY = as_json(GOOD)
HOT = head(GOOD.path, **{"Content-Length": len(BODY)}) + BODY
COLD = b"GET /v2/models/doubler/ready HTTP/1.1\r\nHost: here\r\n\r\n"
EMPTY = b"POST /predict HTTP/1.1\r\nContent-Length: 0\r\n\r\n"


class Answers:
    """What comes back on one connection, answer by answer."""

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
    """A request of so many rows for echo_FP32, whose tensor is large."""
    array = np.arange(rows * 1024, dtype=np.float32).reshape(rows, 1024)
    tensor = {
        "name": "x", "shape": array.shape, "datatype": "FP32", "parameters": {"binary_data_size": array.nbytes},
    }  # fmt: skip
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    told = {"Content-Length": len(text) + array.nbytes, "Inference-Header-Content-Length": len(text)}
    return head("/v2/models/echo_FP32/infer", **told) + text + array.tobytes(), array


@pytest.mark.parametrize("order", [[HOT, COLD, HOT], [COLD, HOT, COLD, COLD, HOT], [HOT] * 20])
def test_pipelined_requests_are_answered_in_order(serving: Serving, order: list[bytes]) -> None:
    with serving.connect() as connection:
        answers = Answers(connection)
        connection.sendall(b"".join(order))
        for sent in order:
            status, _, body = answers.next()
            assert status == 200
            assert ("outputs" in json.loads(body)) == (sent is HOT)


def test_a_request_behind_one_that_waits_waits_too(serving: Serving) -> None:
    serving.open_gate(False)
    with serving.connect() as connection:
        answers = Answers(connection)
        connection.sendall(HOT + COLD + HOT)
        assert serving.engine.arrived.wait(60)
        serving.open_gate()
        assert ["outputs" in json.loads(answers.next()[2]) for _ in range(3)] == [True, False, True]


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_request_may_come_in_pieces(serving: Serving, size: int) -> None:
    with serving.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(HOT), size):
            connection.sendall(HOT[start : start + size])
        assert read_answer(connection)[0] == 200


@pytest.mark.parametrize("rows", [15, 16, 17, 100, 300])
def test_large_bodies_come_whole_and_leave_the_connection_in_order(serving: Serving, rows: int) -> None:
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


def test_a_large_body_over_the_json_limit_is_refused_and_one_within_is_read(serving: Serving) -> None:
    text = BODY.ljust(LIMITS.json_bytes)
    with serving.connect() as connection:
        answers = Answers(connection)
        connection.sendall(head(GOOD.path, **{"Content-Length": len(text)}) + text + HOT)
        assert [answers.next()[0], answers.next()[0]] == [200, 200]


def test_who_goes_away_in_a_large_body_leaves_no_room_taken(serving: Serving) -> None:
    sent, _ = binary(400)
    with serving.connect() as connection:
        connection.sendall(sent[: len(sent) // 2])
    assert serving.http.post(GOOD.path, content=BODY).status_code == 200
    while serving.engine.reading_bytes:
        serving.run(lambda: None)


@pytest.mark.parametrize(
    ("request_head", "kept"),
    [
        (b"POST %b HTTP/1.1\r\nHost: here\r\nConnection: close\r\n", False),
        (b"POST %b HTTP/1.0\r\nHost: here\r\n", False),
        (b"POST %b HTTP/1.1\r\nHost: here\r\n", True),
    ],
)
def test_the_connection_is_kept_or_not_as_the_client_says(serving: Serving, request_head: bytes, kept: bool) -> None:
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
def test_another_method_is_told_which_one_is_taken(serving: Serving, method: str) -> None:
    answer = serving.http.request(method, GOOD.path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["error"] == f"this path takes POST, not {method}"


def test_what_is_not_http_is_refused(serving: Serving) -> None:
    with serving.connect() as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert serving.http.post(GOOD.path, content=BODY).status_code == 200


def test_every_answer_has_a_date(serving: Serving) -> None:
    assert serving.http.post(GOOD.path, content=BODY).headers["date"].endswith("GMT")


def test_who_does_not_read_is_not_served_more_and_loses_nothing(serving: Serving) -> None:
    sent, array = binary(256)
    count = 40
    with serving.connect() as connection:
        answers = Answers(connection)
        connection.setblocking(True)
        for _ in range(count // 8):
            connection.sendall(sent)
        # The rest follows while the answers are taken: both sides' buffers would be full else.
        for _ in range(count // 8):
            status, headers, body = answers.next()
            assert status == 200
            assert body[int(headers["inference-header-content-length"]) :] == array.tobytes()


def test_connections_that_are_silent_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.front.http.KEEP_ALIVE_S", 0.05)

    async def ask(port: int) -> bytes:
        _, unused = await asyncio.open_connection("127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HOT)
        told = await reader.read()  # until it is closed
        for each in (writer, unused):
            each.close()
        return told

    told = asyncio.run(with_server(FakeEngine(models(), answer), LIMITS, ask))
    assert told.startswith(b"HTTP/1.1 200")


def test_who_is_let_go_gets_this_answer_and_no_more() -> None:
    async def ask(port: int) -> bytes:
        told = b""
        for request in (HOT, COLD):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            told += await reader.read()  # until it is closed
            writer.close()
        return told

    told = asyncio.run(with_server(FakeEngine(models(), answer), LIMITS, ask, HttpServer.let_go))
    assert told.count(b"HTTP/1.1 200") == told.count(b"connection: close") == 2


def test_a_cold_head_is_not_taken_for_that_of_the_hot_request_behind_it(serving: Serving) -> None:
    cold = COLD.replace(b"here", b"there")
    with serving.connect() as connection:
        answers = Answers(connection)
        connection.sendall(cold + EMPTY)
        assert [answers.next()[0], answers.next()[0]] == [200, 400]
        connection.sendall(cold)
        assert answers.next()[0] == 200


def test_pipelined_requests_that_are_never_answered_leave_no_room_taken(serving: Serving) -> None:
    serving.open_gate(False)
    with serving.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed, it is reset
        connection.sendall(HOT * 6)
        assert serving.engine.arrived.wait(60)
    serving.open_gate()
    ends = time.monotonic() + 5
    while serving.engine.reading_bytes and time.monotonic() < ends:
        serving.run(lambda: None)
    assert serving.engine.reading_bytes == 0


def test_any_number_of_pipelined_requests_may_fail_at_once(serving: Serving) -> None:
    serving.open_gate(False)
    with serving.connect() as connection:
        connection.settimeout(20)
        connection.sendall(HOT + EMPTY * 1000)
        assert serving.engine.arrived.wait(60)
        serving.open_gate()
        answers = Answers(connection)
        assert [answers.next()[0] for _ in range(1001)] == [200] + [400] * 1000


@pytest.mark.parametrize("end", [b"x" * (1 << 18), b"A: b\r\n" * (1 << 16)])
def test_headers_without_end_are_refused(serving: Serving, end: bytes) -> None:
    with serving.connect() as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"POST /predict/doubler HTTP/1.1\r\nHost: " + end)
        status, _, body = Answers(connection).next()
        assert (status, "over the limit of 65536 bytes" in json.loads(body)["error"]) == (431, True)


def test_the_target_may_name_the_host(serving: Serving) -> None:
    with serving.connect() as connection:
        connection.sendall(HOT.replace(b"POST /", b"POST http://here/"))
        assert read_answer(connection)[0] == 200


def test_who_goes_away_in_a_large_body_gives_its_block_back_without_a_collection() -> None:
    arena = Arena(1 << 24)

    class Engine(FakeEngine):
        def buffer(self, size: int) -> memoryview:
            block = arena.take(size)
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


def test_the_body_of_a_request_to_upgrade_does_not_become_the_next_request() -> None:
    async def ask(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        upgrade = b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(HOT)
        writer.write(COLD.removesuffix(b"\r\n") + upgrade)
        told = await reader.readuntil(b"\r\n\r\n")
        with contextlib.suppress(OSError):
            writer.write(HOT)
            writer.write_eof()
            told += await reader.read()
        writer.close()
        return told

    engine = FakeEngine(models(), answer)
    told = asyncio.run(with_server(engine, LIMITS, ask))
    assert told.count(b"HTTP/1.1") == 1
    assert not engine.requests


def test_what_others_sent_is_never_read_for_a_body_that_did_not_come() -> None:
    sent, _ = binary(100)
    start, _, stale = sent.partition(b"\r\n\r\n")

    class Engine(FakeEngine):
        def buffer(self, size: int) -> memoryview:
            return memoryview(bytearray(size - len(stale)) + stale)

    async def ask(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(start + b"\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
        told = await reader.read()  # until it is closed
        writer.close()
        return told

    engine = Engine(models(), answer)
    assert asyncio.run(with_server(engine, LIMITS, ask)).startswith(b"HTTP/1.1 400")
    assert not engine.requests
