"""The calls of a worker's model, with a front at the other end of a socket."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtimes import result_frames, status_page, wire
from runtimes.calls import MAX_CALLS, unpack_call
from runtimes.contract import Call, CallFailed
from runtimes.result_frames import ResultFrame
from runtimes.status_page import StatusPage
from runtimes.tensors import from_array
from runtimes.wire import Frame, FrameReader
from runtimes.worker.calls import Answers, Calls
from runtimes.worker.connection import Connection

WAIT_S = 30
X = {"x": np.ones((1, 4), np.float32)}


class Front:
    """The front's end. It reads and answers when a test says so."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.connection = Connection(theirs)
        self.socket = ours
        ours.settimeout(WAIT_S)
        self._reader, self._frames = FrameReader(), list[Frame]()

    def receive(self) -> Frame:
        while not self._frames:
            self._frames += self._reader.feed(self.socket.recv(1 << 16))
        return self._frames.pop(0)

    def answer(self, number: int, final: bool = True) -> None:
        result = ResultFrame(0, 0, 0, 0, 1, [from_array("y", np.full(1, number, np.int64))], None, final)
        self._send(result_frames.pack_result([(number, result)], kind=wire.CALL_RESULT))

    def fail(self, number: int, kind: str) -> None:
        self._send([wire.pack_json(wire.CALL_ERROR, {"kind": kind, "message": "no"}, number)])

    def infer(self, request_id: int) -> None:
        self._send(wire.pack(wire.CANCEL, request_id))

    def _send(self, buffers: Any) -> None:
        self.socket.sendall(b"".join(bytes(part) for part in buffers))


@pytest.fixture
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.socket.close()
    made.connection.close()


@pytest.fixture
def calls() -> Calls:
    return Calls(1 << 20)


def number_in(frame: Frame) -> int:
    assert frame.kind == wire.CALL
    return unpack_call(frame.body)[0]


def test_a_call_waits_for_its_answer_and_keeps_other_frames(front: Front, calls: Calls) -> None:
    calls.parents = [(front.connection, [7])]
    with ThreadPoolExecutor(1) as pool, calls:
        asked = pool.submit(front.receive)
        answers = calls.begin(Call("m"), X)
        frame = asked.result(WAIT_S)
        assert frame.id == 7
        front.infer(8)
        front.answer(number_in(frame))
        found = answers.next()
        assert found is not None
        assert found["y"] == [number_in(frame)]
        assert answers.next() is None
    assert [(kept.kind, kept.id) for _, kept in calls.take_kept()] == [(wire.CANCEL, 8)]


def test_a_call_is_sent_again_for_the_next_request_if_a_client_leaves(front: Front, calls: Calls) -> None:
    calls.parents = [(front.connection, [7, 8])]
    with calls:
        answers = calls.begin(Call("m"), X)
        first = front.receive()
        front.fail(number_in(first), "cancelled")
        second = front.receive()
        assert (first.id, second.id) == (7, 8)
        front.answer(number_in(second))
        assert answers.next() is not None
        answers = calls.begin(Call("m"), X)
        for _ in range(2):
            front.fail(number_in(front.receive()), "cancelled")
        with pytest.raises(CallFailed) as failed:
            answers.next()
        assert failed.value.kind == "cancelled"


def test_an_error_ends_a_call_and_is_not_retried(front: Front, calls: Calls) -> None:
    calls.parents = [(front.connection, [7, 8])]
    with calls:
        answers = calls.begin(Call("m"), X)
        front.fail(number_in(front.receive()), "not_found")
        with pytest.raises(CallFailed, match="no") as failed:
            answers.next()
    assert (failed.value.kind, failed.value.model) == ("not_found", "m")


def test_further_calls_wait_until_one_has_ended(front: Front, calls: Calls) -> None:
    calls.parents = [(front.connection, [7])]
    with calls:
        begun = [calls.begin(Call("m"), X) for _ in range(MAX_CALLS + 2)]
        numbers = [number_in(front.receive()) for _ in range(MAX_CALLS)]
        begun.pop().cancel()  # one that was not sent
        front.answer(numbers[0])
        numbers.append(number_in(front.receive()))
        for number in numbers[1:]:
            front.answer(number)
        assert all(answers.next() is not None for answers in begun)


