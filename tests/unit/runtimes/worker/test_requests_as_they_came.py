"""A model with `takes_requests` gets its batch as a list of requests, in the worker's real loop."""

import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtimes import request_frames, result_frames, status_page, wire
from runtimes.context import pack_context
from runtimes.contract import InvalidInput, Model, Request, SequenceControl, Signature, TensorSpec
from runtimes.control import BatchingOptions, Reshapes
from runtimes.request_frames import InferFrame
from runtimes.status_page import StatusPage
from runtimes.tensors import Tensor, from_array, to_array
from runtimes.wire import FrameReader
from runtimes.worker.batching_decision import decide_batching
from runtimes.worker.connection import Connection
from runtimes.worker.execute import Executor
from runtimes.worker.facts import Facts
from runtimes.worker.loop import Loop
from runtimes.worker.reshape import reshaped

Outcome = dict[str, np.ndarray] | Exception


class Doubler(Model):
    """Answers with x + x. A request with the parameter `fail` gets the exception that `failures` has for it."""

    takes_requests = True

    def __init__(self) -> None:
        spec = (-1, 2)
        self.signatures = {"default": Signature((TensorSpec("x", "FP32", spec),), (TensorSpec("y", "FP32", spec),))}
        self.calls: list[list[Request]] = []
        self.failures: dict[str, Exception] = {"input": InvalidInput("no such thing"), "model": RuntimeError("secret")}

    def infer_requests(self, requests: Sequence[Request], signature: str) -> Sequence[Outcome]:
        self.calls.append(list(requests))
        if any(request.parameters.get("fail") == "all" for request in requests):
            raise RuntimeError("secret")
        return [
            self.failures.get(str(request.parameters.get("fail"))) or {"y": request.inputs["x"] * 2}
            for request in requests
        ]


