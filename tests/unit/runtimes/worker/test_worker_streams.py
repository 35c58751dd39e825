"""A decoupled model in the worker's real loop, observed on a front's socket."""

import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtimes import request_frames, result_frames, status_page, wire
from runtimes.contract import LoadOptions, Model, Signature, TensorSpec
from runtimes.control import BatchingOptions, Reshapes
from runtimes.fake.runtime import FakeModel
from runtimes.request_frames import InferFrame
from runtimes.status_page import StatusPage
from runtimes.tensors import from_array, to_array
from runtimes.wire import MAX_UNREAD_ANSWERS, MAX_UNREAD_BYTES, FrameReader
from runtimes.worker.batching_decision import decide_batching
from runtimes.worker.connection import Connection
from runtimes.worker.execute import Executor
from runtimes.worker.facts import Facts
from runtimes.worker.loop import Loop
from runtimes.worker.reshape import reshaped

WAIT_S = 60.0
MAX_RESPONSE_BYTES = 1 << 20
Answer = tuple[int, list[float] | str, bool]


class Endless(Model):
    """Answers with as many numbers as the input says, forever. `steps`: of all requests; `closed`: those given up."""

    decoupled = True

    def __init__(self, page: StatusPage) -> None:
        self.signatures = {"default": Signature((TensorSpec("x", "FP32", (1,)),), (TensorSpec("y", "FP32", (-1,)),))}
        self.page, self.steps, self.closed = page, 0, threading.Event()
        self.listed: set[frozenset[int]] = set()

    def stream(
        self, inputs: dict[str, np.ndarray], outputs: Sequence[str], signature: str
    ) -> Iterator[dict[str, np.ndarray]]:
        try:
            while True:
                self.steps += 1
                self.listed.add(self.page.running())
                yield {"y": np.full(int(inputs["x"][0]), self.steps, np.float32)}
        finally:
            self.closed.set()


class Worker:
    """A loop on a thread, and fronts' connections to it."""

    def __init__(self, folder: Path) -> None:
        status_page.create(str(folder / "status"))
        self.page = StatusPage(str(folder / "status"))
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "socket"))
        self.listener.listen()
        self.fronts: list[socket.socket] = []
        self.readers: dict[socket.socket, FrameReader] = {}

    def start(self, model: Model) -> None:
        decision = decide_batching(model, BatchingOptions())
        facts = Facts(model.signatures, model.signatures, False, decision.batching, decision.reason, "", True)
        assert (facts.ready().max_batch_size, facts.ready().batching_off) == (0, "decoupled")
        self.control, theirs = socket.socketpair()
        executor = Executor(model, decision.batching, MAX_RESPONSE_BYTES)
        self.loop = Loop(executor, self.listener, Connection(theirs), self.page, facts)
        self.thread = threading.Thread(target=self.loop.run)
        self.thread.start()

    def connect(self) -> socket.socket:
        front = socket.socket(socket.AF_UNIX)
        front.settimeout(WAIT_S)
        front.connect(str(self.listener.getsockname()))
        self.fronts.append(front)
        self.readers[front] = FrameReader()
        return front

    def read(self, front: socket.socket, count: int) -> list[Answer]:
        """Return at least this many answers: request, the first numbers of y or the kind of error, whether final."""
        answers: list[Answer] = []
        while len(answers) < count:
            for frame in self.readers[front].feed(front.recv(1 << 16)):
                if frame.kind == wire.ERROR:
                    answers.append((frame.id, wire.unpack_json(frame.body)["kind"], True))
                    continue
                for number, result in result_frames.unpack_result(frame.body, frame.flags):
                    values = to_array(result.outputs[0]).ravel()[:4].tolist() if result.outputs else []
                    answers.append((number, values, result.final))
        return answers

    def close(self) -> None:
        for front in self.fronts:
            front.close()
        self.control.close()
        self.thread.join(WAIT_S)
        assert not self.thread.is_alive()
        self.listener.close()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(tmp_path)
    yield made
    made.close()


def request(number: int, array: np.ndarray) -> bytes:
    frame = InferFrame(1e9, 0, "default", [], [from_array("x", array)])
    return b"".join(request_frames.pack_infer([(number, frame)]))


def four(number: int, value: float, rows: int = 1) -> bytes:
    return request(number, np.full((rows, 4), value, np.float32))


def ack(number: int, count: int = 1) -> bytes:
    return b"".join(b"".join(wire.pack(wire.ACK, number)) for _ in range(count))


