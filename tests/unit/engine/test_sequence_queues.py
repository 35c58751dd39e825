"""The queues of a model of sequences in a front: one instance for each sequence, and one request at a time."""

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from gateway.domain.table import Table, TableEntry, WorkerAddress
from gateway.domain.types import InferRequest, ModelStatus
from gateway.engine.client import WorkerClient
from gateway.engine.metrics import FrontMetrics, ModelMetrics
from gateway.engine.queue import ModelQueue
from gateway.engine.routes import Routes
from gateway.engine.sequences import SequenceQueues, slot_of
from gateway.errors import DeadlineExceeded, Internal, InvalidRequest, Unavailable
from runtimes.contract import SequenceControl, Signature, TensorSpec
from runtimes.fair_order import priority_of
from runtimes.layouts import layout_of
from runtimes.tensors import from_array
from tests.unit.engine.test_queue import FakeClient, WatchedRequest

X = TensorSpec("x", "FP32", (-1, 4))


def status(instances: int = 1) -> ModelStatus:
    signatures = {"default": Signature((X,), (TensorSpec("y", "FP32", (-1, 4)),))}
    return ModelStatus(
        "m", "1", "READY", admits=True, signatures=signatures, max_batch_size=8, sequence=True, instances=instances
    )


def request(sequence: int | str | None, *, start: bool = False, end: bool = False, rows: int = 1) -> InferRequest:
    control = None if sequence is None else SequenceControl(sequence, start, end)
    return InferRequest("m", [from_array("x", np.ones((rows, 4), np.float32))], sequence=control)


class Bench:
    """`outcomes`: the ids of settled requests, in their order."""

    def __init__(self, instances: int = 1) -> None:
        self.tidied = 0
        self.queue = SequenceQueues(status(instances), ModelMetrics(), self._tidy)
        self._ids = itertools.count(1)

    def _tidy(self, queue: SequenceQueues) -> None:
        self.tidied += 1

    def client(self, slot: int = 0, window: int = 1) -> FakeClient:
        made = FakeClient(window)
        self.queue.queue_of(WorkerAddress(slot + 1, "", "", 1, slot=slot)).clients.append(cast(WorkerClient, made))
        return made

    def put(self, sequence: int | str, *, start: bool = False, priority: int = 0) -> WatchedRequest:
        made = request(sequence, start=start)
        layout = layout_of("default", (), made.inputs)
        queued = WatchedRequest(next(self._ids), made, layout, 1, 16, 1e9, 0.0, priority, None, cast(Any, self.queue))
        self.queue.put(queued)
        return queued

    def answer(self, client: FakeClient, *queued: WatchedRequest) -> None:
        for each in queued:
            slot = next(slot for slot in self.queue._slots if client in slot.clients)
            slot.on_results(cast(WorkerClient, client), client.answer(each.id))

    def lose(self, client: FakeClient, *running: WatchedRequest) -> None:
        slot = next(slot for slot in self.queue._slots if client in slot.clients)
        client.window = 0
        slot.on_lost(cast(WorkerClient, client), frozenset(each.id for each in running))


def sent(client: FakeClient) -> list[int]:
    return [number for number, _ in client.sent]


def test_a_sequence_has_the_same_slot_everywhere() -> None:
    """The values are fixed: they must not differ between fronts, runs or releases of Python."""
    assert [slot_of(5, 64), slot_of("5", 64), slot_of("ü", 64), slot_of(2**64 - 1, 64)] == [28, 54, 30, 8]
    spread = Counter(slot_of(number, 3) for number in range(3000))
    assert all(900 < count < 1100 for count in spread.values())


def test_a_worker_has_one_request_of_each_sequence() -> None:
    bench = Bench()
    client = bench.client(window=1)
    first = [bench.put(1, start=True), bench.put(1), bench.put(1)]
    second = [bench.put("1", start=True), bench.put("1")]
    # The window, which is full, does not keep another sequence from running.
    assert sent(client) == [first[0].id, second[0].id]
    assert (bench.queue.queued, bench.queue.under_way) == (3, 5)
    bench.answer(client, first[0])
    assert sent(client)[2:] == [first[1].id]
    bench.answer(client, second[0], first[1])
    assert sent(client)[3:] == [second[1].id, first[2].id]
    bench.answer(client, second[1], first[2])
    assert (bench.queue.queued, bench.queue.under_way) == (0, 0)
    assert all(each.outcome is not None for each in (*first, *second))


