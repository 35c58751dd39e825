"""Bodies over a limit, and clients that disconnect, with plain sockets."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from gateway.engine.fake import FakeEngine
from gateway.errors import InvalidRequest, TooLarge
from gateway.front.admin.app import build_admin
from gateway.front.base.body import Body, BodyTimeouts, Message
from gateway.front.base.limits import Limits, check_json_answer
from gateway.front.http.server import HttpServer
from runtimes.tensors import Tensor
from tests.support.bad_inputs import Subject, good_call
from tests.support.front_server import LIMITS, WAIT_S, Serving, answer, models
from tests.support.v2_calls import Call, Value, as_binary, as_json

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


def assert_rejected(
    answer: tuple[int, dict[str, str], bytes], status: int = 413, says: str = "over the limit", **more: str
) -> None:
    found, headers, body = answer
    assert found == status
    assert says in json.loads(body)["error"]
    assert headers.items() >= {"connection": "close", **more}.items()


@contextmanager
def unfinished(serving: Serving, size: int) -> Iterator[socket.socket]:
    """A client of whose body of `size` bytes nothing has arrived yet."""
    with serving.connect() as connection:
        connection.sendall(head(GOOD.path, **{"Content-Length": size, "Expect": "100-continue"}))
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        yield connection


@pytest.mark.parametrize(("path", "headers", "limit"), CASES)
def test_a_length_over_the_limit_is_rejected_before_the_body_arrives(
    serving: Serving, path: str, headers: dict[str, str], limit: int
) -> None:
    with serving.connect() as connection:
        connection.sendall(head(path, **{"Content-Length": limit + 1}, **headers))
        assert_rejected(read_answer(connection))


@pytest.mark.parametrize(("path", "headers", "limit"), CASES)
def test_a_chunked_body_is_rejected_at_the_limit(
    serving: Serving, path: str, headers: dict[str, str], limit: int
) -> None:
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    with serving.connect() as connection:
        connection.sendall(head(path, **{"Transfer-Encoding": "chunked"}, **headers))
        for _ in range(limit // 0x10000 + 1):
            connection.sendall(chunk)
        assert_rejected(read_answer(connection))


def test_a_client_that_sends_the_whole_body_first_still_reads_the_error(serving: Serving) -> None:
    """Most clients write everything before they read: an early close would reset their connection."""
    body = bytes(8 * LIMITS.json_bytes)
    for _ in range(5):
        with serving.connect() as connection:
            connection.sendall(head(GOOD.path, **{"Content-Length": len(body)}) + body)
            assert_rejected(read_answer(connection))
            assert connection.recv(1) == b""


def test_a_client_that_sends_the_whole_cold_body_first_still_reads_the_error(serving: Serving) -> None:
    body = bytes(8 * LIMITS.json_bytes)
    for _ in range(5):
        with serving.connect() as connection:
            connection.sendall(head("/v2/repository/index", **{"Content-Length": len(body)}) + body)
            assert_rejected(read_answer(connection))
            assert connection.recv(1) == b""


def test_a_body_at_the_limit_is_read(serving: Serving) -> None:
    body = as_json(GOOD).ljust(LIMITS.json_bytes)
    assert serving.http.post(GOOD.path, content=body).status_code == 200
    assert serving.http.post(GOOD.path, content=body + b" ").status_code == 413


def test_bodies_that_are_still_coming_are_limited_together(serving: Serving) -> None:
    body = as_json(GOOD)
    serving.engine.max_bytes = 1000
    chunk = f"{len(body):x}\r\n".encode() + body + b"\r\n"
    with unfinished(serving, 1000) as first:
        with serving.connect() as second:
            second.sendall(head(GOOD.path, **{"Content-Length": len(body)}))
            assert_rejected(read_answer(second), 429, "1000 bytes are being read", **{"retry-after": "1"})
        with serving.connect() as third:
            third.sendall(head(GOOD.path, **{"Transfer-Encoding": "chunked"}) + chunk)
            assert_rejected(read_answer(third), 429, "1000 bytes are being read", **{"retry-after": "1"})
        first.sendall(body.ljust(1000))
        assert read_answer(first)[0] == 200
        assert serving.engine.reserved_bytes == 0
        assert serving.http.post(GOOD.path, content=body).status_code == 200
    assert [request.model for request in serving.engine.requests] == ["doubler"] * 2


@pytest.mark.parametrize("path", [GOOD.path, "/predict/doubler", "/v2/repository/index"])
def test_a_stalled_body_times_out(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr("gateway.front.base.body.BODY_IDLE_TIMEOUT_S", 0.05)
    monkeypatch.setattr("gateway.front.base.body.LINGER_S", 0.05)
    engine = FakeEngine(models(), answer)

    async def ask(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head(path, **{"Content-Length": 1000}) + b"{")
        received = await reader.read()
        writer.close()
        return received

    received = asyncio.run(with_server(engine, LIMITS, ask))
    first, _, body = received.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in first
    assert "stopped arriving" in json.loads(body)["error"]
    assert engine.reserved_bytes == 0


async def with_server(
    engine: FakeEngine,
    limits: Limits,
    test: Callable[[int], Awaitable[bytes]],
    prepare: Callable[[HttpServer], None] = lambda server: None,
) -> bytes:
    """Run a server, and return the result of `test`, which is called with its port."""
    server = HttpServer(engine, limits, build_admin(engine, limits))
    prepare(server)
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve([listener]))
    try:
        async with asyncio.timeout(WAIT_S):
            return await test(listener.getsockname()[1])
    finally:
        server.stop()
        await serving


def test_each_chunk_restarts_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fake clock: of three bodies, the first continues, the second stalls, and the third ends."""

    class Loop(asyncio.SelectorEventLoop):
        now = 0.0

        def time(self) -> float:
            return self.now

        def pass_to(self, now: float) -> None:
            self.now = now
            self.run_until_complete(turns())

    async def turns() -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    def chunk(text: bytes, more: bool = True) -> Message:
        return {"type": "http.request", "body": text, "more_body": more}

    monkeypatch.setattr("gateway.front.base.body.BODY_IDLE_TIMEOUT_S", 60.0)
    loop, timeouts = Loop(), BodyTimeouts()
    queues = [asyncio.Queue[Message]() for _ in range(3)]
    bodies = [Body(queue.get, timeouts) for queue in queues]
    tasks = [loop.create_task(body.read(None, 100, "tests", lambda size: None)) for body in bodies]
    loop.pass_to(1)
    queues[2].put_nowait(chunk(b"z", more=False))
    loop.pass_to(59)
    queues[0].put_nowait(chunk(b"a"))
    loop.pass_to(61)
    assert [task.done() for task in tasks] == [False, True, True]
    with pytest.raises(InvalidRequest, match="stopped arriving"):
        tasks[1].result()
    loop.pass_to(118)
    queues[0].put_nowait(chunk(b"b", more=False))
    loop.pass_to(1000)
    assert (tasks[0].result(), tasks[2].result()) == (b"ab", b"z")
    assert [body.complete for body in bodies] == [True, False, True]
    loop.close()


