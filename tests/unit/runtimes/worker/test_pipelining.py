"""Two batches in progress in a pipelined model, observed on a front's socket, with the worker's real loop."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtimes import request_frames, result_frames, status_page, wire
from runtimes.contract import LoadOptions
from runtimes.fake.runtime import FakeModel
from runtimes.request_frames import InferFrame
from runtimes.status_page import StatusPage
from runtimes.tensors import from_array, to_array
from runtimes.wire import FrameReader
from runtimes.worker.batcher import Batching
from runtimes.worker.connection import Connection
from runtimes.worker.execute import Executor
from runtimes.worker.facts import Facts
from runtimes.worker.loop import Loop
from tests.support.pending_requests import batch_of

WAIT_S = 60.0


class Watching(FakeModel):
    """Records what the status page lists whenever a batch finishes, and the rows of runs that were not pipelined."""

    def __init__(self, page: StatusPage, described: dict[str, Any]) -> None:
        super().__init__({"pipelined": True, **described}, LoadOptions(""))
        self.page = page
        self.listed: list[frozenset[int]] = []

    def finish(self, handle: Any) -> dict[str, np.ndarray]:
        self.listed.append(self.page.running())
        return super().finish(handle)


class Worker:
    """A loop on a thread, and a front's connection to it."""

    def __init__(self, folder: Path, max_rows: int, **described: Any) -> None:
        page = folder / "status"
        status_page.create(str(page))
        self.page = StatusPage(str(page))
        self.model = Watching(self.page, described)
        batching = Batching(max_rows, frozenset({"default"} if max_rows else ()))
        self.listener = listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / "socket"))
        listener.listen()
        self.control, theirs = socket.socketpair()
        executor, control = Executor(self.model, batching, 1 << 20), Connection(theirs)
        facts = Facts(self.model.signatures, self.model.signatures, True, batching, "", "")
        loop = Loop(executor, listener, control, StatusPage(str(page)), facts)
        self.thread = threading.Thread(target=loop.run)
        self.thread.start()
        self.front = socket.socket(socket.AF_UNIX)
        self.front.settimeout(WAIT_S)
        self.front.connect(str(folder / "socket"))

    def ask(self, *values: float, isolated: tuple[int, ...] = ()) -> list[float | str]:
        """Send requests of one row in one write, so the worker sees them together. Return the answers in order."""
        sent = b""
        for number, value in enumerate(values):
            frame = InferFrame(1e9, 0, "default", [], [from_array("x", np.full((1, 4), value, np.float32))])
            sent += b"".join(request_frames.pack_infer([(number, frame)], wire.ISOLATED if number in isolated else 0))
        self.front.sendall(sent)
        answers: dict[int, float | str] = {}
        reader = FrameReader()
        while len(answers) < len(values):
            for frame in reader.feed(self.front.recv(1 << 16)):
                if frame.kind == wire.ERROR:
                    answers[frame.id] = wire.unpack_json(frame.body)["kind"]
                else:
                    for number, result in result_frames.unpack_result(frame.body, frame.flags):
                        answers[number] = float(to_array(result.outputs[0])[0, 0])
        return [answers[number] for number in range(len(values))]

    def close(self) -> None:
        self.front.close()
        self.control.close()
        self.thread.join(WAIT_S)
        self.listener.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    started: list[Worker] = []

    def make(max_rows: int, **described: Any) -> Worker:
        started.append(Worker(tmp_path, max_rows, **described))
        return started[-1]

    yield make
    for worker in started:
        worker.close()


def test_the_next_full_batch_starts_before_the_running_one_is_finished(start: Any) -> None:
    # Each answer is twice its input, and one more if a batch was in progress when it started.
    worker = start(1)
    assert worker.ask(10, 20, 30) == [20, 41, 61]
    assert worker.model.listed == [{0, 1}, {1, 2}, {2}]


def test_a_batch_that_may_still_get_company_waits(start: Any) -> None:
    assert start(2).ask(10, 20, 30) == [20, 40, 60]


def test_a_bad_request_fails_alone_and_the_batch_beside_it_does_not(start: Any) -> None:
    assert start(2).ask(10, 400, 30, 40) == [20, "invalid", 61, 81]


def test_a_row_without_memory_fails_alone_and_the_batch_beside_it_does_not(start: Any) -> None:
    assert start(2).ask(10, 507, 30, 40) == [20, "out_of_memory", 61, 81]


def test_what_must_run_alone_runs_with_nothing_beside_it(start: Any) -> None:
    worker = start(1)
    assert worker.ask(10, 20, 30, isolated=(0, 1)) == [20, 40, 60]
    assert worker.model.listed == [{2}]


def test_a_model_that_is_not_pipelined_is_asked_for_one_batch_after_the_other(start: Any) -> None:
    worker = start(1, pipelined=False)
    assert worker.ask(10, 20) == [20, 40]
    assert worker.model.listed == []


def test_the_page_is_empty_when_all_is_answered(start: Any) -> None:
    worker = start(1)
    worker.ask(10, 20)
    worker.ask(30)  # its batch begins after the others' answers
    worker.close()
    assert worker.page.busy_since() == 0
    assert worker.page.running() == frozenset()


def test_what_needs_several_runs_is_answered_when_the_batch_before_it_ends_batching() -> None:
    model = FakeModel({"pipelined": True, "counts_hits": True}, LoadOptions(""))
    executor = Executor(model, Batching(2, frozenset({"default"})), 1 << 20)

    def asked(rows: int) -> InferFrame:
        return InferFrame(1e9, 0, "default", [], [from_array("x", np.ones((rows, 4), np.float32))])

    miscounted = executor.begin(batch_of(asked(1), asked(1)))
    larger = executor.begin(batch_of(asked(5)))
    started = executor.begin(batch_of(asked(1)))
    answers = [executor.finish(running) for running in (miscounted, larger, started)]
    assert [[each.outputs[0].shape for each in outcomes] for outcomes in answers] == [  # type: ignore[union-attr]
        [(4, 4), (4, 4)],
        [(20, 4)],
        [(4, 4)],
    ]
    assert model._in_progress == 0
