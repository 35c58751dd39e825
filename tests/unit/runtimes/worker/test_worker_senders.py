"""A model that sends its answers itself, from threads of its own, in the worker's real loop."""

import select
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from runtimes import status_page, wire
from runtimes.contract import DeviceLost, InvalidInput, Model, Request, ResponseSender, Signature, TensorSpec
from runtimes.control import Reshapes
from runtimes.request_frames import InferFrame
from runtimes.status_page import StatusPage
from runtimes.tensors import from_array
from runtimes.wire import MAX_UNREAD_ANSWERS
from runtimes.worker.batcher import Batching
from runtimes.worker.execute import Executor
from runtimes.worker.reshape import reshaped
from runtimes.worker.senders import Senders
from tests.support.pending_requests import batch_of
from tests.unit.runtimes.worker.test_worker_streams import WAIT_S, Worker, ack, request


class Sending(Model):
    """Does with each request's sender what `act` says. `sent` counts answers; `done`: act has returned."""

    decoupled = takes_requests = sends_answers = True

    def __init__(self, act: Callable[["Sending", Request, ResponseSender], None]) -> None:
        self.signatures = {"default": Signature((TensorSpec("x", "FP32", (1,)),), (TensorSpec("y", "FP32", (-1,)),))}
        self.act, self.sent = act, 0
        self.done, self.go_on = threading.Event(), threading.Event()
        self.senders: list[ResponseSender] = []
        self.errors: list[Exception] = []

    def serve_request(self, request: Request, sender: ResponseSender, signature: str) -> None:
        self.senders.append(sender)
        try:
            self.act(self, request, sender)
        finally:
            self.done.set()

    def send(self, sender: ResponseSender, value: float, size: int = 1) -> None:
        sender.send({"y": np.full(size, value, np.float32)})
        self.sent += 1

    def in_thread(self, run: Callable[[], None]) -> None:
        def caught() -> None:
            try:
                run()
            except Exception as error:
                self.errors.append(error)

        threading.Thread(target=caught, daemon=True).start()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(tmp_path)
    yield made
    made.close()
    # The model's thread may still have an exception to log. After the test, the stream for that would be closed.
    senders = made.loop._streams
    senders.close()
    senders._thread.join(WAIT_S)
    assert not senders._thread.is_alive()


def one(number: int, value: float = 1.0) -> bytes:
    return request(number, np.array([value], np.float32))


def count_up(model: Sending, asked: Request, sender: ResponseSender) -> None:
    for number in range(int(asked.inputs["x"][0])):
        model.send(sender, number)
    sender.end()


def test_answers_of_execute_itself_arrive_in_order_and_end(worker: Worker) -> None:
    worker.start(Sending(count_up))
    front = worker.connect()
    front.sendall(one(7, 3) + one(8, 0))
    assert worker.read(front, 5) == [
        (7, [0.0], False),
        (7, [1.0], False),
        (7, [2.0], False),
        (7, [], True),
        (8, [], True),
    ]


def test_a_reshape_applies_to_what_is_sent(worker: Worker) -> None:
    worker.start(reshaped(Sending(count_up), Reshapes({"x": ((1, 1), (1,))}, {"y": ((-1, 1), (-1,))})))
    front = worker.connect()
    front.sendall(request(7, np.ones((1, 1), np.float32)))
    assert worker.read(front, 2) == [(7, [0.0], False), (7, [], True)]


def test_a_thread_sends_while_the_next_request_runs(worker: Worker) -> None:
    def act(model: Sending, asked: Request, sender: ResponseSender) -> None:
        if asked.inputs["x"][0] == 1:
            model.in_thread(lambda: (model.go_on.wait(WAIT_S), count_up(model, asked, sender)))
        else:
            count_up(model, asked, sender)

    worker.start(model := Sending(act))
    front = worker.connect()
    front.sendall(one(1, 1) + one(2, 2))
    assert worker.read(front, 3) == [(2, [0.0], False), (2, [1.0], False), (2, [], True)]
    model.go_on.set()
    assert worker.read(front, 2) == [(1, [0.0], False), (1, [], True)]


def test_a_slow_client_keeps_the_sender_waiting_and_no_other_request(worker: Worker) -> None:
    def act(model: Sending, asked: Request, sender: ResponseSender) -> None:
        model.in_thread(lambda: count_up(model, asked, sender))

    worker.start(model := Sending(act))
    slow, quick = worker.connect(), worker.connect()
    slow.sendall(one(1, 1000))
    assert len(worker.read(slow, MAX_UNREAD_ANSWERS)) == MAX_UNREAD_ANSWERS
    quick.sendall(one(2, 1))
    assert worker.read(quick, 2) == [(2, [0.0], False), (2, [], True)]
    assert model.sent <= MAX_UNREAD_ANSWERS + 1  # one of them is the other request's
    slow.sendall(ack(1, 3))
    assert [values for _, values, _ in worker.read(slow, 3)] == [[16.0], [17.0], [18.0]]


def test_waiting_for_a_client_is_no_execution_that_hangs(worker: Worker) -> None:
    """The page shows no running execution while a client is slow, but still whose fault a crash would be."""
    worker.start(Sending(count_up))
    front = worker.connect()
    front.sendall(one(1, 1000))
    worker.read(front, MAX_UNREAD_ANSWERS)
    while worker.page.busy_since():
        threading.Event().wait(0.001)
    assert worker.page.running() == {1}
    front.sendall(b"".join(wire.pack(wire.CANCEL, 1)))
    assert worker.read(front, 1) == [(1, "cancelled", True)]


