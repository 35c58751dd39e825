"""Parts of the worker: the decision about batching, running batches, and sockets."""

import socket
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from runtimes import result_frames, wire
from runtimes.contract import BatchAnalysis, InvalidInput, LoadError, LoadOptions, Model, Signature, TensorSpec
from runtimes.control import BatchingOptions
from runtimes.fake.runtime import FakeModel
from runtimes.request_frames import InferFrame, RequestGroup
from runtimes.tensors import from_array, to_array
from runtimes.worker import probe
from runtimes.worker import results as sending
from runtimes.worker.batcher import Batcher, Batching
from runtimes.worker.batching_decision import DEFAULT_MAX_ROWS, decide_batching, with_free_rows
from runtimes.worker.connection import Connection
from runtimes.worker.execute import Executor, Failure
from runtimes.worker.results import send
from tests.support.pending_requests import add, batch_of, one_frame


class Doubler(Model):
    """Computes y = 2x, refuses 400, and records the rows of each run."""

    def __init__(self, rows: int = -1) -> None:
        self.signatures = {"s": Signature((TensorSpec("x", "FP32", (rows, 2)),), (TensorSpec("y", "FP32", (rows, 2)),))}
        self.seen: list[int] = []

    def infer(self, inputs: dict[str, np.ndarray], outputs: Any, signature: str) -> dict[str, np.ndarray]:
        self.seen.append(len(inputs["x"]))
        if (inputs["x"] == 400).any():
            raise InvalidInput("400 is not welcome")
        return {"y": inputs["x"] * 2}


def frame(*rows: float) -> InferFrame:
    return InferFrame(1e9, 0, "s", [], [from_array("x", np.array([[row] * 2 for row in rows], np.float32))])


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        (BatchingOptions(), DEFAULT_MAX_ROWS),
        (BatchingOptions(max_rows=8), 8),
        (BatchingOptions(max_rows=0), 0),
        (BatchingOptions(stateful=True), 0),
        (BatchingOptions(sizes=(8, 2)), 8),
        (BatchingOptions(max_rows=32, sizes=(4, 8)), 8),
        (BatchingOptions(max_rows=3, sizes=(4, 8)), 3),
    ],
)
def test_batching_is_what_was_asked_for(asked: BatchingOptions, rows: int) -> None:
    assert decide_batching(Doubler(), asked).batching.max_rows == rows


class Mixing(Doubler):
    def analyze_batch(self, signature: str) -> BatchAnalysis:
        return BatchAnalysis(mixes=("Sum 'total' adds all rows",))


def test_a_mere_limit_does_not_outrank_a_graph_that_mixes_rows() -> None:
    limit = BatchingOptions(max_rows=8, declares_batching=False)
    assert decide_batching(Doubler(), limit).batching.max_rows == 8
    mixing = decide_batching(Mixing(), limit)
    assert (mixing.batching.max_rows, mixing.reason) == (0, "graph")
    assert mixing.note.endswith("Sum 'total' adds all rows; dynamic_batching in config.pbtxt turns it on")
    declared = decide_batching(Mixing(), BatchingOptions(max_rows=8))
    assert (declared.batching.max_rows, declared.reason) == (8, "")


def test_what_another_worker_has_tried_is_not_tried_again() -> None:
    tried, spared, mixing = Doubler(), Doubler(), Mixing()
    first = decide_batching(tried, BatchingOptions())
    assert decide_batching(spared, BatchingOptions(proven=("s",))) == first
    assert len(tried.seen) > 0
    assert spared.seen == []
    assert decide_batching(mixing, BatchingOptions(proven=("s",))).reason == "graph"


class Limited(Doubler):
    def analyze_batch(self, signature: str) -> BatchAnalysis:
        return BatchAnalysis(max_rows=5)


def test_a_batch_has_no_more_rows_than_the_artifact_takes() -> None:
    for asked in BatchingOptions(), BatchingOptions(max_rows=8, declares_batching=False):
        assert decide_batching(Limited(), asked).batching.max_rows == 5
    assert decide_batching(Limited(), BatchingOptions(max_rows=4)).batching.max_rows == 4
    for asked in BatchingOptions(max_rows=8), BatchingOptions(sizes=(1, 8)):
        with pytest.raises(LoadError, match=r"is configured, but the artifact accepts at most 5 rows"):
            decide_batching(Limited(), asked)


