"""What requests that fail are said to have cost: the time that the model has run for them."""

from typing import Any

import numpy as np
import pytest

from runtimes.contract import LoadOptions
from runtimes.fake.runtime import FakeModel
from runtimes.request_frames import InferFrame
from runtimes.tensors import from_array
from runtimes.worker import execute, requests
from runtimes.worker.batcher import Batching
from runtimes.worker.execute import Executor
from runtimes.worker.results import Failure, Outcome
from tests.support.pending_requests import batch_of

RUN_S = 4.0


class Clock:
    """Time that passes only while the model runs."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (execute, requests):
        monkeypatch.setattr(module, "time", clock)
    return clock


class Slow(FakeModel):
    clock: Clock

    def infer(self, *arguments: Any) -> Any:
        self.clock.now += RUN_S
        return super().infer(*arguments)

    def start(self, *arguments: Any) -> Any:
        return arguments

    def finish(self, handle: Any) -> Any:
        return self.infer(*handle)


def outcomes(clock: Clock, *values: float, pipelined: bool = False, limit: int = 1 << 20) -> list[Outcome]:
    """Run a batch with a request for each value."""
    model = Slow({}, LoadOptions(""))
    model.clock = clock
    executor = Executor(model, Batching(16, frozenset({"default"})), limit)
    frames = [
        InferFrame(1e9, 0, "default", [], [from_array("x", np.full((1, 4), value, np.float32))]) for value in values
    ]
    batch = batch_of(*frames)
    return list(executor.finish(executor.begin(batch)) if pipelined else executor.run(batch))


def costs(found: list[Outcome]) -> list[float | None]:
    return [each.compute_ns / 1e9 if isinstance(each, Failure) else None for each in found]


@pytest.mark.parametrize("pipelined", [False, True])
def test_a_request_that_fails_alone_has_cost_its_run(clock: Clock, pipelined: bool) -> None:
    for effect in (400, 500, 501, 507):
        assert costs(outcomes(clock, effect, pipelined=pipelined)) == [RUN_S]


@pytest.mark.parametrize("pipelined", [False, True])
def test_those_that_spoil_a_batch_have_also_cost_that_run(clock: Clock, pipelined: bool) -> None:
    assert costs(outcomes(clock, 1, 500, 2, pipelined=pipelined)) == [None, 2 * RUN_S, None]
    assert costs(outcomes(clock, 1, 500, 400, 2, pipelined=pipelined)) == [None, 1.5 * RUN_S, 1.5 * RUN_S, None]


def test_an_answer_that_is_too_large_has_cost_its_share(clock: Clock) -> None:
    assert costs(outcomes(clock, 1, 2, limit=8)) == [RUN_S / 2, RUN_S / 2]
