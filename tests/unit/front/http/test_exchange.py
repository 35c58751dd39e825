"""One exchange by itself, with events that neither the parser nor a client brings about at will."""

import asyncio
import json
from functools import partial

import numpy as np
import pytest

from gateway.engine.arena import MIN_ARENA_BYTES
from gateway.engine.fake import FakeEngine
from gateway.front.base.access import Caller
from gateway.front.base.dialect import Reply
from gateway.front.http.exchange import Exchange, read_head
from gateway.front.http.routes import match
from tests.support.front_server import LIMITS, WAIT_S, answer, models

SECRET = 42


class Connection:
    """Keeps what it is given to write."""

    access = None

    def __init__(self) -> None:
        self.answered: list[Reply] = []
        self.refused: list[Reply] = []
        self.replied = asyncio.Event()

    def caller(self, headers: object) -> Caller:
        raise AssertionError("there is no access check")

    def ask_for_body(self) -> None:
        raise AssertionError("nobody waits for it")

    def answer(self, reply: Reply, keep_alive: bool) -> None:
        self.answered.append(reply)
        self.replied.set()

    def refuse(self, reply: Reply) -> None:
        self.refused.append(reply)
        self.replied.set()


class UsedBlocks(FakeEngine):
    """Its blocks hold what others sent, as those of the arena do."""

    def buffer(self, size: int) -> memoryview:
        return memoryview(bytearray([SECRET]) * size)


@pytest.mark.parametrize("missing", [0, 1, MIN_ARENA_BYTES // 2, MIN_ARENA_BYTES])
def test_a_block_that_was_not_filled_is_read_by_nobody(missing: int) -> None:
    """The parser says that the body is over before Content-Length says so."""

    async def main() -> None:
        engine, connection = UsedBlocks(models(), answer), Connection()
        route = match(b"/v2/models/echo_UINT8/infer")
        assert route is not None
        parameters = {"binary_data_size": MIN_ARENA_BYTES}
        tensor = {"name": "x", "shape": [MIN_ARENA_BYTES], "datatype": "UINT8", "parameters": parameters}
        text = json.dumps({"inputs": [tensor]}).encode()
        sent = [
            (b"content-length", b"%d" % (len(text) + MIN_ARENA_BYTES)),
            (b"inference-header-content-length", b"%d" % len(text)),
        ]
        exchange = Exchange(engine, LIMITS, connection, keep_alive=True)
        exchange.open(read_head(route, sent, LIMITS), route, sent)
        exchange.start()
        exchange.on_body(text)
        exchange.on_body(bytes(MIN_ARENA_BYTES - missing))
        exchange.on_whole()
        await asyncio.wait_for(connection.replied.wait(), WAIT_S)
        (reply,) = connection.answered
        if missing:
            assert reply.status == 400
            assert b"has not the length that its Content-Length says" in b"".join(reply.body)
            assert engine.requests == []
        else:
            assert reply.status == 200
            (request,) = engine.requests
            assert not np.frombuffer(request.inputs[0].data, np.uint8).any()
        assert connection.refused == []
        assert exchange.response_complete

    asyncio.run(main())


def test_who_has_gone_gets_nothing_and_leaves_nothing() -> None:
    """At each stage: while the body comes, while it waits for its turn, while the model runs."""

    async def main() -> None:
        engine = FakeEngine(models(), answer)
        engine.gate.clear()
        route = match(b"/predict/doubler")
        assert route is not None
        body = b'{"inputs": [[1, 2, 3]]}'
        sent = [(b"content-length", b"%d" % len(body))]
        for steps in range(4):
            connection = Connection()
            exchange = Exchange(engine, LIMITS, connection, keep_alive=True)
            exchange.open(read_head(route, sent, LIMITS), route, sent)
            for step in (partial(exchange.on_body, body), exchange.on_whole, exchange.start)[:steps]:
                step()
            await asyncio.sleep(0)  # the fake engine begins
            exchange.abandon()
            exchange.abandon()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert (connection.answered, connection.refused, engine.reserved_bytes) == ([], [], 0)
            assert exchange.response_complete
            assert engine.cancelled == (steps == 3)

    asyncio.run(main())
