"""The servers for all tests of the fronts; started once."""

from collections.abc import Iterator
from typing import get_args

import pytest

from gateway.process.address import GrpcServer
from tests.support.front_server import Serving, in_thread


@pytest.fixture(scope="package")
def running() -> Iterator[Serving]:
    with in_thread() as serving:
        yield serving


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