def test_neither_priorities_nor_clients_change_the_order_of_a_sequence() -> None:
    bench = Bench()
    order = [
        bench.put(1, start=True, priority=5),
        bench.put(1, priority=priority_of(3, 2)),
        bench.put(1, priority=-7),
        bench.put(1, priority=priority_of(1, 1)),
    ]
    client = bench.client()
    bench.queue.pump()
    for each in order:
        bench.answer(client, each)
    assert sent(client) == [each.id for each in order]


def test_requests_wait_for_the_worker_of_their_slot() -> None:
    bench = Bench(instances=3)
    clients = [bench.client(0), bench.client(2)]
    sequences = {slot: next(n for n in range(1, 99) if slot_of(n, 3) == slot) for slot in range(3)}
    put = {slot: bench.put(number, start=True) for slot, number in sequences.items()}
    assert [sent(client) for client in clients] == [[put[0].id], [put[2].id]]
    late = bench.client(1)
    bench.queue.pump()
    assert sent(late) == [put[1].id]


def test_a_settled_request_lets_the_next_one_of_its_sequence_run() -> None:
    bench = Bench()
    first, second, third, fourth = bench.put(1, start=True), bench.put(1), bench.put(1), bench.put(1)
    first.fail(DeadlineExceeded("late"))  # not sent
    third.fail(DeadlineExceeded("late"))  # behind another one
    assert (bench.queue.queued, bench.queue.under_way) == (2, 2)
    client = bench.client()
    bench.queue.pump()
    assert sent(client) == [second.id]
    second.fail(DeadlineExceeded("late"))  # at the worker, which answers nevertheless
    assert (client.cancelled, sent(client)) == ([second.id], [second.id])
    bench.answer(client, second)
    assert sent(client) == [second.id, fourth.id]
    slot = bench.queue._slots[0]
    slot.on_error(cast(WorkerClient, client), fourth.id, Internal("it failed"))
    assert isinstance(fourth.outcome, Internal)
    assert (bench.queue.under_way, slot._lanes, slot._sequences) == (0, {}, {})


def test_a_start_that_is_dropped_ends_the_old_sequence() -> None:
    """What follows it is not meant for the old sequence, which therefore ends at its position."""
    bench = Bench()
    client = bench.client()
    first, second = bench.put(1, start=True), bench.put(1)
    dropped, third, fourth = bench.put(1, start=True), bench.put(1, start=True), bench.put(1)
    dropped_too, last = bench.put(1, start=True), bench.put(1)
    dropped.fail(DeadlineExceeded("late"))
    dropped_too.fail(DeadlineExceeded("late"))
    assert (bench.queue.queued, bench.queue.under_way) == (4, 5)
    for each in (first, second, third, fourth, last):
        assert sent(client)[-1:] == [each.id]
        bench.answer(client, each)
    assert client.ended_sequences == [(1, 2), (1, 4)]
    slot = bench.queue._slots[0]
    assert (bench.queue.under_way, slot._lanes, slot._sequences) == (0, {}, {})


def test_a_start_that_is_refused_ends_the_old_sequence() -> None:
    bench = Bench()
    client = bench.client()
    bench.queue.end_sequence("1")
    first, dropped = bench.put(1, start=True), bench.put(1, start=True)
    dropped.fail(DeadlineExceeded("late"))
    bench.queue.end_sequence(1)
    second = bench.put(1)
    assert client.ended_sequences == [("1", 0)]
    bench.answer(client, first)
    assert (client.ended_sequences, sent(client)) == ([("1", 0), (1, 1)], [first.id, second.id])
    bench.queue.end_sequence(1)
    bench.lose(client, second)
    assert isinstance(second.outcome, Unavailable)
    slot = bench.queue._slots[0]
    assert (bench.queue.under_way, slot._lanes, slot._sequences) == (0, {}, {})


