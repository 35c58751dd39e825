"""Bidirectional streams of the native server: the grpcio server behind it starts with the first of them."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import uvloop

from gateway.front.base.access import Check
from gateway.front.base.grpc_method import Service
from gateway.front.grpc import streams
from tests.support.front_server import WAIT_S

pytest.importorskip("pygrpc_native", reason="pygrpc-native is not installed")

from gateway.front.grpc.native import NativeServer

PATH = "/tests.Service/Echo"
NO_LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


async def echo(
    requests: AsyncIterator[bytes], seconds: Callable[[], float | None], check: Check | None
) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    runner = request.param
    return lambda main: runner(asyncio.wait_for(main, WAIT_S))


@asynccontextmanager
async def served() -> AsyncIterator[tuple[NativeServer, grpc.aio.Channel]]:
    server = NativeServer([Service("tests.Service", {}, {"Echo": echo})], NO_LIMIT)  # type: ignore[dict-item]
    port = server.add_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=NO_LIMIT) as channel:
        yield server, channel
    await server.stop(None)


async def stream(channel: grpc.aio.Channel, *messages: bytes) -> list[bytes]:
    return [answer async for answer in channel.stream_stream(PATH)(iter(messages), timeout=WAIT_S)]


def test_the_first_streams_start_one_server(run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    async def main() -> None:
        async with served() as (server, channel):
            assert server._others._server is None
            first = await asyncio.gather(*[stream(channel, b"a%d" % number, b"b") for number in range(5)])
            assert first == [[b"a%d" % number, b"b"] for number in range(5)]
            started = server._others._server
            assert await stream(channel, b"c") == [b"c"]
            assert started is not None
            assert server._others._server is started

    run(main())


def test_large_messages_pass_in_both_directions(run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    async def main() -> None:
        large = bytes(range(256)) * (1 << 16)
        async with served() as (_, channel):
            assert await stream(channel, large, b"small", large) == [large, b"small", large]

    run(main())


def test_a_server_that_could_not_start_is_started_by_a_later_call(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def ask(channel: grpc.aio.Channel) -> list[bytes]:
        while True:  # the library may fail a call that comes before it has noticed that its connection was closed
            try:
                return await stream(channel, b"a")
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise

    async def main() -> None:
        async with served() as (_, channel):
            with monkeypatch.context() as patched:
                patched.setattr(streams, "_import_grpcio", lambda: 1 / 0)
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await stream(channel, b"a")
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "the gRPC server for streams could not be started" in caplog.text
            assert await ask(channel) == [b"a"]

    asyncio.run(asyncio.wait_for(main(), WAIT_S))


@pytest.mark.parametrize("used", [True, False])
def test_the_socket_is_removed_at_the_stop(used: bool) -> None:
    async def main() -> str:
        async with served() as (server, channel):
            if used:
                await stream(channel, b"a")
            assert os.listdir(server._others._folder)
            return server._others._folder

    assert not os.path.exists(asyncio.run(asyncio.wait_for(main(), WAIT_S)))
