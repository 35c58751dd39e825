"""Requests of different rows and strings share frames, batches and results, and each gets the answer it gets alone."""

import itertools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.types import InferRequest, ModelStatus
from gateway.engine.frames import Frames
from gateway.engine.servable import QueuedRequest
from gateway.engine.validate import LayoutValidator
from runtimes import request_frames, result_frames, wire
from runtimes.contract import InvalidInput, Model, Signature, TensorSpec
from runtimes.tensors import Tensor, from_array, pack_bytes
from runtimes.worker import results as sending
from runtimes.worker.batcher import Batcher, Batching
from runtimes.worker.execute import Executor
from runtimes.worker.results import send

Arrays = dict[str, np.ndarray]
MAX_ROWS = 8
ANY = (-1, -1)


class Mixture(Model):
    """Answers numbers and strings with numbers and strings, one by one, and refuses 13. runs: how often it ran."""

    def __init__(self) -> None:
        inputs = TensorSpec("x", "FP32", ANY), TensorSpec("s", "BYTES", ANY)
        outputs = TensorSpec("y", "FP32", ANY), TensorSpec("t", "BYTES", ANY), TensorSpec("n", "BYTES", ANY)
        self.signatures = {"d": Signature(inputs, outputs)}
        self.runs = 0

    def infer(self, inputs: Arrays, outputs: Sequence[str], signature: str) -> Arrays:
        self.runs += 1
        if (inputs["x"] == 13).any():
            raise InvalidInput("13 is not welcome")
        texts = inputs["s"]
        flat = texts.ravel().tolist()
        reverse = np.empty(len(flat), dtype=object)
        reverse[:] = [text[::-1] for text in flat]
        lengths = np.array([str(len(text)) for text in flat], dtype="U4")  # of a fixed width in numpy, not in answers
        return {"y": 2 * inputs["x"], "t": reverse.reshape(texts.shape), "n": lengths.reshape(texts.shape)}


class Front:
    """A front's connection that keeps the answers by id: tensors, or a failure."""

    put_results = None

    def __init__(self) -> None:
        self.answers: dict[int, Any] = {}
        self.frames = 0

    def queue(self, buffers: Sequence[Any]) -> None:
        for frame in wire.FrameReader().feed(b"".join(bytes(buffer) for buffer in buffers)):
            self.frames += 1
            if frame.kind == wire.ERROR:
                self.answers[frame.id] = result_frames.unpack_failure(frame.body)[:2]
                continue
            for number, result in result_frames.unpack_result(frame.body, frame.flags):
                assert number not in self.answers
                self.answers[number] = [(*tensor[:3], bytes(tensor.data)) for tensor in result.outputs]


class Path:
    """The way of requests from a front's admission through a worker. dim: the dimension of their rows."""

    def __init__(self, dim: int, sizes: tuple[int, ...] = ()) -> None:
        self.model, self._ids = Mixture(), itertools.count()
        batching = Batching(MAX_ROWS, frozenset({"d"}), dim, sizes=sizes)
        self.batcher, self.executor = Batcher(batching), Executor(self.model, batching, 1 << 20)
        status = ModelStatus(
            "m", "1", "READY", signatures=self.model.signatures, max_batch_size=MAX_ROWS, batch_dim=dim
        )
        self.validator = LayoutValidator(status)

    def admit(self, request: InferRequest, priority: int = 0) -> QueuedRequest:
        rows, size, layout, _ = self.validator.check(request)
        buffers = [tensor.data for tensor in request.inputs]
        assert size == sum(map(len, buffers))
        admitted = SimpleNamespace(
            settled=False,
            id=next(self._ids),
            deadline=1e9,
            priority=priority,
            rows=rows,
            layout=layout,
            buffers=buffers,
            crashes=0,
            context=b"",
        )
        return cast(QueuedRequest, admitted)

    def receive(self, front: Front, requests: Sequence[QueuedRequest]) -> int:
        """Send requests to the worker, and return the number of frames."""
        frames = wire.FrameReader().feed(b"".join(bytes(buffer) for buffer in Frames().pack(requests)))
        for frame in frames:
            self.batcher.add(front, request_frames.unpack_requests(frame.body), False, 0.0)
        return len(frames)

    def run(self) -> None:
        """Run all batches."""
        while True:
            batch, _ = self.batcher.next(0.0)
            if batch is None:
                return
            send(batch, self.executor.run(batch))

    def alone(self, request: InferRequest) -> Any:
        """Return the answer of a request that shares nothing with others."""
        front, admitted = Front(), self.admit(request)
        self.receive(front, [admitted])
        self.run()
        return front.answers[admitted.id]