def test_a_fixed_batch_is_filled_up_when_its_size_is_declared() -> None:
    model = Doubler(rows=4)
    with pytest.raises(LoadError, match="no signature has a free dimension 0"):
        decide_batching(model, BatchingOptions(max_rows=4))
    model.signatures = with_free_rows(model.signatures, [4], 0)
    batching = decide_batching(model, BatchingOptions(sizes=(4,))).batching
    batcher = Batcher(batching)
    add(batcher, "front", 1, frame(1), False, 0.0)
    (outcome,) = Executor(model, batching, 1 << 20).run(batcher.next(0.0)[0])
    assert to_array(outcome.outputs[0]).tolist() == [[2, 2]]
    assert model.seen[-1] == 4


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (None, "the artifact does not declare the shape of 'x'; max_batch_size in model.toml turns it on"),
        ((), "'x' is a scalar"),
        ((4, 2), "the first dimension of 'x' is fixed; batch_sizes = [4] in model.toml fills batches up"),
    ],
)
def test_the_log_says_how_to_turn_batching_on(shape: tuple[int, ...] | None, said: str) -> None:
    model = Doubler()
    model.signatures = {"s": Signature((TensorSpec("x", "FP32", shape),), (TensorSpec("y", "FP32", shape),))}
    assert decide_batching(model, BatchingOptions()).note == "batching is off: " + said


def test_every_run_is_reported_so_that_a_timeout_counts_for_each() -> None:
    batching = Batching(max_rows=8, signatures=frozenset({"s"}))
    batcher, executor, runs = Batcher(batching), Executor(Doubler(), batching, 1 << 20), []
    executor.on_run = lambda batch: runs.append([pending.id for pending in batch])
    for number, value in enumerate((1, 400, 3)):
        add(batcher, "front", number, frame(value), False, 0.0)
    outcomes = executor.run(batcher.next(0.0)[0])
    assert runs == [[0, 1, 2], [0], [1], [2]]
    assert [isinstance(outcome, Failure) for outcome in outcomes] == [False, True, False]


def test_a_large_request_does_not_need_a_turn_for_each_chunk() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        theirs.setblocking(False)
        reader = Connection(ours)
        small = wire.pack_json(wire.CANCEL, {}, 7)
        sent = theirs.send(small * 20_000)
        assert len(reader.receive()) == sent // len(small)


def test_answers_leave_in_order_whatever_their_sizes() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer = Connection(ours)
        parts = [b"a", b"", b"b" * 5000, b"", b"c", b"d" * 3, memoryview(b"e" * 9000), b""]
        writer.queue(parts[:3])
        writer.queue(parts[3:])
        assert writer.flush()
        assert writer.flush()
        ours.close()
        received = b"".join(iter(lambda: theirs.recv(1 << 16), b""))
    assert received == b"".join(parts)


def test_what_is_written_at_once_stays_behind_what_waits() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer = Connection(ours)
        parts = [b"a" * 1_000_000, b"b", b"c" * 1_000_000]
        received = b""
        for part in parts:
            writer.write(part)
        assert 0 < sum(map(len, writer.output)) < sum(map(len, parts))
        while not writer.flush():
            received += theirs.recv(1 << 20)
        assert not writer.output
        ours.close()
        received += b"".join(iter(lambda: theirs.recv(1 << 20), b""))
    assert received == b"".join(parts)


def test_a_front_that_has_gone_is_noticed_by_the_next_flush() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        writer = Connection(ours)
        writer.write(b"a")
        assert not writer.closed
        writer.flush()
        assert writer.closed


class Detector(Model):
    """Returns a row of `hits` for each number greater than 1."""

    def __init__(self) -> None:
        hits = TensorSpec("hits", "FP32", (-1, 1))
        self.signatures = {"s": Signature((TensorSpec("x", "FP32", (-1, 2)),), (hits,))}

    def infer(self, inputs: dict[str, np.ndarray], outputs: Any, signature: str) -> dict[str, np.ndarray]:
        return {"hits": inputs["x"][inputs["x"] > 1][:, np.newaxis]}


