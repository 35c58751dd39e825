"""One version's queue in a front: order, windows, deaths, and what given-up requests leave behind."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from gateway.domain.types import InferRequest, ModelStatus
from gateway.engine.client import WorkerClient
from gateway.engine.metrics import ModelMetrics
from gateway.engine.queue import ModelQueue
from gateway.engine.servable import Answer, QueuedRequest
from gateway.errors import DeadlineExceeded, Internal, ModelportError
from runtimes import wire
from runtimes.tensors import from_array
from runtimes.wire import Frame, FrameReader, InferFrame, ResultFrame


class FakeClient:
    """A worker that answers when a test says so. `sent`: request ids with the flags of their frames."""

    def __init__(self, window: int = 2) -> None:
        self.window = window
        self.sent: list[tuple[int, int]] = []
        self.cancelled: list[int] = []
        self.in_flight: dict[int, int] = {}
        self.rows_in_flight = 0
        self.retiring = self.closed = False

    @property
    def has_room(self) -> bool:
        return not self.retiring and self.rows_in_flight < self.window

    def send(self, request_id: int, rows: int, frame: InferFrame, flags: int) -> None:
        self.sent.append((request_id, flags))
        self.in_flight[request_id] = rows
        self.rows_in_flight += rows

    def cancel(self, request_id: int) -> None:
        self.cancelled.append(request_id)

    def close(self) -> None:
        self.closed = True

    def complete(self, request_id: int) -> None:
        self.rows_in_flight -= self.in_flight.pop(request_id)

    def answer(self, request_id: int, flags: int = 0, final: bool = True) -> Frame:
        """The RESULT frame for a request, as WorkerClient would hand it on."""
        result = ResultFrame(1, 2, 3, 4, 5, [from_array("y", np.ones(1, np.float32))], final=final)
        (frame,) = FrameReader().feed(b"".join(bytes(part) for part in wire.pack_result([(request_id, result)], flags)))
        return frame


@dataclass(slots=True, eq=False)
class WatchedRequest(QueuedRequest):
    """Records its outcome, and releases itself as the engine does."""

    queue: ModelQueue
    outcome: object = None
    partial: list[Answer] = field(default_factory=list)

    def add_answer(self, answer: Answer) -> None:
        self.partial.append(answer)

    def settle(self, outcome: Answer | ModelportError) -> None:
        self.outcome, self.request = outcome, None
        self.queue.release(self)


class Bench:
    def __init__(self, stateful: bool = False) -> None:
        status = ModelStatus("m", "1", "READY", admits=True, stateful=stateful)
        self.queue = ModelQueue(status, ModelMetrics())
        self._ids = itertools.count(1)

    def client(self, window: int = 2) -> FakeClient:
        made = FakeClient(window)
        self.queue.clients.append(cast(WorkerClient, made))
        return made

    def put(self, priority: int = 0) -> WatchedRequest:
        number = next(self._ids)
        request = InferRequest("m", [from_array("x", np.ones((1, 4), np.float32))], priority=priority)
        layout = wire.layout_of("default", (), request.inputs)
        queued = WatchedRequest(number, request, layout, 1, 1e9, 0.0, (priority, number), self.queue)
        self.queue.put(queued)
        return queued


def run(test: Callable[[Bench], Any], **options: Any) -> None:
    test(Bench(**options))


def test_a_window_lets_so_many_rows_through_and_priority_decides_the_rest() -> None:
    def test(bench: Bench) -> None:
        client = bench.client(window=1)
        first, second, urgent = bench.put(), bench.put(), bench.put(priority=-1)
        assert [number for number, _ in client.sent] == [first.id]
        for queued in (first, urgent):
            bench.queue.on_frame(cast(WorkerClient, client), client.answer(queued.id))
        assert [number for number, _ in client.sent] == [first.id, urgent.id, second.id]

    run(test)


def test_a_death_retries_the_running_alone_and_the_others_as_they_were() -> None:
    def test(bench: Bench) -> None:
        client = bench.client()
        running, beside = bench.put(), bench.put()
        bench.queue.on_lost(cast(WorkerClient, client), frozenset({running.id}))
        successor = bench.client()
        bench.queue.pump()
        assert successor.sent == [(running.id, wire.ISOLATED), (beside.id, 0)]
        bench.queue.on_lost(cast(WorkerClient, successor), frozenset({running.id}))
        assert isinstance(running.outcome, Internal)
        assert beside.outcome is None

    run(test)


def test_stateful_models_are_not_retried() -> None:
    def test(bench: Bench) -> None:
        client = bench.client()
        running, beside = bench.put(), bench.put()
        bench.queue.on_lost(cast(WorkerClient, client), frozenset({running.id}))
        assert isinstance(running.outcome, Internal)
        assert beside.outcome is None

    run(test, stateful=True)


def test_an_answer_that_is_not_final_keeps_its_room_and_rules_out_a_second_try() -> None:
    def test(bench: Bench) -> None:
        client = bench.client(window=1)
        streaming, behind = bench.put(), bench.put()
        bench.queue.on_frame(cast(WorkerClient, client), client.answer(streaming.id, final=False))
        assert ([answer.frame.final for answer in streaming.partial], streaming.outcome) == ([False], None)
        assert [number for number, _ in client.sent] == [streaming.id]
        bench.queue.on_lost(cast(WorkerClient, client), frozenset())
        assert isinstance(streaming.outcome, Internal)
        assert behind.outcome is None

    run(test)


def test_what_is_given_up_leaves_no_bytes_behind() -> None:
    def test(bench: Bench) -> None:
        live = bench.put()
        for _ in range(1000):
            queued = bench.put()
            queued.settle(DeadlineExceeded("late"))
        assert bench.queue.queued == 1
        assert len(bench.queue._heap) < 100
        client = bench.client()
        bench.queue.pump()
        assert client.sent == [(live.id, 0)]

    run(test)


def test_a_request_given_up_at_the_worker_is_cancelled_there() -> None:
    def test(bench: Bench) -> None:
        client = bench.client()
        queued = bench.put()
        bench.queue.release(queued)
        assert client.cancelled == [queued.id]

    run(test)


def test_a_batch_counts_even_if_the_client_of_its_first_request_has_gone() -> None:
    def test(bench: Bench) -> None:
        client = bench.client()
        queued = bench.put()
        bench.queue.release(queued)
        bench.queue.on_frame(cast(WorkerClient, client), client.answer(queued.id, wire.FIRST_OF_BATCH))
        assert bench.queue.metrics.executions == 1

    run(test)


def test_nothing_that_says_no_priority_goes_ahead_of_priority_1() -> None:
    plain = ModelStatus("m", "1", "READY")
    assert plain.priority_level(1) == plain.priority_level(0)  # so arrival decides
    assert plain.priority_level(-1) < plain.priority_level(0) < plain.priority_level(2)
    # Triton's rule: 0 and what is above the declared levels are the default level.
    levels = ModelStatus("m", "1", "READY", priority_levels=3, default_priority_level=2)
    assert [levels.priority_level(each) for each in (0, 1, 2, 3, 4)] == [2, 1, 2, 3, 2]