def test_json_answers_have_a_limit_of_their_own() -> None:
    """Writing JSON blocks the event loop; the same tensors as bytes cost nothing."""
    limits = Limits(json_bytes=600, binary_bytes=1 << 20)

    async def ask_all(port: int) -> bytes:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            for count, status in ((150, 200), (151, 413)):
                text = json.dumps({"inputs": [[0] * count]}, separators=(",", ":"))
                assert (await http.post("/predict/echo_FP64", content=text)).status_code == status
                npz = {"Accept": "application/x-npz"}
                assert (await http.post("/predict/echo_FP64", content=text, headers=npz)).status_code == 200
                echo = Call("echo_FP64", (Value("x", "FP64", (count,), [0] * count),))
                content, headers = as_binary(echo)
                assert (await http.post(echo.path, content=content, headers=headers)).status_code == 200
                as_text = content.replace(b'"binary_data_output": true', b'"binary_data_output":false')
                reply = await http.post(echo.path, content=as_text, headers=headers)
                assert reply.status_code == status
        return reply.content

    reply = asyncio.run(with_server(FakeEngine(models(), answer), limits, ask_all))
    assert json.loads(reply)["error"].startswith("the answer takes 1208 bytes or more, over the limit of 1200 for JSON")


def test_lists_without_values_count_as_json() -> None:
    """A tensor of shape [1000000000, 0] has no bytes, but its JSON has three gigabytes of brackets."""
    limits = Limits(json_bytes=600)
    check_json_answer([Tensor("y", "FP32", (1199, 0, 7), b""), Tensor("z", "FP32", (0, 1 << 40), b"")], limits)
    nested = [Tensor("y", "FP32", (600, 3, 0), b"")]
    with pytest.raises(TooLarge, match="the answer takes 1800 bytes or more, over the limit of 1200 for JSON"):
        check_json_answer(nested, limits)
    check_json_answer(nested, limits, flat=True)


def test_a_disconnect_cancels_the_request(serving: Serving) -> None:
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


def test_a_disconnect_within_a_body_is_not_logged(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    with serving.connect() as connection:
        connection.sendall(head(GOOD.path, **{"Content-Length": 1000}) + b"{")
    assert serving.http.post(GOOD.path, content=as_json(GOOD)).status_code == 200
    assert not serving.engine.arrived.is_set() or len(serving.engine.requests) == 1
    assert not caplog.records


def test_a_disconnect_within_a_cold_body_is_not_logged(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    with serving.connect() as connection:
        connection.sendall(head("/v2/repository/index", **{"Content-Length": 1000, "Expect": "100-continue"}))
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
    assert serving.http.post("/v2/repository/index").status_code == 200
    assert not caplog.records


def test_connections_are_kept(serving: Serving) -> None:
    body = as_json(GOOD)
    with serving.connect() as connection:
        for _ in range(3):
            connection.sendall(head(GOOD.path, **{"Content-Length": len(body)}) + body)
            status, headers, _ = read_answer(connection)
            assert (status, headers.get("connection")) == (200, None)


def test_expect_100_continue(serving: Serving) -> None:
    body = as_json(GOOD)
    with serving.connect() as connection:
        connection.sendall(head(GOOD.path, **{"Content-Length": len(body), "Expect": "100-continue"}))
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert read_answer(connection)[0] == 200
    with serving.connect() as connection:
        connection.sendall(head(GOOD.path, **{"Content-Length": 1 << 40, "Expect": "100-continue"}))
        assert_rejected(read_answer(connection))
