"""The calls of a worker in the front, with a worker that sends what it likes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from gateway.domain.types import InferRequest, InferResponse
from gateway.engine.calls import Calls
from gateway.engine.protocol import AnswerCallback
from gateway.engine.servable import QueuedRequest
from gateway.errors import ModelportError, NotFound
from runtimes import result_frames, wire
from runtimes.calls import MAX_CALLS, pack_call, unpack_call
from runtimes.contract import Call, SequenceControl
from runtimes.layouts import layout_of
from runtimes.tensor_bytes import Tensor
from runtimes.tensors import from_array
from runtimes.wire import Frame, FrameReader

X = from_array("x", np.ones((1, 4), np.float32))
TEXTS = from_array("texts", np.array([b"a", b"", b"ccc"], object))
PARENT = 7
ANY = Call("m")
MAX_BYTES = 1 << 10


class Child:
    """A child request, as submit_child returns it."""

    def __init__(self, request: InferRequest, on_answer: AnswerCallback, takes_many: bool) -> None:
        self.request, self.on_answer, self.takes_many = request, on_answer, takes_many
        self.cancelled, self.acknowledged = False, 0

    def cancel(self) -> None:
        self.cancelled = True

    def acknowledge(self) -> None:
        self.acknowledged += 1

    def answer(self, final: bool = True) -> None:
        self.on_answer(InferResponse("m", "1", [X, TEXTS], final=final))


class Bench:
    def __init__(self) -> None:
        request = InferRequest("caller", [X])
        self.parent = QueuedRequest(PARENT, request, layout_of("", (), [X]), 1, 16, 1e9, 0.0, 0, None)
        self.children: list[Child] = []
        self.refusal: ModelportError | None = None
        self._written = bytearray()
        self.calls = Calls(self._submit, MAX_BYTES, {PARENT: self.parent}, self._write)

    def _submit(
        self, parent: QueuedRequest, request: InferRequest, on_answer: AnswerCallback, takes_many: bool = False
    ) -> Child:
        assert parent is self.parent
        if self.refusal is not None:
            raise self.refusal
        self.children.append(Child(request, on_answer, takes_many))
        return self.children[-1]

    def _write(self, buffers: Any) -> None:
        self._written += b"".join(bytes(part) for part in buffers)

    def call(self, number: int, call: Call = ANY, parent: int = PARENT, inputs: Sequence[Tensor] = (X,)) -> None:
        self.send(pack_call(parent, number, call, inputs))

    def send(self, buffers: Any) -> None:
        for frame in FrameReader().feed(b"".join(bytes(part) for part in buffers)):
            self.calls.on_frame(frame)

    def received(self) -> list[Frame]:
        """What the worker has received since the last time."""
        frames = FrameReader().feed(bytes(self._written))
        self._written = bytearray()
        return frames

    def errors(self) -> list[tuple[int, str]]:
        return [(frame.id, result_frames.unpack_failure(frame.body)[0]) for frame in self.received()]


def test_a_call_survives_its_frame() -> None:
    sequence = SequenceControl("s", True, False)
    call = Call("m", "2", ("y",), "id", {"a": 1.5, "b": True}, sequence, 3, 0.5, True)
    (frame,) = FrameReader().feed(b"".join(bytes(part) for part in pack_call(PARENT, 11, call, [X, TEXTS])))
    number, found, inputs = unpack_call(frame.body)
    assert (frame.kind, frame.id, number) == (wire.CALL, PARENT, 11)
    assert found == call
    assert [each._replace(data=bytes(each.data)) for each in inputs] == [
        each._replace(data=bytes(each.data)) for each in (X, TEXTS)
    ]


def test_answers_go_to_the_call() -> None:
    bench = Bench()
    bench.call(1)
    bench.call(2, Call("n", takes_many=True))
    first, second = bench.children
    assert (first.request.model, first.takes_many, second.request.model, second.takes_many) == ("m", False, "n", True)
    second.answer(final=False)
    first.answer()
    second.answer()
    frames = bench.received()
    assert [(frame.kind, frame.id, frame.flags) for frame in frames] == [
        (wire.CALL_RESULT, 2, 0),
        (wire.CALL_RESULT, 1, wire.FINAL),
        (wire.CALL_RESULT, 2, wire.FINAL),
    ]
    ((number, result),) = result_frames.unpack_result(frames[0].body, frames[0].flags)
    assert (number, [tensor.name for tensor in result.outputs]) == (2, ["x", "texts"])
    assert bytes(result.outputs[1].data) == bytes(TEXTS.data)
    assert not bench.calls


def test_what_is_refused_is_an_error_of_the_call() -> None:
    bench = Bench()
    bench.refusal = NotFound("no such model")
    bench.call(1)
    assert bench.errors() == [(1, "not_found")]
    assert not bench.calls


def test_only_requests_in_progress_can_have_calls() -> None:
    bench = Bench()
    bench.call(1, parent=PARENT + 1)
    bench.parent.request = None
    bench.call(2)
    assert bench.errors() == [(1, "cancelled"), (2, "cancelled")]
    assert not bench.children


def test_calls_end_with_their_request() -> None:
    bench = Bench()
    bench.call(1)
    bench.call(2)
    bench.calls.end_for(PARENT)
    assert sorted(bench.errors()) == [(1, "cancelled"), (2, "cancelled")]
    assert all(child.cancelled for child in bench.children)
    bench.children[0].answer()
    assert not bench.received()


def test_calls_are_cancelled_when_the_worker_has_gone() -> None:
    bench = Bench()
    bench.call(1)
    bench.calls.close()
    assert bench.children[0].cancelled


def test_a_flood_is_refused() -> None:
    bench = Bench()
    for number in range(MAX_CALLS + 10):
        bench.call(number)
    assert bench.errors() == [(MAX_CALLS + number, "overloaded") for number in range(10)]
    bench.children[0].answer()
    bench.call(1000)
    assert len(bench.children) == MAX_CALLS + 1


def test_the_bytes_of_all_calls_are_limited() -> None:
    bench = Bench()
    large = [from_array("x", np.zeros(MAX_BYTES, np.uint8))]
    for number in range(5):
        bench.call(number, inputs=large)
    assert bench.errors() == [(4, "overloaded")]
    bench.children[0].answer()
    bench.received()
    bench.call(5, inputs=large)
    assert not bench.received()


def test_acknowledgements_and_cancellation_reach_the_child() -> None:
    bench = Bench()
    bench.call(1, Call("m", takes_many=True))
    bench.send(wire.pack(wire.CALL_ACK, 1) + wire.pack(wire.CALL_ACK, 99) + wire.pack(wire.CALL_CANCEL, 98))
    (child,) = bench.children
    assert (child.acknowledged, child.cancelled) == (1, False)
    bench.send(wire.pack(wire.CALL_CANCEL, 1))
    assert child.cancelled
    assert not bench.received()
    assert not bench.calls


@pytest.mark.parametrize(
    "call",
    [
        Call("m", parameters={"a": []}),
        Call("m", parameters=[]),  # type: ignore[arg-type]
        Call("m", version=2),  # type: ignore[arg-type]
        Call("m\ud800"),
        Call("m", outputs="y"),
        Call("m", sequence=SequenceControl(1.5, True, False)),  # type: ignore[arg-type]
        Call("m", sequence=SequenceControl(1, 0, 0)),  # type: ignore[arg-type]
        Call("m", priority=-1),
        Call("m", timeout_s=float("nan")),
        Call("m", takes_many=1),  # type: ignore[arg-type]
    ],
)
def test_malformed_calls_end_the_connection(call: Call) -> None:
    with pytest.raises(wire.MALFORMED):
        Bench().call(1, call)


@pytest.mark.parametrize(
    "tensor", [from_array("x", np.zeros(MAX_BYTES + 1, np.uint8)), Tensor("x", "FP32", (1, 4), b"")]
)
def test_malformed_tensors_end_the_connection(tensor: Tensor) -> None:
    with pytest.raises(wire.MALFORMED):
        Bench().call(1, inputs=[tensor])


def test_a_number_in_use_and_bytes_that_are_no_call_end_the_connection() -> None:
    bench = Bench()
    bench.call(1)
    with pytest.raises(wire.MALFORMED):
        bench.call(1)
    frame = b"".join(bytes(part) for part in pack_call(PARENT, 2, ANY, [X]))[wire.HEADER.size :]
    for length in range(len(frame)):
        with pytest.raises(wire.MALFORMED):
            bench.send(wire.pack(wire.CALL, PARENT, [frame[:length]]))
