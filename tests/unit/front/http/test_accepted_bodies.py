"""Bodies that were received whole are read in a thread while the gateway begins to drain, or while it is busy."""

import asyncio
import gzip
import json
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from threading import Event
from typing import Any

import numpy as np
import pytest

from gateway.domain.table import Table, TableEntry
from gateway.domain.types import ModelStatus
from gateway.engine.admission import AdmissionLimits
from gateway.engine.engine import FrontEngine
from gateway.errors import Unavailable
from gateway.front.base.dialect import Reply
from gateway.front.base.limits import LARGE_JSON, Limits
from gateway.front.http.hot_request import HotRequest, read_head
from gateway.front.http.routes import match
from runtimes.contract import Signature, TensorSpec
from tests.support.front_server import image_models
from tests.support.hot_connection import HotConnection
from tests.support.image_files import save

_VALUES = [0.5] * (LARGE_JSON // 4)
_LARGE = {
    "/v2/models/m/infer": {"inputs": [{"name": "x", "shape": [len(_VALUES)], "datatype": "FP32", "data": _VALUES}]},
    "/predict/m": {"inputs": {"x": _VALUES}},
    "/v1/models/m:predict": {"inputs": {"x": _VALUES}},
    "/predictions/m": {"inputs": {"x": _VALUES}},
    "/invocations": {"inputs": {"x": _VALUES}},
    "/v2/models/m/generate": {"x": _VALUES},
}
_SMALL = json.dumps({"inputs": {"x": [0.5, 0.5]}}).encode()
_JSON = (b"content-type", b"application/json")
_GZIP = (b"content-encoding", b"gzip")
BODIES = {
    **{path: (path, json.dumps(body).encode(), [_JSON]) for path, body in _LARGE.items()},
    "small and compressed": ("/predict/m", gzip.compress(_SMALL), [_JSON, _GZIP]),
    "large and compressed": ("/predict/m", gzip.compress(json.dumps(_LARGE["/predict/m"]).encode()), [_JSON, _GZIP]),
    "image": ("/predict/photos", save(np.zeros((4, 4, 3), np.uint8)), [(b"content-type", b"image/png")]),
}


class Connection(HotConnection):
    """Must not reject anything: all bodies are complete."""

    def reject(self, reply: Reply) -> None:
        raise AssertionError("the body is complete")


class Front:
    """An engine with two models and no workers, and one thread for bodies, which is busy until `read` is set."""

    def __init__(self, max_requests: int = 8) -> None:
        async def control(request: Any) -> None:
            raise AssertionError(request)

        self.read = Event()
        self.engine = FrontEngine(1, AdmissionLimits(max_requests=max_requests), control)
        signature = Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),))
        plain = ModelStatus("m", "1", "READY", admits=True, signatures={"default": signature})
        (photos,) = [replace(each, admits=True) for each in image_models() if each.name == "photos"]
        self.engine.apply(Table((TableEntry(plain), TableEntry(photos)), True))

    def send(self, path: str, body: bytes, headers: list[tuple[bytes, bytes]]) -> tuple[HotRequest, Connection]:
        """Receive a request whole."""
        route, connection = match(path.encode()), Connection()
        assert route is not None
        if path == "/invocations":
            route = route._replace(model="m")
        head = read_head(route, [*headers, (b"content-length", b"%d" % len(body))], Limits())
        request = HotRequest(self.engine, Limits(), connection, keep_alive=True)
        request.serve(head, body)
        return request, connection

    @property
    def queued(self) -> int:
        return sum(servable.queued for servable in self.engine.routes.servables())

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():
                await asyncio.get_running_loop().run_in_executor(None, lambda: None)  # after what it has to read


def run(test: Callable[[Front], Coroutine[Any, Any, None]], max_requests: int = 8) -> None:
    async def main() -> None:
        with _one_thread():
            front = Front(max_requests)
            asyncio.get_running_loop().run_in_executor(None, front.read.wait)
            try:
                await test(front)
            finally:
                front.read.set()

    asyncio.run(main())


@contextmanager
def _one_thread() -> Iterator[None]:
    with ThreadPoolExecutor(1) as pool:
        asyncio.get_running_loop().set_default_executor(pool)
        yield


@pytest.mark.parametrize("kind", BODIES)
def test_what_was_received_before_a_drain_is_answered(kind: str) -> None:
    async def test(front: Front) -> None:
        _, connection = front.send(*BODIES[kind])
        draining = asyncio.create_task(front.engine.drain(60))
        await asyncio.sleep(0)
        _, late = front.send(*BODIES[kind])
        assert [reply.status for reply in late.answered] == [503]
        assert b"shutting down" in b"".join(late.answered[0].body)
        assert not connection.answered
        front.read.set()
        await front.until(lambda: front.queued == 1 or bool(connection.answered))
        assert not connection.answered
        assert not draining.done()
        (servable,) = [each for each in front.engine.routes.servables() if each.queued]
        servable.fail_all(Unavailable("the test has seen enough"))
        await draining
        assert b"seen enough" in b"".join(connection.answered[0].body)
        assert front.engine.admission.admitted_bytes == 0

    run(test)


def test_the_rest_ends_with_the_grace_period() -> None:
    async def test(front: Front) -> None:
        _, connection = front.send(*BODIES["/predict/m"])
        await front.engine.drain(0)
        (reply,) = connection.answered
        assert reply.status == 503
        assert b"the gateway stopped before the request was read" in b"".join(reply.body)
        assert front.engine.admission.admitted_bytes > 0  # the thread still has the body
        front.read.set()
        await front.until(lambda: not front.engine.admission.admitted_bytes)
        assert connection.answered == [reply]
        assert front.engine.admission.requests == front.engine.admission.accepted == front.queued == 0
        (metrics,) = [each for each in front.engine.snapshot() if each["outcomes"]]
        assert metrics["outcomes"] == {"unavailable": 1}

    run(test)


def test_a_drain_does_not_wait_for_a_client_that_has_left() -> None:
    async def test(front: Front) -> None:
        request, connection = front.send(*BODIES["large and compressed"])
        draining = asyncio.create_task(front.engine.drain(60))
        await asyncio.sleep(0)
        request.abandon()
        front.read.set()
        await draining
        assert not connection.answered
        assert (front.queued, front.engine.admission.admitted_bytes) == (0, 0)

    run(test)


def test_the_limit_of_requests_refuses_them_when_they_have_been_read() -> None:
    """Before, nobody knows their models, which may have half of the limit each."""

    async def test(front: Front) -> None:
        first, second = (front.send(*BODIES["/predict/m"])[1] for _ in range(2))
        assert not first.answered
        assert not second.answered
        assert (front.engine.admission.requests, front.engine.admission.accepted) == (0, 2)
        front.read.set()
        await front.until(lambda: bool(second.answered))
        assert [reply.status for reply in second.answered] == [429]
        assert not first.answered
        assert (front.engine.admission.requests, front.engine.admission.accepted) == (1, 0)

    run(test, max_requests=1)