def answers(executor: Executor, *frames: InferFrame) -> list[Any]:
    batcher = Batcher(executor.batching)
    executor.on_batching_off = lambda reason, note: batcher.reconfigure(executor.batching)
    for number, each in enumerate(frames):
        add(batcher, "front", number, each, False, 0.0)
    outcomes = []
    while len(batcher):
        outcomes += executor.run(batcher.next(0.0)[0])
    return [to_array(outcome.outputs[0]).ravel().tolist() for outcome in outcomes]


@pytest.mark.parametrize("sizes", [(), (4,)])
def test_requests_run_again_alone_when_a_batch_comes_back_with_other_rows(sizes: tuple[int, ...]) -> None:
    executor = Executor(Detector(), Batching(4, frozenset({"s"}), sizes=sizes), 1 << 20)
    asked = [frame(2), frame(0, 0), frame(0), frame(3, 0), frame(*[1, 2] * 5)]
    for _ in range(2):
        assert answers(executor, *asked) == [[2, 2], [], [], [3, 3], [2] * 10]
        assert executor.batching.max_rows == 0


class WelcomingDetector(Detector):
    """Refuses 400."""

    def infer(self, inputs: dict[str, np.ndarray], outputs: Any, signature: str) -> dict[str, np.ndarray]:
        if (inputs["x"] == 400).any():
            raise InvalidInput("400 is not welcome")
        return super().infer(inputs, outputs, signature)


def test_a_request_that_ends_batching_does_not_hold_up_those_after_it() -> None:
    executor = Executor(WelcomingDetector(), Batching(8, frozenset({"s"})), 1 << 20)
    executor.on_batching_off = lambda reason, note: None
    outcomes = executor.run(batch_of(frame(2), frame(400), frame(3, 0)))  # the batch fails, so that each runs alone
    assert [isinstance(outcome, Failure) for outcome in outcomes] == [False, True, False]
    assert [to_array(outcomes[index].outputs[0]).ravel().tolist() for index in (0, 2)] == [[2, 2], [3, 3]]
    assert not executor.batching.max_rows


def test_a_batch_without_any_rows_back_is_no_answer_either() -> None:
    said: list[tuple[str, str]] = []
    executor = Executor(Detector(), Batching(4, frozenset({"s"})), 1 << 20)
    executor.on_batching_off = lambda reason, note: said.append((reason, note))
    batcher = Batcher(executor.batching)
    for number in range(2):
        add(batcher, "front", number, frame(0), False, 0.0)
    outcomes = executor.run(batcher.next(0.0)[0])
    assert [outcome.outputs[0].shape for outcome in outcomes] == [(0, 1), (0, 1)]
    assert said == [("rows", "batching is off: output 'hits' has shape [0, 1] for 2 rows")]


def test_a_pipelined_batch_that_was_under_way_runs_again_alone_too() -> None:
    model = FakeModel({"pipelined": True}, LoadOptions(""))
    executor = Executor(model, Batching(4, frozenset({"default"})), 1 << 20)
    batcher = Batcher(executor.batching)
    for number in range(2):
        request = InferFrame(1e9, 0, "default", [], [from_array("x", np.full((1, 4), number, np.float32))])
        add(batcher, "front", number, request, False, 0.0)
    running = executor.begin(batcher.next(0.0)[0])
    assert running.started
    executor.switch_batching_off("rows", "of the batch before it")
    assert [outcome.batch_rows for outcome in executor.finish(running)] == [1, 1]


@pytest.mark.parametrize(
    ("inputs", "outputs", "asked", "said"),
    [
        (
            (-1, 2),
            (4,),
            BatchingOptions(sizes=(4,)),
            "batch_sizes = .4. is configured, but the rows of output 'y' do not correspond",
        ),
        (
            (-1, 2),
            (4,),
            BatchingOptions(max_rows=8),
            "max_batch_size = 8 is configured, but output .y. has shape",
        ),
        ((4, 2), (4,), BatchingOptions(sizes=(4,)), "the rows of output 'y' do not correspond to those of the inputs"),
    ],
)
def test_a_declaration_is_refused_where_an_output_has_rows_of_its_own(
    inputs: tuple[int, ...], outputs: tuple[int, ...], asked: BatchingOptions, said: str
) -> None:
    model = Numbered(inputs, outputs)
    model.signatures = with_free_rows(model.signatures, asked.sizes, 0)
    with pytest.raises(LoadError, match=said):
        decide_batching(model, asked)


