"""Workarounds for bugs of the native gRPC server, and its memory under a flood of messages over the limit."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.domain.request_record import RequestRecord
from gateway.engine.fake import FakeEngine
from gateway.errors import Overloaded
from gateway.front.base.access import Check
from gateway.front.base.grpc_method import InferCall, Method, Service
from gateway.front.base.limits import Limits
from gateway.front.dialects.v2.grpc import SERVICE
from gateway.front.grpc import server as grpc_server
from tests.support.front_server import WAIT_S, answer, models

pytest.importorskip("pygrpc_native", reason="pygrpc-native is not installed")
from pygrpc_native import EVENT_CALL, EVENT_CANCEL

from gateway.front.grpc.native import NativeServer

PATH = "/tests.Service/Call"


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, WAIT_S))


def serves(method: Method, options: Sequence[tuple[str, Any]] = ()) -> NativeServer:
    return NativeServer([Service("tests.Service", {"Call": method})], options)


def test_the_native_server_is_the_default() -> None:
    async def main() -> None:
        server = grpc_server.build_server(FakeEngine(models(), answer), Limits())
        assert isinstance(server, NativeServer)

    run(main())


def test_calls_that_end_before_they_start_are_forgotten() -> None:
    async def main() -> None:
        async def handler(message: bytes, seconds: float | None, check: Check | None = None) -> bytes:
            raise AssertionError("it was cancelled")

        server = serves(handler)
        server.add_port("127.0.0.1:0")
        await server.start()
        events: list[tuple[Any, ...]] = []
        for number in range(1 << 40, (1 << 40) + 3):
            events.append((EVENT_CALL, number, 0, b"", "peer", ((), "peer", None)))
            events.append((EVENT_CANCEL, number, 0, None, None, None))
        server._on_events(events)
        assert events == []
        tasks = list(server._calls.values())
        assert len(tasks) == 3
        await asyncio.wait(tasks)
        assert not server._calls
        await server.stop(None)

    run(main())


class Submitted(InferCall[Any]):
    """Records calls on the fast path, and is their RequestHandle as well."""

    def __init__(self) -> None:
        self.calls: list[tuple[bytes, float | None, Callable[[bytes | Exception], None]]] = []
        self.arrived, self.cancelled = asyncio.Event(), asyncio.Event()

    def submit(
        self,
        message: bytes,
        seconds: float | None,
        done: Callable[[bytes | Exception], None],
        check: Check | None = None,
        record: RequestRecord | None = None,
    ) -> "Submitted":
        self.calls.append((message, seconds, done))
        self.arrived.set()
        return self

    def cancel(self) -> None:
        self.cancelled.set()


LIMITS = [("grpc.max_receive_message_length", 100), ("grpc.max_send_message_length", 100)]


@asynccontextmanager
async def fast_path() -> AsyncIterator[tuple[NativeServer, Submitted, Any]]:
    submitted = Submitted()
    server = serves(submitted, LIMITS)
    port = server.add_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield server, submitted, channel
    await server.stop(None)


OUTCOMES = [
    (b"answer", "OK", ""),
    (Overloaded("too much"), "RESOURCE_EXHAUSTED", "too much"),
    (ValueError("a bug"), "INTERNAL", "internal error"),
    (bytes(101), "RESOURCE_EXHAUSTED", "the answer has 101 bytes, over the limit of 100"),
]


@pytest.mark.parametrize(("outcome", "code", "sentence"), OUTCOMES)
def test_the_fast_path_answers_and_rejects(outcome: bytes | Exception, code: str, sentence: str) -> None:
    async def main() -> None:
        async with fast_path() as (server, submitted, channel):
            call = channel.unary_unary(PATH)(b"message", timeout=WAIT_S)
            await submitted.arrived.wait()
            message, seconds, done = submitted.calls[0]
            assert message == b"message"
            assert seconds is not None
            assert WAIT_S - 10 < seconds < WAIT_S + 1  # the client rounds it up
            done(outcome)
            assert (await call.code()).name == code
            assert await call.details() == sentence
            if code == "OK":
                assert await call == outcome
            assert not server._handles

    run(main())


def test_several_answers_of_one_turn_are_all_sent() -> None:
    async def main() -> None:
        async with fast_path() as (server, submitted, channel):
            calls = [channel.unary_unary(PATH)(b"%d" % number) for number in range(3)]
            while len(submitted.calls) < 3:
                submitted.arrived.clear()
                await submitted.arrived.wait()
            for message, _, done in submitted.calls:
                done(b"answer to " + message)
            assert await asyncio.gather(*calls) == [b"answer to 0", b"answer to 1", b"answer to 2"]
            if sys.platform == "linux":
                assert server._io_thread is not None
                assert server._io_thread.number is not None

    run(main())


def test_the_fast_path_rejects_a_message_over_the_limit() -> None:
    async def main() -> None:
        async with fast_path() as (_, submitted, channel):
            call = channel.unary_unary(PATH)(bytes(101), timeout=WAIT_S)
            assert await call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert await call.details() == "the message has 101 bytes, over the limit of 100"
            assert not submitted.calls

    run(main())


def test_a_call_cancelled_on_the_fast_path_is_not_waited_for() -> None:
    async def main() -> None:
        async with fast_path() as (server, submitted, channel):
            call = channel.unary_unary(PATH)(b"message")
            await submitted.arrived.wait()
            assert submitted.calls[0][1] is None
            call.cancel()
            await submitted.cancelled.wait()
            assert not server._handles

    run(main())


def test_calls_on_the_fast_path_are_answered_before_the_stop() -> None:
    async def main() -> None:
        async with fast_path() as (server, submitted, channel):
            call = channel.unary_unary(PATH)(b"message", timeout=WAIT_S)
            await submitted.arrived.wait()
            stop = asyncio.create_task(server.stop(WAIT_S))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await _ask(channel)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            submitted.calls[0][2](b"answer")
            assert await call == b"answer"
            await stop

    run(main())


def test_calls_on_the_fast_path_are_cancelled_after_the_grace_period() -> None:
    async def main() -> None:
        async with fast_path() as (server, submitted, channel):
            call = channel.unary_unary(PATH)(b"message", timeout=WAIT_S)
            await submitted.arrived.wait()
            await server.stop(0.0)
            assert submitted.cancelled.is_set()
            assert await call.code() == grpc.StatusCode.UNAVAILABLE

    run(main())


@pytest.mark.parametrize("size", [1, 32 << 20])
def test_an_answer_being_sent_is_finished_before_the_stop(size: int) -> None:
    async def main() -> None:
        arrived, gate = asyncio.Event(), asyncio.Event()

        async def handler(message: bytes, seconds: float | None, check: Check | None = None) -> bytes:
            arrived.set()
            await gate.wait()
            return bytes(size)

        server = serves(handler)
        port = server.add_port("127.0.0.1:0")
        await server.start()
        options = [("grpc.max_receive_message_length", -1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            answer = asyncio.ensure_future(_ask(channel))
            await arrived.wait()
            stop = asyncio.create_task(server.stop(WAIT_S))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await _ask(channel)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            gate.set()
            await stop
            assert len(await answer) == size

    run(main())


async def _ask(channel: Any) -> bytes:
    answer: bytes = await channel.unary_unary(PATH)(b"", timeout=WAIT_S)
    return answer


def test_grpcio_serves_if_it_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        server = grpc_server.build_server(FakeEngine([], answer), Limits())
        assert not isinstance(server, NativeServer)

    monkeypatch.setattr(grpc_server, "NativeServer", None)
    run(main())
    assert [record.message for record in caplog.records] == [
        "pygrpc-native is not installed; gRPC is served by grpcio, at several times the cost of a call"
    ]


# The memory as a share of the bytes sent at a time; docs/decisions/0009-grpc-native.md explains why it is not 0.
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
@pytest.mark.parametrize(("kind", "share"), [("grpcio", 0), ("guarded", 0), ("native", 2)])
def test_a_flood_of_messages_over_the_limit_has_bounded_memory(kind: str, share: int) -> None:
    clients, size, slack = 8, 16 << 20, 48 << 20
    command = [sys.executable, "-m", "tests.support.grpc_server_script", kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        target = f"127.0.0.1:{process.stdout.readline().strip()}"
        before = _memory(process.pid, "VmHWM")

        def send(client: int) -> str:
            options = [("grpc.max_send_message_length", -1), ("tests.client", client)]
            with grpc.insecure_channel(target, options=options) as channel, pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(f"/{SERVICE}/ModelInfer")(bytes(size), timeout=WAIT_S)
            return str(caught.value.code().name)

        with ThreadPoolExecutor(clients) as pool:
            for _ in range(3):  # the memory of one flood does not add to that of the next
                assert set(pool.map(send, range(clients))) == {"RESOURCE_EXHAUSTED"}
        assert _memory(process.pid, "VmHWM") - before < share * clients * size + slack
        with grpc.insecure_channel(target) as channel:
            channel.unary_unary(f"/{SERVICE}/ServerLive")(b"", timeout=WAIT_S)
        process.stdin.close()  # type: ignore[union-attr]


def _memory(pid: int, what: str) -> int:
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) << 10