def test_answers_are_acknowledged_when_they_are_taken_and_cancelled_when_dropped(front: Front, calls: Calls) -> None:
    calls.parents = [(front.connection, [7])]
    with calls:
        answers = calls.begin(Call("m", takes_many=True), X)
        number = number_in(front.receive())
        front.answer(number, final=False)
        assert answers.next() is not None
        assert (front.receive().kind, number) == (wire.CALL_ACK, number)
        del answers
        frame = front.receive()
        assert (frame.kind, frame.id) == (wire.CALL_CANCEL, number)


def test_a_front_that_ends_fails_its_calls(front: Front, calls: Calls) -> None:
    calls.parents = [(front.connection, [7])]
    with calls:
        answers = calls.begin(Call("m"), X)
        front.receive()
        front.socket.close()
        with pytest.raises(CallFailed):
            answers.next()


def test_the_clock_stands_while_the_model_waits(front: Front, calls: Calls, tmp_path: Path) -> None:
    status_page.create(str(tmp_path / "page"))
    page = calls.status = StatusPage(str(tmp_path / "page"))
    page.set_busy([7], 100.0)
    calls.parents = [(front.connection, [7])]
    with calls:
        answers = calls.begin(Call("m"), X)
        with ThreadPoolExecutor(1) as pool:
            taken = pool.submit(answers.next)
            number = number_in(front.receive())
            while page.busy_since():
                pass  # until the thread waits
            assert page.running() == {7}
            front.answer(number)
            assert taken.result(WAIT_S) is not None
        assert page.busy_since() >= 100.0


def test_without_a_request_there_is_no_call(calls: Calls) -> None:
    with pytest.raises(CallFailed, match="only while it answers a request"):
        calls.begin(Call("m"), X)
    with calls, pytest.raises(CallFailed, match="only while it answers a request"):
        calls.begin(Call("m"), X)


@pytest.mark.parametrize("how", ["thread", "pool", "thread of a pool"])
def test_threads_call_for_the_request_that_has_started_them(
    front: Front, calls: Calls, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(threading.Thread, "start", threading.Thread.start)  # restored afterwards, whatever changes it
    monkeypatch.setattr(ThreadPoolExecutor, "submit", ThreadPoolExecutor.submit)
    calls.watch_threads()
    calls.in_progress = lambda: [(front.connection, number) for number in (7, 8, 9)]
    made: list[Answers] = []

    def call() -> None:
        made.append(calls.begin(Call("m"), X))

    def start() -> None:
        thread = threading.Thread(target=call)
        thread.start()
        thread.join(WAIT_S)

    def run(request_id: int) -> None:
        calls.adopt([(front.connection, [request_id])], None)
        if how == "thread":
            start()
        else:
            pool.submit(call if how == "pool" else start).result(WAIT_S)

    with ThreadPoolExecutor(1) as pool, ThreadPoolExecutor(1) as models:
        for number in (8, 9, 8, 7):
            models.submit(run, number).result(WAIT_S)
            calls.queue_unsent()
            front.connection.flush()
            assert front.receive().id == number


def test_the_loop_gets_its_connections_back_although_nothing_arrives(
    front: Front, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue_unsent = calls.queue_unsent

    def queue_when_the_model_has_ended() -> Any:
        while calls._is_running:
            with calls._changed:  # which the model releases when it waits for this thread
                pass
        return queue_unsent()

    def run() -> None:
        with calls:
            made.append(calls.begin(Call("m"), X))
            while not calls._is_transferring:
                pass

    made: list[Answers] = []
    monkeypatch.setattr(calls, "queue_unsent", queue_when_the_model_has_ended)
    calls.parents = [(front.connection, [7])]
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(WAIT_S)
    assert not thread.is_alive()


def test_a_call_over_another_connection_is_sent_at_once(
    front: Front, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, made = Front(), list[Answers]()
    queue_unsent = calls.queue_unsent

    def call_meanwhile() -> Any:
        if len(made) == 1:
            calls.adopt([(other.connection, [8])], None)
            made.append(calls.begin(Call("m"), X))
        return queue_unsent()

    monkeypatch.setattr(calls, "queue_unsent", call_meanwhile)
    calls.parents = [(front.connection, [7])]
    with calls:
        with calls._changed:  # so that nothing is transferred before it is in the list
            made.append(calls.begin(Call("m"), X))
        assert (front.receive().id, other.receive().id) == (7, 8)
    other.socket.close()
    other.connection.close()


def test_inputs_over_the_limit_are_refused(front: Front, calls: Calls) -> None:
    calls.parents = [(front.connection, [7])]
    with calls, pytest.raises(CallFailed, match="the limit is 1048576"):
        calls.begin(Call("m"), {"x": np.zeros((1 << 20) + 1, np.uint8)})
