"""Connections beyond a limit, and answers that nobody reads."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.engine.fake import FakeEngine
from gateway.errors import Overloaded, Unavailable
from gateway.front.admin.app import build_admin
from gateway.front.http import open_connections
from gateway.front.http.open_connections import ConnectionLimits, OpenConnections
from gateway.front.http.server import HttpServer
from tests.support.bad_inputs import Subject, good_call
from tests.support.front_server import LIMITS, WAIT_S, answer, models
from tests.support.v2_calls import as_json

GOOD = good_call(Subject())
BODY = as_json(GOOD)
REQUEST = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (GOOD.path.encode(), len(BODY), BODY)

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Connection:
    def __init__(self, idle_since: tuple[bool, float] | None = None, unread_bytes: int = 0) -> None:
        self.idle_since, self.unread_bytes = idle_since, unread_bytes
        self.transport = self
        self.is_evicted = self.is_aborted = False

    def evict(self) -> None:
        self.is_evicted = True

    def abort(self) -> None:
        self.is_aborted = True


def test_those_without_a_request_make_room_first_and_then_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_connections, "_PART_CLOSED", 2)
    states = [(True, 1.0), (False, 9.0), None, (True, 0.0), (True, 2.0)]
    every: Any = [Connection(state) for state in states]
    table = OpenConnections(ConnectionLimits(5))
    for each in every:
        table.add(each, "", every)
    new: Any = Connection((False, 10.0))
    table.add(new, "", [*every, new])
    assert [each.is_evicted for each in [*every, new]] == [False, True, False, True, False, False]


def test_connections_in_use_are_not_closed() -> None:
    every: Any = [Connection(), Connection()]
    table = OpenConnections(ConnectionLimits(1))
    table.add(every[0], "", every)
    with pytest.raises(Unavailable, match="all of the 1 connections are in use"):
        table.add(every[1], "", every)
    table.remove(every[0], "")
    table.add(every[1], "", every)


@pytest.mark.parametrize(
    ("same", "other"),
    [
        (("10.0.0.1", "10.0.0.1"), "10.0.0.2"),
        (("10.0.0.1", "::ffff:10.0.0.1"), "::ffff:10.0.0.2"),
        (("2001:db8::1", "2001:db8::2"), "2001:db8:0:1::1"),
        (("fe80::1%eth0", "fe80::2%eth0"), "::1"),
    ],
)
def test_connections_of_one_network_are_limited(same: tuple[str, str], other: str) -> None:
    table, connection = OpenConnections(ConnectionLimits(per_peer=1)), Connection()
    for _ in range(2):
        table.add(connection, same[0], [])  # type: ignore[arg-type]
        with pytest.raises(Overloaded, match="this address has 1 connections"):
            table.add(connection, same[1], [])  # type: ignore[arg-type]
        table.add(connection, other, [])  # type: ignore[arg-type]
        for peer in (same[0], other):
            table.remove(connection, peer)  # type: ignore[arg-type]
    assert not table._of_peer


def test_answers_that_nobody_reads_are_limited() -> None:
    table = OpenConnections(ConnectionLimits(unread_bytes=250))
    every: Any = [Connection(unread_bytes=100) for _ in range(5)]
    for each in every[:3]:
        table.on_unread(each)
    assert [each.is_aborted for each in every[:3]] == [True, False, False]
    table.on_read(every[1])
    table.on_unread(every[3])
    assert not every[2].is_aborted
    every[4].unread_bytes = 1000  # the newest is not closed for its own size
    table.on_unread(every[4])
    assert [each.is_aborted for each in every] == [True, False, True, True, False]


def serve(limits: ConnectionLimits, test: Callable[[Callable[[], Awaitable[Client]]], Awaitable[None]]) -> None:
    async def main() -> None:
        engine = FakeEngine(models(), answer)
        server = HttpServer(engine, LIMITS, build_admin(engine, LIMITS), connection_limits=limits)
        listener = await asyncio.to_thread(_listen)
        serving = asyncio.create_task(server.serve([listener]))
        clients: list[Client] = []

        async def connect() -> Client:
            clients.append(await asyncio.open_connection(*listener.getsockname()))
            return clients[-1]

        try:
            async with asyncio.timeout(WAIT_S):
                await test(connect)
        finally:
            for _, writer in clients:
                writer.close()
            server.stop()
            await serving

    asyncio.run(main())


def _listen() -> Any:
    import socket

    return socket.create_server(("127.0.0.1", 0))


async def ask(client: Client) -> int:
    reader, writer = client
    writer.write(REQUEST)
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
    return int(head[9:12])


def test_a_client_is_served_although_others_hold_all_connections() -> None:
    async def test(connect: Callable[[], Awaitable[Client]]) -> None:
        used = await connect()
        assert await ask(used) == 200
        silent, slow = await connect(), await connect()
        slow[1].write(b"POST / HTTP/1.1\r\nX: ")
        assert await ask(used) == 200  # the server has seen those before it, too
        for _ in range(2):
            assert await ask(await connect()) == 200
        assert await ask(used) == 200
        for reader, _ in (silent, slow):
            assert await reader.read() == b""

    serve(ConnectionLimits(3), test)


def test_one_connection_too_many_of_an_address_is_told_so() -> None:
    async def test(connect: Callable[[], Awaitable[Client]]) -> None:
        first = await connect()
        assert await ask(first) == 200
        reader, _ = await connect()
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 1" in head
        assert "this address has 1 connections" in json.loads(body)["error"]
        first[1].close()
        await first[1].wait_closed()
        while True:  # until the server has seen the end of the first
            reader, writer = await connect()
            writer.write(REQUEST)
            if (await reader.readuntil(b"\r\n"))[9:12] == b"200":
                break

    serve(ConnectionLimits(per_peer=1), test)