class Front:
    """A loop with one connection to it; `turns` runs the loop until there are as many answers as requests."""

    def __init__(self, folder: Path, model: Model, max_rows: int = 8) -> None:
        status_page.create(str(folder / "status"))
        self.page = StatusPage(str(folder / "status"))
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / "socket"))
        listener.listen()
        decision = decide_batching(model, BatchingOptions(max_rows))
        executor = Executor(model, decision.batching, 1 << 20)
        facts = Facts(model.signatures, model.signatures, False, decision.batching, decision.reason, decision.note)
        self.control, theirs = socket.socketpair()
        self.loop = Loop(executor, listener, Connection(theirs), self.page, facts)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(folder / "socket"))
        self.socket.setblocking(False)
        self.reader = FrameReader()
        self.listener, self.theirs = listener, theirs

    def close(self) -> None:
        self.socket.close()
        self.control.close()
        self.loop.turn(0.0)
        self.loop.turn(0.0)
        self.listener.close()
        self.theirs.close()

    def ask(self, *frames: bytes, count: int) -> dict[int, Any]:
        """Return what each request was answered: the first number of y, or the kind of error and its message."""
        self.loop.turn(0.0)
        for frame in frames:
            self.socket.sendall(frame)
        answers: dict[int, Any] = {}
        for _ in range(20):
            self.loop.turn(0.0)
            try:
                received = self.socket.recv(1 << 20)
            except BlockingIOError:
                continue
            for frame in self.reader.feed(received):
                if frame.kind == wire.ERROR:
                    failure = wire.unpack_json(frame.body)
                    answers[frame.id] = failure["kind"], failure["message"]
                    continue
                for number, result in result_frames.unpack_result(frame.body, frame.flags):
                    answers[number] = float(to_array(result.outputs[0]).ravel()[0])
            if len(answers) == count:
                break
        return answers


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Callable[..., Front]]:
    made: list[Front] = []

    def make(model: Model, **options: Any) -> Front:
        made.append(Front(tmp_path, model, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def packed(*requests: tuple[int, np.ndarray, bytes]) -> bytes:
    frames = [
        (number, InferFrame(1e9, 0, "default", (), [from_array("x", array)], context=context))
        for number, array, context in requests
    ]
    return b"".join(bytes(part) for part in request_frames.pack_infer(frames))


def one(number: int, context: bytes = b"", rows: int = 1) -> tuple[int, np.ndarray, bytes]:
    return number, np.full((rows, 2), number, np.float32), context


def failing(number: int, how: str) -> tuple[int, np.ndarray, bytes]:
    return one(number, pack_context("", {"fail": how}, None))


def test_requests_of_one_frame_are_a_list_with_their_ids_parameters_and_sequences(
    front: Callable[..., Front],
) -> None:
    model = Doubler()
    sequence = SequenceControl("s", True, False)
    asked = packed(one(1, pack_context("first", {"k": 1}, sequence)), one(2), one(3, pack_context("third", {}, None)))
    assert front(model).ask(asked, count=3) == {1: 2.0, 2: 4.0, 3: 6.0}
    [requests] = model.calls
    assert [(each.id, each.parameters, each.sequence) for each in requests] == [
        ("first", {"k": 1}, sequence),
        ("", {}, None),
        ("third", {}, None),
    ]
    assert [each.inputs["x"].tolist() for each in requests] == [[[1.0, 1.0]], [[2.0, 2.0]], [[3.0, 3.0]]]
    assert requests[0].deadline == 1e9


def test_requests_of_different_sizes_share_a_call_up_to_the_limit_of_rows(front: Callable[..., Front]) -> None:
    model = Doubler()
    frames = [packed(one(number, rows=number)) for number in (1, 2, 3, 4)]
    assert front(model, max_rows=6).ask(*frames, count=4) == {1: 2.0, 2: 4.0, 3: 6.0, 4: 8.0}
    assert [[len(each.inputs["x"]) for each in call] for call in model.calls] == [[1, 2, 3], [4]]


def test_several_requests_fail_alone_among_others(front: Callable[..., Front]) -> None:
    model = Doubler()
    answers = front(model).ask(packed(one(1), failing(2, "input"), failing(3, "model"), one(4)), count=4)
    assert answers == {
        1: 2.0,
        2: ("invalid", "no such thing"),
        3: ("internal", "the model failed on this request; the gateway's log says why"),
        4: 8.0,
    }
    assert len(model.calls) == 1


def test_after_an_exception_about_all_each_runs_alone(front: Callable[..., Front]) -> None:
    model = Doubler()
    answers = front(model).ask(packed(one(1), failing(2, "all"), one(3)), count=3)
    assert (answers[1], answers[2][0], answers[3]) == (2.0, "internal", 6.0)
    assert [len(call) for call in model.calls] == [3, 1, 1, 1]


def test_a_number_of_answers_that_is_not_that_of_the_requests_is_a_failure(front: Callable[..., Front]) -> None:
    model = Doubler()
    model.infer_requests = lambda requests, signature: []  # type: ignore[method-assign]
    assert front(model).ask(packed(one(1)), count=1)[1][0] == "internal"


def test_bytes_that_do_not_fit_their_shape_fail_that_request_only(front: Callable[..., Front]) -> None:
    model = Doubler()
    model.signatures = {"default": Signature((TensorSpec("x", "BYTES", (-1, 1)),), (TensorSpec("y", "FP32", (-1,)),))}
    model.infer_requests = lambda requests, signature: [  # type: ignore[method-assign]
        {"y": np.array([len(request.inputs["x"][0, 0])], np.float32)} for request in requests
    ]
    good = from_array("x", np.array([[b"abc"]], object))
    bad = Tensor("x", "BYTES", (1, 1), b"\xff\xff\0\0abc")
    frames = [(number, InferFrame(1e9, 0, "default", (), [tensor])) for number, tensor in ((1, good), (2, bad))]
    answers = front(model).ask(b"".join(bytes(part) for part in request_frames.pack_infer(frames)), count=2)
    assert (answers[1], answers[2][0]) == (3.0, "invalid")


def test_a_reshape_applies_to_each_request() -> None:
    model = Doubler()
    inside = reshaped(model, Reshapes({"x": ((-1, 2, 1), (-1, 2))}, {"y": ((-1, 1, 2), (-1, 2))}))
    wrong, right = (Request({"x": np.ones(shape, np.float32)}) for shape in ((1, 3, 1), (1, 2, 1)))
    refused, answer = inside.infer_requests([wrong, right], "default")
    assert isinstance(refused, InvalidInput)
    assert isinstance(answer, dict)
    assert answer["y"].shape == (1, 1, 2)
    assert [len(call) for call in model.calls] == [1]


def test_infer_is_a_request_without_an_id() -> None:
    model = Doubler()
    assert model.infer({"x": np.ones((1, 2), np.float32)}, (), "default")["y"].tolist() == [[2.0, 2.0]]
    model.failures = {"None": InvalidInput("no")}
    with pytest.raises(InvalidInput, match="no"):
        model.infer({"x": np.ones((1, 2), np.float32)}, (), "default")
