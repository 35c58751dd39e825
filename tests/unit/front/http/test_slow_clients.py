"""Clients that send too slowly, with a fake clock and a fake transport."""

import json
from collections.abc import Callable, Coroutine
from typing import Any
from unittest.mock import Mock

import pytest
import uvicorn
from uvicorn.server import ServerState

from gateway.engine.fake import FakeEngine
from gateway.front.base.body import Receive, Scope, Send
from gateway.front.base.limits import Limits
from gateway.front.http.connection import HttpConnection
from gateway.front.http.shared_state import SharedState
from tests.support.bad_inputs import Subject, good_call
from tests.support.front_server import answer, models
from tests.support.v2_calls import as_json

GOOD = good_call(Subject())
BODY = as_json(GOOD)
LIMITS = Limits(header_timeout_s=30.0, min_body_rate=1024)
COLD = "/v2/repository/index"


async def _never(scope: Scope, receive: Receive, send: Send) -> None:
    """The app for cold requests. It is never called, because tasks do not run."""


class Loop:
    """A loop whose time the test sets, and whose tasks never run."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Called only for the end of lingering."""

    def create_task(self, coroutine: Coroutine[Any, Any, None]) -> Mock:
        coroutine.close()
        return Mock()


class Transport:
    def __init__(self) -> None:
        self.written = b""
        self.is_closed = self.is_aborted = False
        self.unread = 0

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True

    def get_write_buffer_size(self) -> int:
        return self.unread

    def is_closing(self) -> bool:
        return self.is_closed

    def get_extra_info(self, name: str) -> None:
        return None

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Client:
    """One connection. `send` delivers bytes; `wait` advances the time and checks timeouts."""

    def __init__(self, limits: Limits = LIMITS, other: "Client | None" = None) -> None:
        """`other`: another client of the same server."""
        self.loop, self.transport = Loop(), Transport()
        config = uvicorn.Config(_never, ws="none", lifespan="off", log_config=None)
        self.engine: FakeEngine = FakeEngine(models(), answer) if other is None else other.engine
        self.shared: SharedState = SharedState(self.engine, limits) if other is None else other.shared
        self.connection = HttpConnection(
            self.shared, config=config, server_state=ServerState(), app_state={}, _loop=self.loop
        )
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]

    def send(self, data: bytes) -> None:
        while data:
            buffer = self.connection.receive_buffer()
            if buffer is None:
                self.connection.data_received(data[: 1 << 16])
                data = data[1 << 16 :]
            else:
                size = min(len(buffer), len(data))
                buffer[:size] = data[:size]
                self.connection.buffer_filled(size)
                data = data[size:]

    def wait(self, seconds: float) -> None:
        self.loop.now += seconds
        self.connection.check_timeouts(self.loop.now)

    @property
    def refusal(self) -> tuple[int, str] | None:
        """The status and message of the answer, if there is one."""
        if not self.transport.written:
            return None
        first, _, body = self.transport.written.partition(b"\r\n\r\n")
        assert b"connection: close" in first
        return int(first.split()[1]), json.loads(body)["error"]


def head(path: str, length: int) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Length: {length}\r\n\r\n".encode()


@pytest.mark.parametrize("path", [GOOD.path, COLD])
def test_headers_sent_byte_by_byte_time_out(path: str) -> None:
    client = Client()
    for byte in head(path, 10)[:30]:
        assert client.refusal is None
        client.send(bytes([byte]))
        client.wait(1.01)
    assert client.refusal == (408, "the headers did not arrive within 30 s")


def test_empty_lines_do_not_keep_a_connection() -> None:
    client = Client()
    for _ in range(8):
        client.send(b"\r\n")
        client.wait(10)
    assert client.transport.is_closed


@pytest.mark.parametrize(("path", "status"), [(GOOD.path, 400), (COLD, 408)])
@pytest.mark.parametrize("length", [1000, 1 << 20])
def test_a_body_sent_byte_by_byte_times_out(path: str, status: int, length: int) -> None:
    client = Client()
    client.send(head(path, length))
    for _ in range(15):
        client.send(b"{")
        client.wait(2)
        assert client.refusal is None
    client.send(b"{")
    client.wait(2)
    assert client.refusal == (status, "the body arrived too slowly, below 1024 bytes a second; send it again")