def fake(**described: Any) -> FakeModel:
    return FakeModel(described, LoadOptions(""))


def test_each_answer_is_a_frame_and_the_last_has_no_outputs(worker: Worker) -> None:
    worker.start(fake(answers=3))
    front = worker.connect()
    front.sendall(four(7, 1.0))
    assert worker.read(front, 4) == [
        (7, [2.0] * 4, False),
        (7, [3.0] * 4, False),
        (7, [4.0] * 4, False),
        (7, [], True),
    ]


def test_no_answer_is_an_answer(worker: Worker) -> None:
    worker.start(fake(answers=0))
    front = worker.connect()
    front.sendall(four(7, 1.0))
    assert worker.read(front, 1) == [(7, [], True)]


def test_requests_are_answered_in_turn(worker: Worker) -> None:
    worker.start(fake(answers=2))
    front = worker.connect()
    front.sendall(four(1, 1.0) + four(2, 10.0))
    answers = worker.read(front, 6)
    assert [each for each in answers if each[0] == 2] == [(2, [20.0] * 4, False), (2, [21.0] * 4, False), (2, [], True)]
    assert answers.index((2, [20.0] * 4, False)) < answers.index((1, [], True))


@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize(("value", "kind"), [(400, "invalid"), (500, "internal"), (501, "unsupported")])
def test_an_exception_is_the_last_answer(worker: Worker, before: int, value: float, kind: str) -> None:
    worker.start(fake(answers=3, effects_at=before))
    front = worker.connect()
    front.sendall(four(1, value) + four(2, 1.0))
    answers = worker.read(front, before + 1 + 4)
    assert [each[1:] for each in answers if each[0] == 1][before:] == [(kind, True)]
    assert len([each for each in answers if each[0] == 2]) == 4


@pytest.mark.parametrize(("numbers", "unread"), [(1, MAX_UNREAD_ANSWERS), (MAX_UNREAD_BYTES // 8, 2)])
def test_a_model_waits_for_a_slow_client(worker: Worker, numbers: int, unread: int) -> None:
    model = Endless(worker.page)
    worker.start(model)
    front, other = worker.connect(), worker.connect()
    front.sendall(request(1, np.array([numbers], np.float32)))
    assert len(worker.read(front, unread)) == unread
    # The answer to another request shows that the loop goes on, and that nothing more was computed for the first.
    other.sendall(request(2, np.array([1], np.float32)))
    worker.read(other, 1)
    other.sendall(b"".join(wire.pack(wire.CANCEL, 2)))
    while worker.read(other, 1)[-1][1] != "cancelled":
        pass
    steps = model.steps
    front.sendall(ack(1))
    assert worker.read(front, 1) == [(1, [steps + 1.0] * min(numbers, 4), False)]
    front.sendall(ack(1, unread))
    assert len(worker.read(front, unread)) == unread
    assert model.listed == {frozenset({1}), frozenset({2})}


def test_a_client_that_leaves_ends_the_iterator(worker: Worker) -> None:
    model = Endless(worker.page)
    worker.start(model)
    front = worker.connect()
    front.sendall(request(1, np.array([1], np.float32)))
    worker.read(front, MAX_UNREAD_ANSWERS)
    front.sendall(b"".join(wire.pack(wire.CANCEL, 1)))
    assert worker.read(front, 1) == [(1, "cancelled", True)]
    assert model.closed.is_set()
    front.sendall(ack(1))  # it was on its way
    model.closed.clear()
    front.sendall(request(2, np.array([1], np.float32)))
    worker.read(front, 1)
    front.close()
    assert model.closed.wait(WAIT_S)


def test_an_answer_over_the_limit_ends_the_request(worker: Worker) -> None:
    worker.start(Endless(worker.page))
    front = worker.connect()
    front.sendall(request(1, np.array([MAX_RESPONSE_BYTES // 4 + 1], np.float32)))
    assert worker.read(front, 1) == [(1, "too_large", True)]


def test_answers_are_reshaped(worker: Worker) -> None:
    model = reshaped(fake(answers=1), Reshapes({"x": ((-1, 2, 2), (-1, 4))}, {"y": ((-1, 2, 2), (-1, 4))}))
    worker.start(model)
    front = worker.connect()
    front.sendall(request(1, np.ones((1, 2, 2), np.float32)))
    assert worker.read(front, 2) == [(1, [2.0] * 4, False), (1, [], True)]
