"""The lifetime of connections, and the number of concurrent calls, with both servers."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, get_args

import grpc
import pytest

from gateway.front.base.limits import Limits
from gateway.front.dialects.v2.grpc import SERVICE
from gateway.front.grpc import connections
from gateway.front.grpc.connections import connection_options
from gateway.front.grpc.server import build_server
from gateway.process.address import GrpcServer
from tests.support.bad_inputs import Subject, good_call
from tests.support.front_server import WAIT_S, WatchedEngine, answer, models
from tests.support.v2_calls import as_message

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING = 4, 6
READY = grpc.ChannelConnectivity.READY
CALL = as_message(good_call(Subject()), raw=True).SerializeToString()


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, WAIT_S))


@asynccontextmanager
async def served(kind: GrpcServer, options: list[tuple[str, int]]) -> AsyncIterator[tuple[WatchedEngine, int]]:
    engine = WatchedEngine(models(), answer)
    server = build_server(engine, Limits(), kind, options)
    port = server.add_port("127.0.0.1:0")
    await server.start()
    yield engine, port
    await server.stop(None)


def infer(channel: grpc.aio.Channel) -> Any:
    return channel.unary_unary(f"/{SERVICE}/ModelInfer")(CALL, timeout=WAIT_S)


def frame(kind: int) -> bytes:
    """Return an empty HTTP/2 frame of stream 0, the connection itself."""
    return bytes([0, 0, 0, kind, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("kind", get_args(GrpcServer))
def test_a_silent_client_is_pinged_and_closed_if_it_stays_silent(
    kind: GrpcServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with served(kind, connection_options(0.05, 0, 30)) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(PREFACE + frame(SETTINGS))
            arrived = []
            while head := await reader.read(1):
                head += await reader.readexactly(len(frame(SETTINGS)) - 1)
                await reader.readexactly(int.from_bytes(head[:3], "big"))
                arrived.append(head[3])
            assert PING in arrived
            writer.close()

    monkeypatch.setattr(connections, "_PING_TIMEOUT_S", 0.05)

    run(main())


def test_an_old_connection_accepts_no_more_calls_but_finishes_its_own() -> None:
    async def main() -> None:
        options = connection_options(0, 0.1, WAIT_S)
        async with served("grpcio", options) as (engine, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as old:
            engine.gate.clear()
            under_way = infer(old)
            assert await asyncio.to_thread(engine.arrived.wait, WAIT_S)
            while old.get_state() == READY:  # until the server has closed it for new calls
                await old.wait_for_state_change(READY)
            engine.gate.set()
            assert await under_way
            assert await infer(old)  # on another connection

    run(main())


def test_options_that_are_not_set_keep_the_librarys_default() -> None:
    assert connection_options(0, 0, 30) == []


def test_times_are_at_least_a_millisecond() -> None:
    assert dict(connection_options(1e-9, 1e-9, 1e9)) == {
        "grpc.keepalive_time_ms": 1,
        "grpc.keepalive_timeout_ms": 20_000,
        "grpc.http2.ping_timeout_ms": 20_000,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.max_connection_age_ms": 1,
        "grpc.max_connection_age_grace_ms": 2**31 - 1,
    }


# By default, grpcio cancels some calls at random when more than 1000 wait for Python.
@pytest.mark.parametrize("kind", get_args(GrpcServer))
def test_each_call_of_a_burst_is_answered_or_rejected_with_a_message(kind: GrpcServer) -> None:
    async def main() -> None:
        channel_of = grpc.aio.insecure_channel
        async with served(kind, []) as (_, port), channel_of(f"127.0.0.1:{port}") as channel:
            calls = [infer(channel) for _ in range(2000)]
            codes = Counter(await asyncio.gather(*[call.code() for call in calls]))
            assert sum(codes.values()) == len(calls)
            assert codes.keys() <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}

    run(main())


def test_a_server_that_stops_by_itself_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """grpcio's does so if its loop fails on a request."""
    from gateway.front.grpc import grpcio

    monkeypatch.setattr(grpcio, "_PROBE_S", 0.01)

    async def main() -> None:
        server = build_server(WatchedEngine(models(), answer), Limits(), "grpcio")
        assert isinstance(server, grpcio.GrpcioServer)
        server.add_port("127.0.0.1:0")
        await server.start()
        waiting = asyncio.create_task(server.wait_unreachable())
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        assert not done
        await server._server.stop(0)
        await waiting

    run(main())