class Numbered(Model):
    """Returns the number of each class as `y`, whatever the input."""

    def __init__(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        self.signatures = {"s": Signature((TensorSpec("x", "FP32", inputs),), (TensorSpec("y", "FP32", outputs),))}

    def infer(self, inputs: dict[str, np.ndarray], outputs: Any, signature: str) -> dict[str, np.ndarray]:
        return {"y": np.array([10, 20, 30, 40], np.float32)}


class Turning(Doubler):
    """Returns the rows in reverse order."""

    def infer(self, inputs: dict[str, np.ndarray], outputs: Any, signature: str) -> dict[str, np.ndarray]:
        return {"y": inputs["x"][::-1]}


@pytest.mark.parametrize("rows", [3, 4])
def test_a_declaration_is_refused_where_rows_change_places(rows: int) -> None:
    model = Turning(rows=rows)
    model.signatures = with_free_rows(model.signatures, [rows], 0)
    with pytest.raises(LoadError, match="the rows of output 'y' do not correspond to those of the inputs"):
        decide_batching(model, BatchingOptions(sizes=(rows,)))


def test_what_would_be_wrong_is_not_advised() -> None:
    free, fixed = (
        decide_batching(Numbered((-1, 2), (4,)), BatchingOptions()),
        decide_batching(Numbered((4, 2), (4,)), BatchingOptions()),
    )
    assert free.note == "batching is off: the first dimension of 'y' is fixed"
    assert fixed.note == "batching is off: the first dimension of 'x' is fixed"


def test_an_output_that_turns_out_unservable_leaves_the_signature() -> None:
    incomplete = Signature((TensorSpec("x"),), (TensorSpec("y"), TensorSpec("z")))
    array = np.ones((1, 2), np.float32)
    found = probe.fill_gaps(incomplete, {"x": array}, {"y": array}, 0, {"z": "it is complex64"})
    assert found.outputs == (TensorSpec("y", "FP32", (-1, 2)),)
    assert found.refused == {"z": "it is complex64"}
    assert not probe.has_gaps(found)


def grouped(*each: Sequence[float], first_id: int = 0) -> RequestGroup:
    """Return requests as they are read from one frame."""
    return one_frame(*[(index, frame(*rows)) for index, rows in enumerate(each, first_id)])


@pytest.mark.parametrize("cancelled", [(), (0,), (1, 2), (3,)])
def test_requests_of_two_frames_and_gaps_get_their_own_rows(cancelled: tuple[int, ...]) -> None:
    batching = Batching(max_rows=16, signatures=frozenset({"s"}))
    batcher, executor = Batcher(batching), Executor(Doubler(), batching, 1 << 20)
    for source in ("a", "b"):
        batcher.add(source, grouped(*[[10 * index + len(source)] for index in range(4)]), False, 0.0)
        for number in cancelled:
            assert batcher.cancel(source, number)
    batch, _ = batcher.next(0.0)
    results = executor.run(batch)
    assert len(results) == len(batch) == 2 * (4 - len(cancelled))
    for pending, result in zip(batch, results, strict=True):
        assert (to_array(result.outputs[0]) == 2 * to_array(pending.frame.inputs[0])).all()
        assert result.layout == results[0].layout


def test_requests_of_different_numbers_of_rows_get_their_own_rows() -> None:
    batching = Batching(max_rows=16, signatures=frozenset({"s"}))
    batcher, executor = Batcher(batching), Executor(Doubler(), batching, 1 << 20)
    for rows in ([1.0], [2.0, 3.0], [4.0, 5.0]):
        batcher.add("front", grouped(rows), False, 0.0)
    batch, _ = batcher.next(0.0)
    results = executor.run(batch)
    assert [to_array(result.outputs[0])[:, 0].tolist() for result in results] == [[2], [4, 6], [8, 10]]
    assert [result.outputs[0].shape[0] for result in results[1:]] == [2, 2]


@pytest.mark.parametrize("limit", [1 << 16, 16])
def test_results_of_different_numbers_of_rows_share_frames(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "MAX_FRAME_BYTES", limit)
    batching = Batching(max_rows=16, signatures=frozenset({"s"}))
    batcher, executor, front = Batcher(batching), Executor(Doubler(), batching, 1 << 20), Outbox()
    sent = [[1.0], [2.0, 3.0], [4.0, 5.0], [6.0], [7.0]]
    for number, rows in enumerate(sent):
        batcher.add(front, grouped(rows, first_id=number), False, 0.0)
    batch, _ = batcher.next(0.0)
    send(batch, executor.run(batch))  # type: ignore[arg-type]
    frames = wire.FrameReader().feed(front.queued)
    assert (len(frames) == 1) == (limit > 16)
    received = [each for frame in frames for each in result_frames.unpack_result(frame.body, frame.flags)]
    assert [number for number, _ in received] == list(range(5))
    for (_, result), rows in zip(received, sent, strict=True):
        assert to_array(result.outputs[0])[:, 0].tolist() == [2 * row for row in rows]


def test_one_answer_of_a_batch_that_is_too_large_fails_alone() -> None:
    batching = Batching(max_rows=16, signatures=frozenset({"s"}))
    batcher, executor = Batcher(batching), Executor(Doubler(), batching, 8)
    for rows in ([1.0], [2.0, 3.0]):
        batcher.add("front", grouped(rows), False, 0.0)
    small, large = executor.run(batcher.next(0.0)[0])
    assert to_array(small.outputs[0])[:, 0].tolist() == [2]
    assert isinstance(large, Failure)
    assert "the limit is 8" in large.message


class Texts(Doubler):
    def infer(self, inputs: dict[str, np.ndarray], outputs: Any, signature: str) -> dict[str, np.ndarray]:
        texts = [str(int(row[0])) for row in inputs["x"]]
        return {"y": np.array(texts), "z": np.array(texts, dtype="S")}


def test_strings_of_fixed_width_are_split_by_rows() -> None:
    """In numpy, all strings of an array have the same width; in an answer, each has its own number of bytes."""
    batching = Batching(max_rows=16, signatures=frozenset({"s"}))
    batcher, executor = Batcher(batching), Executor(Texts(), batching, 1 << 20)
    for rows in ([1.0], [222.0], [33.0, 4.0]):
        batcher.add("front", grouped(rows), False, 0.0)
    results = executor.run(batcher.next(0.0)[0])
    for index in range(2):
        texts = [to_array(result.outputs[index]).tolist() for result in results]
        assert texts == [[b"1"], [b"222"], [b"33", b"4"]]


class Outbox:
    """A front's connection that keeps what is queued for it."""

    put_results = None

    def __init__(self) -> None:
        self.queued = b""

    def queue(self, buffers: Sequence[Any]) -> None:
        self.queued += b"".join(bytes(buffer) for buffer in buffers)


def test_each_front_gets_the_rows_of_its_own_requests() -> None:
    batching = Batching(max_rows=32, signatures=frozenset({"s"}))
    batcher, executor, fronts = Batcher(batching), Executor(Doubler(), batching, 1 << 20), [Outbox(), Outbox()]
    value = 0.0
    for turn in range(3):
        for number, front in enumerate(fronts):
            rows = [[value + 1], [value + 2], [value + 3, value + 4]]
            value += 4
            for index, each in enumerate(rows[: 2 + number]):
                batcher.add(front, grouped(each, first_id=10 * turn + index), False, 0.0)
    batch, _ = batcher.next(0.0)
    send(batch, executor.run(batch))  # type: ignore[arg-type]
    firsts = 0
    for front in fronts:
        asked = {pending.id: to_array(pending.frame.inputs[0]) for pending in batch if pending.source is front}
        for read in wire.FrameReader().feed(front.queued):
            firsts += bool(read.flags & wire.FIRST_OF_BATCH)
            for number, result in result_frames.unpack_result(read.body, read.flags):
                assert (to_array(result.outputs[0]) == 2 * asked.pop(number)).all()
                assert result.batch_rows == sum(pending.rows for pending in batch)
        assert not asked
    assert firsts == 1
