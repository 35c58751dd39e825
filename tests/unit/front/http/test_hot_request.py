"""A hot request without a connection, with events that neither the parser nor a client can produce on demand."""

import asyncio
import gc
import json
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from gateway.domain.identity import Identity
from gateway.engine.arena import MIN_ARENA_BYTES
from gateway.engine.fake import FakeEngine
from gateway.errors import ModelportError
from gateway.front.base.access import DeniedModel
from gateway.front.http.hot_request import HotRequest, read_head
from gateway.front.http.routes import match
from tests.support.front_server import LIMITS, WAIT_S, answer, models
from tests.support.hot_connection import HotConnection

SECRET = 42


class UsedBlocks(FakeEngine):
    """Its buffers contain bytes of other clients, like reused blocks of the arena."""

    def buffer(self, size: int, model: str = "") -> memoryview:
        return memoryview(bytearray([SECRET]) * size)


@pytest.mark.parametrize("missing", [0, 1, MIN_ARENA_BYTES // 2, MIN_ARENA_BYTES])
def test_a_block_that_was_not_filled_is_not_read(missing: int) -> None:
    """The parser ends the body before Content-Length bytes have arrived."""

    async def main() -> None:
        engine, connection = UsedBlocks(models(), answer), HotConnection()
        route = match(b"/v2/models/echo_UINT8/infer")
        assert route is not None
        parameters = {"binary_data_size": MIN_ARENA_BYTES}
        tensor = {"name": "x", "shape": [MIN_ARENA_BYTES], "datatype": "UINT8", "parameters": parameters}
        text = json.dumps({"inputs": [tensor]}).encode()
        sent = [
            (b"content-length", b"%d" % (len(text) + MIN_ARENA_BYTES)),
            (b"inference-header-content-length", b"%d" % len(text)),
        ]
        request = HotRequest(engine, LIMITS, connection, keep_alive=True)
        request.open(read_head(route, sent, LIMITS), route, None)
        request.start()
        request.on_body(text)
        request.on_body(bytes(MIN_ARENA_BYTES - missing))
        request.on_body_complete()
        await asyncio.wait_for(connection.replied.wait(), WAIT_S)
        (reply,) = connection.answered
        if missing:
            assert reply.status == 400
            assert b"the length of the body differs from its Content-Length" in b"".join(reply.body)
            assert engine.requests == []
        else:
            assert reply.status == 200
            (seen,) = engine.requests
            assert not np.frombuffer(seen.inputs[0].data, np.uint8).any()
        assert connection.rejected == []
        assert request.response_complete

    asyncio.run(main())


def test_an_abandoned_request_is_not_answered_and_releases_everything() -> None:
    """At each stage: while the body arrives, while the request waits for its turn, while the model runs."""

    async def main() -> None:
        engine = FakeEngine(models(), answer)
        engine.gate.clear()
        route = match(b"/predict/doubler")
        assert route is not None
        body = b'{"inputs": [[1, 2, 3]]}'
        sent = [(b"content-length", b"%d" % len(body))]
        for steps in range(4):
            connection = HotConnection()
            request = HotRequest(engine, LIMITS, connection, keep_alive=True)
            request.open(read_head(route, sent, LIMITS), route, None)
            for step in (partial(request.on_body, body), request.on_body_complete, request.start)[:steps]:
                step()
            await asyncio.sleep(0)  # the fake engine starts
            request.abandon()
            request.abandon()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert (connection.answered, connection.rejected, engine.reserved_bytes) == ([], [], 0)
            assert request.response_complete
            assert engine.cancelled == (steps == 3)

    asyncio.run(main())


class Denying(HotConnection):
    def check(self, identity: Identity, model: str, path: str = "") -> None:
        if model:  # which the body names
            identity.check("infer", model)


class Values:
    """Stands for what was read from a body."""


def test_what_a_denied_client_has_sent_leaves_memory_at_once() -> None:
    """Not when the garbage collector runs: a client could fill the memory."""
    seen: list[weakref.ref[Values]] = []

    def read() -> None:
        values = Values()
        seen.append(weakref.ref(values))
        try:
            identity.check("infer", "m")
        except ModelportError:
            raise DeniedModel("m") from None

    def refuse() -> None:
        with ThreadPoolExecutor(1) as pool:
            error = pool.submit(read).exception()
        assert isinstance(error, DeniedModel)
        request.fail(error)

    route = match(b"/predict")
    assert route is not None
    identity = Identity("someone", {"infer": ("other",)})
    connection = Denying()
    request = HotRequest(FakeEngine(models(), answer), LIMITS, connection, True)  # type: ignore[arg-type]
    head = read_head(route, [], LIMITS, identity)
    request.open(head, route, identity)
    request.start()
    gc.disable()
    try:
        refuse()
    finally:
        gc.enable()
    (reply,) = connection.rejected
    assert reply.status == 403
    assert seen[0]() is None