def test_a_client_that_leaves_frees_the_sender_which_sees_it(worker: Worker) -> None:
    def act(model: Sending, asked: Request, sender: ResponseSender) -> None:
        while not sender.cancelled:
            model.send(sender, 1.0)
        model.send(sender, 2.0)  # is dropped
        sender.end()

    worker.start(model := Sending(act))
    front = worker.connect()
    front.sendall(one(1))
    worker.read(front, MAX_UNREAD_ANSWERS)
    front.sendall(b"".join(wire.pack(wire.CANCEL, 1)))
    assert worker.read(front, 1) == [(1, "cancelled", True)]
    assert model.done.wait(WAIT_S)
    model.act = count_up
    front.sendall(one(2, 1))
    assert worker.read(front, 2) == [(2, [0.0], False), (2, [], True)]


def test_a_front_that_is_lost_frees_the_sender(worker: Worker) -> None:
    worker.start(model := Sending(count_up))
    front = worker.connect()
    front.sendall(one(1, 1000))
    worker.read(front, MAX_UNREAD_ANSWERS)
    worker.fronts.remove(front)
    front.close()
    assert model.done.wait(WAIT_S)


def test_errors_end_a_request_before_and_after_answers(worker: Worker) -> None:
    def act(model: Sending, asked: Request, sender: ResponseSender) -> None:
        kind = asked.inputs["x"][0]
        if kind > 1:
            model.send(sender, 5.0)
        if kind == 3:
            sender.fail(InvalidInput("no"))
            raise RuntimeError("is only logged")
        raise RuntimeError("secret")

    worker.start(Sending(act))
    front = worker.connect()
    front.sendall(one(1, 1) + one(2, 2) + one(3, 3))
    assert worker.read(front, 5) == [
        (1, "internal", True),
        (2, [5.0], False),
        (2, "internal", True),
        (3, [5.0], False),
        (3, "invalid", True),
    ]


def test_an_exception_after_the_end_is_logged(worker: Worker, capfd: pytest.CaptureFixture[str]) -> None:
    def act(model: Sending, asked: Request, sender: ResponseSender) -> None:
        sender.end()
        if asked.inputs["x"][0] < 3:
            raise RuntimeError("too late")

    worker.start(Sending(act))
    front = worker.connect()
    front.sendall(one(1, 1) + one(2, 2) + one(3, 3))
    # The same thread runs them all, so it has logged the others when it answers the last one.
    assert worker.read(front, 3) == [(1, [], True), (2, [], True), (3, [], True)]
    assert "RuntimeError: too late" in capfd.readouterr().err


@pytest.mark.parametrize("error", [DeviceLost("gone"), SystemExit(0)])
def test_what_must_end_the_worker_reaches_its_loop(tmp_path: Path, error: BaseException) -> None:
    def act(model: Sending, asked: Request, sender: ResponseSender) -> None:
        raise error

    status_page.create(str(tmp_path / "status"))
    senders = Senders(Executor(Sending(act), Batching(), 1 << 20), StatusPage(str(tmp_path / "status")))
    senders.start(batch_of(InferFrame(1e9, 0, "default", [], [from_array("x", np.ones(1, np.float32))])))
    assert select.select([senders.descriptor], [], [], WAIT_S)[0]
    senders.wake()
    assert senders.can_advance
    with pytest.raises(type(error)):
        senders.advance()


def test_nothing_can_be_sent_after_the_end(worker: Worker) -> None:
    def act(model: Sending, asked: Request, sender: ResponseSender) -> None:
        sender.end()
        for again in (sender.end, lambda: model.send(sender, 1.0), lambda: sender.fail(ValueError())):
            try:
                again()
            except RuntimeError as error:
                model.errors.append(error)

    worker.start(model := Sending(act))
    front = worker.connect()
    front.sendall(one(1))
    assert worker.read(front, 1) == [(1, [], True)]
    assert model.done.wait(WAIT_S)
    assert len(model.errors) == 3


def test_arrays_may_change_after_they_were_sent(worker: Worker) -> None:
    def act(model: Sending, asked: Request, sender: ResponseSender) -> None:
        array = np.zeros(1, np.float32)
        for _ in range(3):
            sender.send({"y": array})
            array += 1
        sender.end()

    worker.start(Sending(act))
    front = worker.connect()
    front.sendall(one(1))
    assert worker.read(front, 4) == [(1, [0.0], False), (1, [1.0], False), (1, [2.0], False), (1, [], True)]


def test_an_answer_over_the_limit_ends_the_request(worker: Worker) -> None:
    def act(model: Sending, asked: Request, sender: ResponseSender) -> None:
        model.send(sender, 1.0, 1 << 20)
        model.send(sender, 1.0)

    worker.start(model := Sending(act))
    front = worker.connect()
    front.sendall(one(1))
    assert worker.read(front, 1) == [(1, "too_large", True)]
    assert model.done.wait(WAIT_S)
    assert model.sent == 1


def test_a_worker_ends_although_senders_are_open(worker: Worker) -> None:
    worker.start(model := Sending(count_up))
    front = worker.connect()
    front.sendall(one(1, 1000))
    worker.read(front, MAX_UNREAD_ANSWERS)
    worker.control.close()
    worker.thread.join(WAIT_S)
    worker.loop.close()
    for connection in list(worker.loop._connections.values()):
        connection.close()
    assert model.done.wait(WAIT_S)