@pytest.mark.parametrize("path", [GOOD.path, COLD])
def test_chunk_framing_does_not_count_as_body(path: str) -> None:
    """All bytes count for the rate, so those that do not belong to the body need a limit."""
    client = Client()
    client.send(f"POST {path} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    for _ in range(100):
        client.send(b"1;" + b"x" * 2000 + b"\r\n1\r\n")
        client.wait(1)
    assert client.refusal == (431, "the headers are over the limit of 65536 bytes")


def test_a_large_body_over_a_slow_network_is_received() -> None:
    """10 MiB at 2 KiB per second take an hour and a half."""
    client = Client(Limits(json_bytes=1 << 24))
    body = BODY.ljust(10 << 20)
    client.send(head(GOOD.path, len(body)))
    for start in range(0, len(body) - 1, 20 << 10):
        client.wait(10)
        assert client.refusal is None
        client.send(body[start : min(start + (20 << 10), len(body) - 1)])
    assert client.connection.cycle.waits_for_body


def test_a_paused_connection_is_not_slow() -> None:
    client = Client()
    client.send(head(GOOD.path, 1000))
    client.connection.flow.pause_reading()
    client.wait(500)
    client.connection.flow.resume_reading()
    client.wait(20)
    assert client.refusal is None
    client.wait(20)
    assert client.refusal is not None


def test_the_minimum_rate_can_be_disabled() -> None:
    client = Client(Limits(min_body_rate=0))
    client.send(head(GOOD.path, 1000))
    for _ in range(100):
        client.send(b"{")
        client.wait(50)
    assert client.refusal is None


@pytest.mark.parametrize("is_overloaded", [False, True])
def test_the_rest_of_a_large_body_is_ignored_after_an_error(is_overloaded: bool) -> None:
    """No parser has seen the head, which another client sent before: the rest must not be taken for requests."""
    other = Client()
    other.send(head(GOOD.path, 1 << 20))
    client = Client(other=other)
    if is_overloaded:
        client.engine.max_bytes = 1 << 20
    client.send(head(GOOD.path, 1 << 20) + b"{")
    assert client.connection.parser is None
    client.wait(1000)
    assert client.refusal is not None
    assert client.refusal[0] == (429 if is_overloaded else 400)
    written = client.transport.written
    client.send(b"}" + head(GOOD.path, len(BODY)) + BODY)
    assert client.transport.written == written
    assert client.engine.reserved_bytes == 1 << 20  # those of the other client


def test_all_cold_requests_learn_of_the_disconnect() -> None:
    """Also one that runs while others wait behind it. Otherwise its answer is written to a closed connection."""
    client = Client()
    for cold in (COLD, COLD):
        client.send(head(cold, 0))
    client.send(head(GOOD.path, len(BODY)) + BODY)
    running = client.connection._running
    waiting = [cycle for cycle, _ in client.connection.pipeline]
    assert len(waiting) == 2
    client.connection.connection_lost(None)
    assert running.disconnected
    assert waiting[1].disconnected


def test_a_client_that_reads_nothing_is_disconnected() -> None:
    """Also if its connection is being closed already: that alone has no time limit."""
    for closes in (False, True):
        client = Client()
        client.send(head(COLD, 0))
        client.transport.unread = 1000
        client.transport.is_closed = closes
        client.wait(1)
        client.wait(59)
        client.transport.unread = 999  # it has read a byte
        client.wait(59)
        client.wait(59)
        assert not client.transport.is_aborted
        client.wait(10)
        assert client.transport.is_aborted


def test_a_client_that_reads_a_large_answer_slowly_is_not_idle() -> None:
    client = Client()
    client.connection.cycle = Mock(response_complete=True)
    for unread in range(1000, 0, -100):
        client.transport.unread = unread
        client.wait(50)
    client.connection.flow.pause_reading()
    client.connection.pause_writing()
    client.connection.resume_writing()
    client.transport.unread = 0
    client.wait(4)  # uvicorn's default for idle connections is 5 s
    assert not client.transport.is_closed
    client.wait(2)
    assert client.transport.is_closed
    assert not client.transport.is_aborted