@st.composite
def requests(draw: st.DrawFn, dim: int) -> InferRequest:
    rows = draw(st.integers(1, MAX_ROWS + 3))
    arrays = []
    values = st.sampled_from([0.0, 1.5, -2.0]) if draw(st.integers(0, 9)) else st.just(13.0)
    for columns, dtype, elements in (
        (draw(st.integers(1, 2)), np.float32, values),
        (draw(st.sampled_from([0, 1, 1, 2])), object, st.binary(max_size=3) | st.just(b"x" * 300)),
    ):
        array = np.empty(rows * columns, dtype=dtype)
        array[:] = draw(st.lists(elements, min_size=len(array), max_size=len(array)))
        arrays.append(array.reshape((rows, columns) if dim == 0 else (columns, rows)))
    inputs = [from_array(name, array) for name, array in zip("xs", arrays, strict=True)]
    return InferRequest("m", inputs if draw(st.integers(0, 3)) else inputs[::-1])


@pytest.mark.parametrize(("dim", "sizes"), [(0, ()), (1, ()), (0, (3, 8))])
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_each_request_gets_what_it_gets_alone(dim: int, sizes: tuple[int, ...], data: st.DataObject) -> None:
    path, fronts = Path(dim, sizes), [Front(), Front()]
    sent: dict[int, tuple[Front, InferRequest]] = {}
    for front in data.draw(st.lists(st.sampled_from(fronts), max_size=4)):
        admitted = []
        for request in data.draw(st.lists(requests(dim), min_size=1, max_size=6)):
            admitted.append(path.admit(request, data.draw(st.sampled_from([0, 0, 0, 1]))))
            sent[admitted[-1].id] = front, request
        path.receive(front, admitted)
        for number in data.draw(st.lists(st.sampled_from([each.id for each in admitted]), max_size=1)):
            assert path.batcher.cancel(front, number)
            del sent[number]
        if data.draw(st.booleans()):
            path.run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sending, "MAX_FRAME_BYTES", data.draw(st.sampled_from([16, 1 << 16])))
        path.run()
    assert sum(len(front.answers) for front in fronts) == len(sent)
    for number, (front, request) in sent.items():
        assert front.answers[number] == path.alone(request)


def request_of(rows: int, texts: Sequence[bytes]) -> InferRequest:
    strings = np.empty((rows, len(texts) // rows), dtype=object)
    strings.ravel()[:] = texts
    return InferRequest("m", [from_array("x", np.full((rows, 2), rows, np.float32)), from_array("s", strings)])


def test_requests_that_differ_in_rows_and_strings_share_a_frame_each_way() -> None:
    path, front = Path(0), Front()
    given = [request_of(rows, [b"t" * (7 * index + rows)] * rows) for index, rows in enumerate((3, 1, 2, 1, 1))]
    assert path.receive(front, [path.admit(request) for request in given]) == 1
    path.run()
    assert (path.model.runs, front.frames) == (1, 1)
    assert [front.answers[number] for number in range(5)] == [path.alone(request) for request in given]


@pytest.mark.parametrize("apart", [False, True])
def test_strings_of_a_request_that_has_too_many_reach_no_other(apart: bool) -> None:
    """A front lets no such request pass; the worker does not rely on it."""
    path, front = Path(0), Front()
    given = [request_of(1, [b"%d" % number]) for number in range(4)]
    admitted = [path.admit(request) for request in given]
    many, few = (pack_bytes([b"m"] * count) for count in (2, 0))
    admitted[1].buffers, admitted[2].buffers = [given[1].inputs[0].data, many], [given[2].inputs[0].data, few]
    for requests in (admitted[:2], admitted[2:]) if apart else (admitted,):
        path.receive(front, requests)
    path.run()
    assert path.model.runs == 2
    for number in (0, 3):
        assert front.answers[number] == path.alone(given[number])
    assert [front.answers[number][0] for number in (1, 2)] == ["invalid", "invalid"]


def test_rows_in_another_dimension_share_a_frame_as_well() -> None:
    path, front = Path(1), Front()
    given = [
        InferRequest("m", [Tensor(each.name, each.datatype, each.shape[::-1], each.data) for each in request.inputs])
        for request in (request_of(rows, [b"a" * rows] * rows) for rows in (1, 3, 2))
    ]
    assert path.receive(front, [path.admit(request) for request in given]) == 1
    path.run()
    assert path.model.runs == 1
    assert [front.answers[number] for number in range(3)] == [path.alone(request) for request in given]


def test_requests_that_wait_run_as_they_are_when_batching_is_switched_off() -> None:
    path, front = Path(0), Front()
    given = [request_of(rows, [b"a" * rows] * rows) for rows in (1, 3, 2)]
    path.receive(front, [path.admit(request) for request in given])
    path.executor.on_batching_off = lambda reason, note: path.batcher.reconfigure(path.executor.batching)
    path.executor.switch_batching_off("audit", "of a test")
    batch, _ = path.batcher.next(0.0)
    assert batch is not None
    assert (batch.rows, batch[0].rows, batch[0].key) == (0, 0, None)
    send(batch, path.executor.run(batch))
    path.run()
    assert path.model.runs == 3
    assert [front.answers[number] for number in range(3)] == [path.alone(request) for request in given]