def test_a_lost_worker_ends_its_sequences_and_no_others() -> None:
    bench = Bench(instances=2)
    clients = bench.client(0), bench.client(1)
    here = [n for n in range(1, 99) if slot_of(n, 2) == 0]
    there = next(n for n in range(1, 99) if slot_of(n, 2) == 1)
    started = bench.put(here[0], start=True)
    bench.answer(clients[0], started)
    running, behind, again = bench.put(here[0]), bench.put(here[0]), bench.put(here[0], start=True)
    waiting, fresh, next_of_fresh = bench.put(here[1]), bench.put(here[2], start=True), bench.put(here[2])
    other = bench.put(there)
    bench.lose(clients[0], running, fresh)
    for each in (running, behind, waiting):
        assert isinstance(each.outcome, Unavailable)
        assert "start the sequence again" in str(each.outcome)
    assert other.outcome is None
    # What starts a sequence has no state to lose: it runs on the worker that replaces the lost one.
    assert (again.outcome, fresh.outcome, next_of_fresh.outcome) == (None, None, None)
    replaced = bench.client(0)
    bench.queue.pump()
    assert sorted(sent(replaced)) == [again.id, fresh.id]
    bench.answer(replaced, fresh)
    assert sent(replaced)[2:] == [next_of_fresh.id]
    assert bench.queue.under_way == 3


def test_a_start_that_kills_two_workers_fails() -> None:
    bench = Bench()
    put, behind = bench.put(1, start=True), bench.put(1)
    for _ in range(2):
        client = bench.client()
        bench.queue.pump()
        bench.lose(client, put)
    assert isinstance(put.outcome, Internal)
    assert behind.outcome is None
    bench.queue.fail_all(Unavailable("stopped"))
    assert isinstance(behind.outcome, Unavailable)
    assert bench.queue.under_way == 0


def test_fewer_instances_fail_what_waits_for_the_others() -> None:
    bench = Bench(instances=3)
    last = next(n for n in range(1, 99) if slot_of(n, 3) == 2)
    waits = bench.put(last, start=True)
    bench.queue.update_status(status(1))
    assert "fewer instances" in str(waits.outcome)
    client = bench.client()
    put = bench.put(last, start=True)
    assert sent(client) == [put.id]


@pytest.mark.parametrize("closing", [True, False])
def test_what_was_admitted_is_answered_before_the_version_is_removed(closing: bool) -> None:
    bench = Bench()
    client = bench.client()
    first, second = bench.put(1, start=True), bench.put(1)
    bench.queue.closing = closing
    bench.answer(client, first)
    assert sent(client) == [first.id, second.id]
    assert not client.closed
    bench.answer(client, second)
    assert client.closed is closing


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (request(None), "inference request to model 'm' must specify a non-zero or non-empty correlation ID"),
        (request(1, rows=2), "must specify batch-size 1 due to requirements of sequence batcher"),
    ],
)
def test_requests_without_a_sequence_are_refused_as_by_triton(asked: InferRequest, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        Bench().queue.validator.check(asked)


def test_a_version_that_becomes_one_of_sequences_gets_other_queues() -> None:
    routes = Routes(FrontMetrics())
    of_sequences = status()
    routes.apply(Table((TableEntry(of_sequences),), ready=True))
    before = routes.servable("m", "")
    assert isinstance(before, SequenceQueues)
    assert not routes.known  # the compiled path must not answer for it
    made = request(1, start=True)
    layout = layout_of("default", (), made.inputs)
    waits = WatchedRequest(1, made, layout, 1, 16, 1e9, 0.0, 0, None, cast(Any, before))
    before.put(waits)
    routes.apply(Table((TableEntry(replace(of_sequences, sequence=False)),), ready=True))
    assert "was loaded again" in str(waits.outcome)
    after = routes.servable("m", "")
    assert type(after) is ModelQueue
    routes.apply(Table((TableEntry(of_sequences),), ready=True))
    assert isinstance(routes.servable("m", ""), SequenceQueues)
