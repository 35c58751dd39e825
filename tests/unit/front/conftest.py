"""The servers for all tests of the fronts; started once."""

import asyncio
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Thread
from typing import Any, get_args

import pytest
import uvloop

from gateway.front.base.access import Access
from gateway.process.address import GrpcServer
from tests.support.front_server import WAIT_S, Serving, serve


@pytest.fixture(scope="package")
def running() -> Iterator[Serving]:
    with in_thread() as serving:
        yield serving


@contextmanager
def in_thread(access: Access | None = None, **tls: Any) -> Iterator[Serving]:
    started: Future[Serving] = Future()
    stop = asyncio.Event()

    def run(main: Coroutine[Any, Any, None]) -> None:
        try:
            uvloop.run(main)
        except BaseException as error:
            started.set_exception(error)
            raise

    thread = Thread(target=run, args=(serve(started, stop, access, **tls),))
    thread.start()
    serving = started.result(WAIT_S)
    yield serving
    serving.run(stop.set)
    thread.join(WAIT_S)


@pytest.fixture
def serving(running: Serving) -> Iterator[Serving]:
    """The servers, with the engine reset before and after each test."""
    engine = running.engine
    engine.requests.clear()
    engine.arrived.clear()
    engine.left.clear()
    yield running
    engine.failure, engine.ready, engine.max_bytes = None, True, None
    engine.shared_memory.enabled = False
    engine.server_name = "modelport"
    running.open_gate()


@pytest.fixture(params=get_args(GrpcServer))
def grpc_serving(serving: Serving, request: pytest.FixtureRequest) -> Serving:
    """`serving`, for each of the gRPC libraries."""
    return serving.by(request.param)
