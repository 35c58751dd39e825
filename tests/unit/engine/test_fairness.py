"""The front's queues and the worker's batcher together, in virtual time: one client beside another with many requests.

The unit of time is a batch. Whatever a client with many connections does, the request of another waits for the end of
the running batch and is in the next one. Alone it would take one unit, so 1.5 on average means a ratio of 1.5.
"""

import itertools
import random
import statistics
from typing import cast

import numpy as np
import pytest

from gateway.domain.types import InferRequest, ModelStatus
from gateway.engine.client import WorkerClient
from gateway.engine.metrics import ModelMetrics
from gateway.engine.queue import ModelQueue
from gateway.engine.servable import QueuedRequest
from runtimes.fair_order import priority_of
from runtimes.layouts import layout_of
from runtimes.request_frames import InferFrame
from runtimes.tensors import from_array
from runtimes.worker.batcher import Batcher, Batching
from tests.support.pending_requests import one_frame
from tests.unit.engine.test_queue import FakeClient, WatchedRequest

ROWS = 8
BUSY, LIGHT = 11, 22
TENSOR = from_array("x", np.ones((1, 4), np.float32))
REQUEST = InferRequest("m", [TENSOR])
LAYOUT = layout_of("default", (), [TENSOR])


class Front(FakeClient):
    """A front. Requests that it sends in one turn of its event loop reach the worker in one frame."""

    def __init__(self, worker: Batcher, ids: "itertools.count[int]") -> None:
        super().__init__(window=2 * ROWS)
        self.queue = ModelQueue(ModelStatus("m", "1", "READY", admits=True), ModelMetrics())
        self.queue.clients.append(cast(WorkerClient, self))
        self._worker, self._ids = worker, ids
        self._out: list[tuple[int, InferFrame]] = []

    def send(self, queued: QueuedRequest) -> None:
        super().send(queued)
        self._out.append((queued.id, InferFrame(1e9, queued.priority, "default", (), [TENSOR])))

    def flush(self) -> None:
        if self._out:
            self._worker.add(self, one_frame(*self._out), False, 0.0)
            self._out = []

    def request(self, flow: int) -> WatchedRequest:
        priority = priority_of(1, flow) if flow else 1
        queued = WatchedRequest(next(self._ids), REQUEST, LAYOUT, 1, 16, 1e9, 0.0, priority, None, self.queue)
        self.queue.put(queued)
        return queued


def latencies(fronts: int, busy_flow: int, light_flow: int, connections: int = 300, count: int = 60) -> list[float]:
    """Return how long each request of the light client took, in batches. It sends the next one after a short while."""
    random_ = random.Random(1)
    worker = Batcher(Batching(ROWS, frozenset({"default"})))
    ids = itertools.count(1)
    every = [Front(worker, ids) for _ in range(fronts)]
    for number in range(connections):
        every[number % fronts].request(busy_flow)
    for front in every:
        front.flush()
    found: list[float] = []
    now, arrives_at = 0.0, 2.0 + random_.random()
    began: dict[int, float] = {}
    done: list[tuple[Front, int]] = []
    while len(found) < count and now < 50 * count:
        batch, _ = worker.next(0.0)
        assert batch is not None
        # While it runs, fronts read the results of the batch before, and clients send their next requests.
        for front, number in done:
            front.queue.on_results(cast(WorkerClient, front), front.answer(number))
            if number in began:
                found.append(now - began.pop(number))
                arrives_at = now + random_.random()
            else:
                front.request(busy_flow)
        for front in every:
            front.flush()
        if arrives_at < now + 1:
            front = random_.choice(every)
            began[front.request(light_flow).id], arrives_at = arrives_at, float("inf")
            front.flush()
        done = list(zip([pending.source for pending in batch], batch.ids, strict=True))
        now += 1
    return found


@pytest.mark.parametrize("fronts", [1, 2, 3])
def test_the_light_client_waits_for_the_running_batch_only(fronts: int) -> None:
    measured = latencies(fronts, BUSY, LIGHT)
    assert statistics.median(measured) < 1.75
    assert max(measured) <= 2


def test_without_identities_it_waits_for_all_that_came_before() -> None:
    assert min(latencies(1, 0, 0, count=3)) > 300 / ROWS - 2
