"""Audits run batched requests again, alone, within a share of the model's time. No process is started."""

import socket
import threading
from itertools import count
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from runtimes import request_frames, status_page, wire
from runtimes.contract import LoadOptions, Signature, TensorSpec
from runtimes.control import Ready
from runtimes.fake.runtime import FakeModel
from runtimes.request_frames import InferFrame
from runtimes.result_frames import ResultFrame
from runtimes.status_page import StatusPage
from runtimes.tensors import from_array
from runtimes.wire import Frame, FrameReader
from runtimes.worker import audit
from runtimes.worker.audit import Auditor
from runtimes.worker.batcher import Batching
from runtimes.worker.budget import Budget
from runtimes.worker.connection import Connection
from runtimes.worker.execute import Executor, Outcome
from runtimes.worker.facts import Facts
from runtimes.worker.loop import Loop
from runtimes.worker.pending import Batch
from tests.support.pending_requests import batch_of

BATCHING = Batching(8, frozenset({"default"}))


def batch(*values: Any, datatype: Any = np.float32) -> Batch:
    """Return requests of one row each."""
    frames = [InferFrame(1e9, 0, "default", [], [from_array("x", np.full((1, 4), v, datatype))]) for v in values]
    return batch_of(*frames)


def audited(share: float, *batches: Batch, **described: Any) -> tuple[Auditor, list[str]]:
    """Return an auditor after these batches, each reported to take a second, and what its audits found."""
    executor = Executor(FakeModel(described, LoadOptions("")), BATCHING, 1 << 20)
    auditor, found = Auditor(executor.chunked_model, 0, plenty(share)), []
    for each in batches:
        auditor.observe(each, [of_a_second(outcome) for outcome in executor.run(each)])
        while auditor.is_due:
            found.append(auditor.step())
    return auditor, [text for text in found if text is not None]


def plenty(share: float) -> Budget:
    """Return the budget of a model that seems to compute for a second between two reads of the clock."""
    return Budget(share, cpu=count(0.0, 1.0).__next__)


def of_a_second(outcome: Outcome) -> Outcome:
    return outcome._replace(compute_infer_ns=10**9) if isinstance(outcome, ResultFrame) else outcome


def test_what_company_changed_is_found_and_described_without_its_values() -> None:
    auditor, found = audited(1.0, batch(0.375, 4321.0), not_batchable=True)
    assert (auditor.runs, auditor.differences, len(found)) == (1, 1, 1)
    assert "output 'y' differs by" in found[0]
    assert "'x' FP32[1, 4] from 4e-01 to 4e-01; of the whole batch: 'x' FP32[1, 4] from 4e-01 to 4e+03" in found[0]
    assert "0.375" not in found[0]
    assert "4321" not in found[0]


def test_each_request_of_a_batch_runs_again_where_there_is_time() -> None:
    auditor, found = audited(1.0, batch(1, 2, 3))
    assert (auditor.runs, auditor.differences, found) == (3, 0, [])


def test_values_are_looked_at_where_there_is_a_difference_only(monkeypatch: pytest.MonkeyPatch) -> None:
    # Requests wait while a batch is sampled, and inspecting a large batch takes a second and a gigabyte.
    looked: list[Any] = []
    monkeypatch.setattr(audit, "_ranges", lambda tensors: looked.append(tensors) or [])
    auditor, found = audited(1.0, batch(1, 2, 3))
    assert (auditor.runs, found, looked, auditor._batch_frames) == (3, [], [], [])
    audited(1.0, batch(1, 2), not_batchable=True)
    assert len(looked) == 2


@pytest.mark.parametrize(
    ("share", "batches"),
    [(0.0, [batch(1, 2)] * 9), (0.01, [batch(1, 2)] * 49), (1.0, [batch(1)] * 9), (1.0, [batch(1, 500)] * 9)],
    ids=["share 0", "the share is not reached", "no company", "failed together"],
)
def test_nothing_is_audited(share: float, batches: list[Batch]) -> None:
    auditor, _ = audited(share, *batches)
    assert auditor.runs == 0
    assert not auditor.is_due


