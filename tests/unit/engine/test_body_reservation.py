"""Body reservations of the real engine: the memory that bodies share, and what is counted if reading one fails."""

import asyncio
from typing import Any

import pytest

from gateway.domain.control import ControlRequest
from gateway.domain.table import Table, TableEntry
from gateway.domain.types import InferRequest
from gateway.engine.admission import AdmissionLimits
from gateway.engine.engine import FrontEngine
from gateway.engine.protocol import ClientDisconnected
from gateway.errors import InvalidRequest, Overloaded
from runtimes.contract import TensorSpec
from runtimes.tensors import Tensor
from tests.support.front_server import model

LIMIT = 100


async def control(request: ControlRequest[Any]) -> None:
    raise AssertionError(request)


@pytest.fixture
def engine() -> FrontEngine:
    """Serves 'm', whose worker is being restarted, so that admitted requests wait."""
    engine = FrontEngine(1, AdmissionLimits(max_bytes=LIMIT), control)
    engine.apply(Table((TableEntry(model("m", TensorSpec("x", "UINT8", (-1,)), admits=True)),), True))
    return engine


def request(size: int) -> InferRequest:
    return InferRequest("m", [Tensor("x", "UINT8", (size,), bytes(size))])


def outcomes(engine: FrontEngine) -> dict[str, int]:
    (figures,) = [each for each in engine.snapshot() if each["model"] == "m"]
    return dict(figures["outcomes"])


def test_bodies_share_the_limit(engine: FrontEngine) -> None:
    with engine.reserve_body("m", "") as first:
        first.reserve(LIMIT - 10)
        with engine.reserve_body("m", "") as second:
            second.reserve(10)
            with pytest.raises(Overloaded, match=f"{LIMIT} bytes of input are in progress"):
                second.reserve(1)
        with engine.reserve_body("m", "") as third:
            third.reserve(10)
    with engine.reserve_body("m", "") as fourth:
        fourth.reserve(LIMIT)


def test_a_single_body_may_exceed_the_limit_because_its_tensors_may_be_smaller(engine: FrontEngine) -> None:
    with engine.reserve_body("m", "") as alone:
        alone.reserve(LIMIT)
        alone.reserve(LIMIT)
        with engine.reserve_body("m", "") as other, pytest.raises(Overloaded):
            other.reserve(1)


def test_ids_count_against_the_limit(engine: FrontEngine) -> None:
    async def admit() -> None:
        with pytest.raises(Overloaded):
            await engine.infer(request(1)._replace(id="i" * LIMIT))
        waiting = asyncio.create_task(engine.infer(request(1)._replace(id="i" * (LIMIT - 1))))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await engine.infer(request(1))
        waiting.cancel()
        await asyncio.wait([waiting])
        with engine.reserve_body("m", "") as reservation:
            reservation.reserve(LIMIT)

    asyncio.run(admit())


def test_bodies_and_admitted_requests_share_the_limit(engine: FrontEngine) -> None:
    async def admit_both() -> None:
        waiting = asyncio.create_task(engine.infer(request(60)))
        await asyncio.sleep(0)
        with engine.reserve_body("m", "") as reservation:
            with pytest.raises(Overloaded, match="60 bytes of input"):
                reservation.reserve(50)
            reservation.reserve(30)
            with pytest.raises(Overloaded, match="90 bytes of input"):
                await engine.infer(request(20))
        waiting.cancel()
        await asyncio.wait([waiting])
        with engine.reserve_body("m", "") as reservation:
            reservation.reserve(LIMIT)

    asyncio.run(admit_both())


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (InvalidRequest("no"), "invalid"),
        (RuntimeError(), "internal"),
        (MemoryError(), "internal"),
        (ClientDisconnected(), "cancelled"),
        (asyncio.CancelledError(), "cancelled"),
    ],
)
def test_an_error_is_counted_and_the_reserved_bytes_are_released(
    engine: FrontEngine, error: BaseException, outcome: str
) -> None:
    def read() -> None:
        with engine.reserve_body("m", "") as reservation:
            reservation.reserve(LIMIT)
            raise error

    with pytest.raises(type(error)):
        read()
    with engine.reserve_body("m", "") as reservation:
        reservation.reserve(LIMIT)
    assert outcomes(engine) == {outcome: 1}
