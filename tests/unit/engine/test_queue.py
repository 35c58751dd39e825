"""The queue of one version in a front: order, windows, crashes, and requests that were given up."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from gateway.domain.identity import Identity
from gateway.domain.quota import Usage
from gateway.domain.table import WorkerAddress
from gateway.domain.types import InferRequest, ModelStatus
from gateway.engine.client import WorkerClient
from gateway.engine.frames import Frames
from gateway.engine.metrics import ModelMetrics
from gateway.engine.queue import ModelQueue
from gateway.engine.servable import QueuedRequest
from gateway.errors import DeadlineExceeded, Internal, ModelportError, OutOfMemory
from runtimes import request_frames, result_frames, status_page, wire
from runtimes.fair_order import priority_of
from runtimes.layouts import layout_of
from runtimes.result_frames import ResultFrame, ResultGroup
from runtimes.tensors import from_array
from runtimes.wire import FrameReader


class FakeClient:
    """A worker that answers when a test says so.

    sent: request ids with the flags of their frames. ended_sequences: each with the number of requests sent before.
    """

    def __init__(self, window: int = 2) -> None:
        self.window = window
        self.sent: list[tuple[int, int]] = []
        self.cancelled: list[int] = []
        self.ended_sequences: list[tuple[int | str, int]] = []
        self.in_flight: dict[int, QueuedRequest] = {}
        self.rows_in_flight = 0
        self.retiring = self.closed = self.over_limit = False
        self.ran_s = 0.0

    def has_room(self, rows: int) -> bool:
        return self.rows_in_flight < self.window

    def send(self, queued: QueuedRequest) -> None:
        self.sent.append((queued.id, wire.ISOLATED if queued.crashes else 0))
        self.in_flight[queued.id] = queued
        self.rows_in_flight += queued.rows

    def cancel(self, request_id: int) -> bool:
        self.cancelled.append(request_id)
        return True

    def end_sequence(self, sequence: int | str) -> None:
        self.ended_sequences.append((sequence, len(self.sent)))

    def count_unread(self, request_id: int) -> bool:
        return True

    def close(self) -> None:
        self.closed = True

    def complete(self, numbers: Sequence[int]) -> list[tuple[int, QueuedRequest]]:
        ended = [(index, self.in_flight.pop(number)) for index, number in enumerate(numbers)]
        self.rows_in_flight -= sum(queued.rows for _, queued in ended)
        return ended

    def answer(self, request_id: int, flags: int = 0, final: bool = True) -> ResultGroup:
        """Return the result for a request, as WorkerClient passes it on."""
        result = ResultFrame(1, 2, 3, 4, 5, [from_array("y", np.ones(1, np.float32))], final=final)
        (frame,) = FrameReader().feed(
            b"".join(bytes(part) for part in result_frames.pack_result([(request_id, result)], flags))
        )
        return result_frames.unpack_results(frame.body, frame.flags)


@dataclass(slots=True, eq=False)
class WatchedRequest(QueuedRequest):
    """Records its outcome, and releases itself as the engine does."""

    queue: ModelQueue
    outcome: object = None
    partial: list[ResultGroup] = field(default_factory=list)

    def answer(self, results: ResultGroup, index: int) -> None:
        if results.final:
            self._settle(results)
        else:
            self.partial.append(results)

    def fail(self, error: ModelportError) -> None:
        self._settle(error)

    def _settle(self, outcome: object) -> None:
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

    def put(self, priority: int = 0, identity: Identity | None = None) -> WatchedRequest:
        number = next(self._ids)
        request = InferRequest("m", [from_array("x", np.ones((1, 4), np.float32))], priority=priority)
        layout = layout_of("default", (), request.inputs)
        queued = WatchedRequest(number, request, layout, 1, 16, 1e9, 0.0, priority, identity, self.queue)
        self.queue.put(queued)
        return queued


def run(test: Callable[[Bench], Any], **options: Any) -> None:
    test(Bench(**options))


def test_the_window_limits_rows_and_priority_orders_the_rest() -> None:
    def test(bench: Bench) -> None:
        client = bench.client(window=1)
        first, second, urgent = bench.put(), bench.put(), bench.put(priority=-1)
        assert [number for number, _ in client.sent] == [first.id]
        for queued in (first, urgent):
            bench.queue.on_results(cast(WorkerClient, client), client.answer(queued.id))
        assert [number for number, _ in client.sent] == [first.id, urgent.id, second.id]

    run(test)


GREEDY, OTHER = priority_of(1, 11), priority_of(1, 22)


def test_a_client_with_many_requests_does_not_delay_the_first_of_another() -> None:
    def test(bench: Bench) -> None:
        client = bench.client(window=8)
        greedy = [bench.put(GREEDY) for _ in range(50)]
        assert [number for number, _ in client.sent] == [each.id for each in greedy[:8]]
        guests = [bench.put(OTHER) for _ in range(10)]
        # Beyond the window, because the worker decides which request is next; but only a few.
        beyond = [number for number, _ in client.sent[8:]]
        assert beyond == [each.id for each in guests[: len(beyond)]]
        assert 1 <= len(beyond) <= 4
        for _ in range(56):
            bench.queue.on_results(cast(WorkerClient, client), client.answer(min(client.in_flight)))
        # All that the other still had waiting were sent in turn with the greedy one's.
        order = [number for number, _ in client.sent[8 + len(beyond) :]]
        last = order.index(guests[-1].id)
        assert last <= 2 * (10 - len(beyond))
        assert sorted(order[last + 1 :]) == order[last + 1 :]

    run(test)


def test_clients_beyond_the_window_have_a_limit_together() -> None:
    def test(bench: Bench) -> None:
        client = bench.client(window=4)
        for flow in range(100):
            bench.put(priority_of(1, flow + 1))
        assert len(client.sent) == 8
        for sent in list(client.in_flight.values()):
            bench.queue.on_results(cast(WorkerClient, client), client.answer(sent.id))
        assert bench.queue.under_way == 92
        bench.queue.fail_all(Internal("the test ends"))

    run(test)


def test_a_client_that_gave_up_many_requests_is_still_next() -> None:
    def test(bench: Bench) -> None:
        client = bench.client(window=1)
        bench.put(GREEDY)
        for _ in range(20):
            bench.put(GREEDY)
        given_up = [bench.put(OTHER) for _ in range(20)]
        for each in given_up[1:]:  # the first was sent
            each.fail(DeadlineExceeded("late"))
        last = bench.put(OTHER)
        for _ in range(5):
            bench.queue.on_results(cast(WorkerClient, client), client.answer(min(client.in_flight)))
        assert last.id in [number for number, _ in client.sent]

    run(test)


class Charged:
    flow = 5

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def charge(self, seconds: float) -> None:
        self.seconds.append(seconds)


def test_each_request_is_charged_its_share_of_the_batch_even_if_nobody_waits_for_it() -> None:
    def test(bench: Bench) -> None:
        client, usage = bench.client(), Charged()
        who = Identity("someone", {}, usage=cast(Usage, usage))
        bench.put(priority_of(1, 5), who)
        given_up = bench.put(priority_of(1, 5), who)
        given_up.fail(DeadlineExceeded("late"))
        for number in list(client.in_flight):
            # 3 ns of compute for a batch of 5 rows, of which the request has one
            bench.queue.on_results(cast(WorkerClient, client), client.answer(number))
        assert usage.seconds == [pytest.approx(3e-9 / 5)] * 2
        lied_about = bench.put(priority_of(1, 5), who)
        lied_about.sent_at = time.monotonic()
        lie = client.answer(lied_about.id)._replace(compute_infer_ns=1 << 60, batch_rows=0)
        bench.queue.on_results(cast(WorkerClient, client), lie)
        assert usage.seconds[-1] < 3600, "a hostile model spends what its client may use of all models"
        assert bench.queue._rows_by_flow == {}

    run(test)


def test_requests_that_fail_are_charged_what_the_model_has_run_for_them() -> None:
    def test(bench: Bench) -> None:
        client, usage = bench.client(window=4), Charged()
        who = Identity("someone", {}, usage=cast(Usage, usage))
        failed, unrun, given_up, lied_about = (bench.put(priority_of(1, 5), who) for _ in range(4))
        for each in (failed, given_up):
            each.sent_at = time.monotonic() - 10
        lied_about.sent_at = time.monotonic()
        given_up.fail(DeadlineExceeded("late"))
        for each, ran_s in ((failed, 2.0), (unrun, 0.0), (given_up, 3.0), (lied_about, 1e9)):
            bench.queue.on_error(cast(WorkerClient, client), each.id, Internal("it failed"), ran_s)
        assert usage.seconds[:2] == [2.0, 3.0]
        assert len(usage.seconds) == 3
        assert usage.seconds[-1] < 3600, "a hostile model spends what its client may use of all models"

    run(test)


def test_requests_whose_worker_ends_share_what_their_batch_has_taken() -> None:
    def test(bench: Bench) -> None:
        client, usage = bench.client(window=4), Charged()
        who = Identity("someone", {}, usage=cast(Usage, usage))
        running, given_up, waiting = (bench.put(priority_of(1, 5), who) for _ in range(3))
        for each in (running, given_up, waiting):
            each.sent_at = time.monotonic() - 10
        given_up.fail(DeadlineExceeded("late"))
        client.ran_s = 4.0
        bench.queue.on_lost(cast(WorkerClient, client), frozenset({running.id, given_up.id}))
        assert usage.seconds == [2.0, 2.0]

    run(test)


def test_a_crash_retries_the_running_request_alone_and_the_others_as_before() -> None:
    def test(bench: Bench) -> None:
        client = bench.client()
        running, other = bench.put(), bench.put()
        bench.queue.on_lost(cast(WorkerClient, client), frozenset({running.id}))
        successor = bench.client()
        bench.queue.pump()
        assert successor.sent == [(running.id, wire.ISOLATED), (other.id, 0)]
        bench.queue.on_lost(cast(WorkerClient, successor), frozenset({running.id}))
        assert isinstance(running.outcome, Internal)
        assert other.outcome is None

    run(test)


def test_the_request_that_exceeds_the_memory_limit_twice_gets_507_and_its_neighbors_an_answer() -> None:
    def test(bench: Bench) -> None:
        client = bench.client()
        running, neighbor = bench.put(), bench.put()
        client.over_limit = True
        bench.queue.on_lost(cast(WorkerClient, client), frozenset({running.id, neighbor.id}))
        successor = bench.client()
        bench.queue.pump()
        successor.over_limit = True
        bench.queue.on_lost(cast(WorkerClient, successor), frozenset({running.id}))
        assert isinstance(running.outcome, OutOfMemory)
        last = bench.client()
        bench.queue.pump()
        assert last.sent == [(neighbor.id, wire.ISOLATED)]

    run(test)


def test_stateful_models_are_not_retried() -> None:
    def test(bench: Bench) -> None:
        client = bench.client()
        running, other = bench.put(), bench.put()
        bench.queue.on_lost(cast(WorkerClient, client), frozenset({running.id}))
        assert isinstance(running.outcome, Internal)
        assert other.outcome is None

    run(test, stateful=True)


def test_a_partial_answer_keeps_the_window_and_prevents_a_retry() -> None:
    def test(bench: Bench) -> None:
        client = bench.client(window=1)
        streaming, behind = bench.put(), bench.put()
        bench.queue.on_results(cast(WorkerClient, client), client.answer(streaming.id, final=False))
        assert ([results.final for results in streaming.partial], streaming.outcome) == ([False], None)
        assert [number for number, _ in client.sent] == [streaming.id]
        bench.queue.on_lost(cast(WorkerClient, client), frozenset())
        assert isinstance(streaming.outcome, Internal)
        assert behind.outcome is None

    run(test)


def test_given_up_requests_are_removed_from_the_heap() -> None:
    def test(bench: Bench) -> None:
        live = bench.put()
        for _ in range(1000):
            queued = bench.put()
            queued.fail(DeadlineExceeded("late"))
        assert bench.queue.queued == 1
        assert len(bench.queue._queued._heap._entries) < 100
        client = bench.client()
        bench.queue.pump()
        assert client.sent == [(live.id, 0)]

    run(test)


def test_a_sent_request_that_is_given_up_is_cancelled_at_the_worker() -> None:
    def test(bench: Bench) -> None:
        client = bench.client()
        queued = bench.put()
        bench.queue.release(queued)
        assert client.cancelled == [queued.id]

    run(test)


def test_a_batch_counts_even_if_its_first_request_was_given_up() -> None:
    def test(bench: Bench) -> None:
        client = bench.client()
        queued = bench.put()
        bench.queue.release(queued)
        bench.queue.on_results(cast(WorkerClient, client), client.answer(queued.id, wire.FIRST_OF_BATCH))
        assert bench.queue.metrics.snapshot()["executions"] == 1

    run(test)


def test_requests_without_a_priority_have_the_default_level() -> None:
    plain = ModelStatus("m", "1", "READY")
    assert plain.priority_level(1) == plain.priority_level(0)  # ordered by arrival
    assert plain.priority_level(-1) < plain.priority_level(0) < plain.priority_level(2)
    # As in Triton, 0 and undeclared levels mean the default level.
    levels = ModelStatus("m", "1", "READY", priority_levels=3, default_priority_level=2)
    assert [levels.priority_level(each) for each in (0, 1, 2, 3, 4)] == [2, 1, 2, 3, 2]


def test_a_queue_is_not_tidied_as_if_it_were_empty_while_requests_of_a_lost_worker_are_to_be_retried() -> None:
    def test(bench: Bench) -> None:
        client = bench.client()
        failing, other = bench.put(), bench.put()
        failing.crashes, bench.queue.closing = 1, True
        under_way: list[int] = []
        bench.queue._tidy = lambda queue: under_way.append(queue.under_way)
        bench.queue.on_lost(cast(WorkerClient, client), frozenset({failing.id, other.id}))
        assert isinstance(failing.outcome, Internal)
        assert under_way == [1]

    run(test)


def test_a_request_that_is_sent_again_keeps_its_context() -> None:
    def test(bench: Bench) -> None:
        client = bench.client(window=4)
        running, neighbor = bench.put(), bench.put()
        running.context, neighbor.context = b'{"id": "r"}', b""
        (frame,) = FrameReader().feed(b"".join(bytes(part) for part in Frames().pack([running, neighbor])))
        assert [bytes(each) for each in request_frames.unpack_requests(frame.body, None, frame.flags).contexts] == [
            b'{"id": "r"}',
            b"",
        ]
        successor = bench.client(window=4)
        bench.queue.on_lost(cast(WorkerClient, client), frozenset({running.id, neighbor.id}))
        assert len(successor.sent) == 2
        again = FrameReader().feed(b"".join(bytes(part) for part in Frames().pack([running, neighbor])))
        assert [each.flags for each in again] == [wire.ISOLATED | wire.WITH_CONTEXT, wire.ISOLATED]
        contexts = request_frames.unpack_requests(again[0].body, None, again[0].flags).contexts
        assert [bytes(each) for each in contexts] == [b'{"id": "r"}']

    run(test)


@asynccontextmanager
async def connected(bench: Bench, folder: Path) -> AsyncIterator[tuple[WorkerClient, "Written"]]:
    """A real client of a worker with room for one row. Fails if a callback in the loop raises."""
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
    (folder / "status").write_bytes(bytes(status_page.SIZE))
    address = WorkerAddress(1, str(folder / "socket"), str(folder / "status"), 1)
    client = WorkerClient(address, None, bench.queue.on_results, bench.queue.on_error, bench.queue.on_lost)
    client.connection_made(cast(asyncio.Transport, written := Written()))
    bench.queue.clients.append(client)
    yield client, written
    await asyncio.sleep(0)
    assert not failures


def test_a_request_canceled_before_it_was_sent_frees_the_window_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        bench = Bench()
        async with connected(bench, tmp_path) as (client, written):
            canceled, second = bench.put(), bench.put()
            assert list(client.in_flight) == [canceled.id]
            canceled.fail(DeadlineExceeded("late"))
            assert list(client.in_flight) == [second.id]
            await asyncio.sleep(0)
            (frame,) = FrameReader().feed(b"".join(written.buffers))
            assert [number for number, _ in request_frames.unpack_infer(frame.body)] == [second.id]
            assert bench.queue.under_way == 1

    asyncio.run(test())


def test_a_retiring_client_is_closed_when_its_last_request_is_canceled_before_it_was_sent(tmp_path: Path) -> None:
    async def test() -> None:
        bench = Bench()
        async with connected(bench, tmp_path) as (client, written):
            queued = bench.put()
            client.retiring = True
            queued.fail(DeadlineExceeded("late"))
            assert written.closed

    asyncio.run(test())


def test_a_lost_client_sends_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        bench = Bench()
        async with connected(bench, tmp_path) as (client, _):
            queued = bench.put()
            client.connection_lost(None)
            queued.fail(DeadlineExceeded("late"))
            assert bench.queue.under_way == 0

    asyncio.run(test())


class Written:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.buffers: list[bytes] = []
        self.closed = False

    def writelines(self, buffers: list[bytes]) -> None:
        self.buffers += buffers

    def close(self) -> None:
        self.closed = True