class Priced:
    """A real executor and auditor, on clocks that advance only by a set time for each operation.

    A batch takes the time in its answer on the wall clock, and the fraction `of_it` of that on the CPU clock.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, share: float, batch_s: float, of_it: float = 1.0) -> None:
        self.audits = self.computed = 0.0
        self._asked, self._batch_s, self._of_it = batch(1, 2), batch_s, of_it
        executor = Executor(FakeModel({}, LoadOptions("")), BATCHING, 1 << 20)
        outcomes = cast(list[ResultFrame], executor.run(self._asked))
        self._answered = [outcome._replace(compute_infer_ns=round(batch_s * 1e9)) for outcome in outcomes]
        budget = Budget(share, lambda: self.audits, lambda: self.audits + self.computed)
        self.auditor = Auditor(executor.chunked_model, 0, budget)
        for thing, name, seconds in (
            (audit, "_copy", 0.25),
            (audit, "difference", 0.5),
            (executor.chunked_model, "run", 1),
        ):
            monkeypatch.setattr(thing, name, self._taking(seconds, getattr(thing, name)))

    def _taking(self, seconds: float, function: Any) -> Any:
        def taking(*given: Any) -> Any:
            self.audits += seconds
            return function(*given)

        return taking

    def batch(self) -> None:
        self.computed += self._batch_s * self._of_it
        self.auditor.observe(self._asked, self._answered)
        while self.auditor.is_due:
            assert self.auditor.step() is None


def test_copies_comparisons_and_runs_are_all_paid_from_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two requests: four copies of 0.25 s, two runs of 1 s with a comparison of 0.5 s each.
    priced = Priced(monkeypatch, 0.1, 1.0)
    spent = []
    for _ in range(1000):
        priced.batch()
        spent.append(priced.audits)
    assert spent[3] == 0.0
    # Ahead of the budget by one step at most, because a step's length is only estimated from the previous step.
    assert all(so_far <= 0.1 * number + 2.5 for number, so_far in enumerate(spent, 1))
    assert 95 <= spent[-1] <= 100
    assert 46 <= priced.auditor.runs <= 50


def test_time_that_a_batch_waited_for_a_core_earns_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    priced = Priced(monkeypatch, 0.1, 1.0, of_it=0.25)
    for _ in range(1000):
        priced.batch()
    assert 22 <= priced.audits <= 25


def test_threads_that_compute_at_once_earn_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    priced = Priced(monkeypatch, 0.1, 1.0, of_it=4.0)
    for _ in range(1000):
        priced.batch()
    assert 95 <= priced.audits <= 100


@pytest.mark.parametrize(("batch_s", "at"), [(1e-5, (100, 110)), (1e-3, (60,))])
def test_a_look_at_a_batch_is_paid_too_and_never_takes_all(
    monkeypatch: pytest.MonkeyPatch, batch_s: float, at: tuple[int, ...]
) -> None:
    # The first audit is expected to take half a batch's time, which 50 batches earn if looking at a batch is free. One
    # batch in ten is looked at, for 5 microseconds: ten batches of 1000 earn 95, and ten batches of 10 earn half of 1.
    priced = Priced(monkeypatch, 0.01, batch_s)
    first = next(number for number in range(1, 1000) if priced.batch() or priced.audits)
    assert first in at


def test_a_model_that_draws_lots_is_not_accused() -> None:
    auditor, found = audited(1.0, batch(1, 2), stateful=True)
    assert (auditor.differences, found) == (0, [])


def test_strings_are_described_by_their_lengths() -> None:
    specs = [{"name": "x", "datatype": "BYTES", "shape": [-1, 4]}]
    executor = Executor(FakeModel({"inputs": specs, "outputs": specs}, LoadOptions("")), BATCHING, 1 << 20)
    auditor = Auditor(executor.chunked_model, 0, plenty(1.0))
    asked = batch(b"secret", b"longer secret", datatype=object)
    swapped = executor.run(asked)[::-1]
    auditor.observe(asked, [of_a_second(outcome) for outcome in swapped])
    assert auditor.is_due
    found = auditor.step()
    assert found is not None
    assert "of 6 to 13 bytes" in found
    assert "secret" not in found


def test_a_difference_switches_batching_off_for_all_who_ask(tmp_path: Path) -> None:
    """Observed on a front's socket and on the supervisor's, with the worker's real loop."""
    status_page.create(str(tmp_path / "status"))
    page = StatusPage(str(tmp_path / "status"))
    model = FakeModel({"not_batchable": True}, LoadOptions(""))
    fixed = {"default": Signature((TensorSpec("x", "FP32", (4, 4)),), ())}
    facts = Facts(model.signatures, fixed, False, BATCHING, "", "")
    listener, (supervisor, control) = socket.socket(socket.AF_UNIX), socket.socketpair()
    listener.bind(str(tmp_path / "socket"))
    listener.listen()
    executor = Executor(model, BATCHING, 1 << 20)
    loop = Loop(executor, listener, Connection(control), page, facts, 1.0)
    front = socket.socket(socket.AF_UNIX)
    front.connect(str(tmp_path / "socket"))
    requests = [(pending.id, pending.frame) for pending in batch(1, 3)]
    front.sendall(b"".join(request_frames.pack_infer(requests)))
    thread = threading.Thread(target=loop.run)
    thread.start()
    with supervisor, control, front, listener:
        reader = FrameReader()
        frames: list[Frame] = []
        # The first batch may have been faster than one request alone: then more batches are needed.
        while not frames:
            supervisor.settimeout(0.05)
            try:
                frames = reader.feed(supervisor.recv(1 << 16))
            except TimeoutError:
                front.sendall(b"".join(request_frames.pack_infer(requests)))
        ready = Ready.from_json(wire.unpack_json(frames[0].body))
        supervisor.sendall(wire.pack_json(wire.STOP, {}))
        front.close()
        thread.join(60)
    assert frames[0].kind == wire.READY
    assert (ready.max_batch_size, ready.window, ready.batching_off) == (0, 2, "audit")
    assert "output 'y' differs by" in ready.note
    assert ready.signatures["default"] == fixed["default"]
    assert page.audits() == (1, 1)
