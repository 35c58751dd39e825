"""The worker's parts: what batching is settled on, what a run tells, what a socket gives."""

import socket
from typing import Any

import numpy as np
import pytest

from runtimes import wire
from runtimes.contract import InvalidInput, LoadError, Model, Signature, TensorSpec
from runtimes.wire import InferFrame, from_array
from runtimes.worker import probe
from runtimes.worker.batcher import Batcher, Batching
from runtimes.worker.connection import Connection
from runtimes.worker.execute import Executor, Failure
from runtimes.worker.start import _settle_batching, _without_paths


class Doubler(Model):
    """y = 2x; refuses 400; notes the rows of each run."""

    def __init__(self, rows: int = -1) -> None:
        self.signatures = {"s": Signature((TensorSpec("x", "FP32", (rows, 2)),), (TensorSpec("y", "FP32", (rows, 2)),))}
        self.seen: list[int] = []

    def infer(self, inputs: dict[str, np.ndarray], outputs: Any, signature: str) -> dict[str, np.ndarray]:
        self.seen.append(len(inputs["x"]))
        if (inputs["x"] == 400).any():
            raise InvalidInput("400 is not welcome")
        return {"y": inputs["x"] * 2}


def wanted(**changes: Any) -> dict[str, Any]:
    return {"max_rows": None, "dim": 0, "delay": 0.0, "target": 0.0, "sizes": [], "stateful": False, **changes}


def frame(*rows: float) -> InferFrame:
    return InferFrame(1e9, 0, "s", [], [from_array("x", np.array([[row] * 2 for row in rows], np.float32))])


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        (wanted(), probe.DEFAULT_MAX_ROWS),
        (wanted(max_rows=8), 8),
        (wanted(max_rows=0), 0),
        (wanted(stateful=True), 0),
        (wanted(sizes=[8, 2]), 8),
        (wanted(max_rows=32, sizes=[4, 8]), 8),
        (wanted(max_rows=3, sizes=[4, 8]), 3),
    ],
)
def test_batching_is_what_was_asked_for(asked: dict[str, Any], rows: int) -> None:
    assert _settle_batching(Doubler(), asked)[0].max_rows == rows


def test_a_fixed_batch_is_filled_up_when_its_size_is_declared() -> None:
    model = Doubler(rows=4)
    with pytest.raises(LoadError, match="no signature has a free dimension 0"):
        _settle_batching(model, wanted(max_rows=4))
    model.signatures = probe.with_free_rows(model.signatures, [4], 0)
    batching, _ = _settle_batching(model, wanted(sizes=[4]))
    batcher = Batcher(batching)
    batcher.add("front", 1, frame(1), False, 0.0)
    (outcome,) = Executor(model, batching, 1 << 20).run(batcher.next(0.0)[0])
    assert wire.to_array(outcome.outputs[0]).tolist() == [[2, 2]]
    assert model.seen == [4]


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (None, "the artifact does not tell the shape of 'x'; max_batch_size in model.toml turns it on"),
        ((), "'x' is a scalar; max_batch_size in model.toml turns it on"),
        ((4, 2), "the first dimension of 'x' is fixed; batch_sizes = [4] in model.toml fills batches up"),
    ],
)
def test_the_log_says_how_to_turn_batching_on(shape: tuple[int, ...] | None, said: str) -> None:
    model = Doubler()
    model.signatures = {"s": Signature((TensorSpec("x", "FP32", shape),), (TensorSpec("y", "FP32", shape),))}
    assert _settle_batching(model, wanted())[1] == "batching is off: " + said


def test_every_run_is_told_so_that_a_timeout_counts_for_each() -> None:
    batching = Batching(max_rows=8, signatures=frozenset({"s"}))
    batcher, executor, told = Batcher(batching), Executor(Doubler(), batching, 1 << 20), []
    executor.on_run = lambda batch: told.append([pending.id for pending in batch])
    for number, value in enumerate((1, 400, 3)):
        batcher.add("front", number, frame(value), False, 0.0)
    outcomes = executor.run(batcher.next(0.0)[0])
    assert told == [[0, 1, 2], [0], [1], [2]]
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


def test_reasons_hold_no_paths() -> None:
    said = "[Errno 2] No such file: '/srv/models/m/1/model.onnx', see /srv/doc"
    assert _without_paths(said) == "[Errno 2] No such file: 'model.onnx', see doc"
    assert _without_paths("expected 3/4 of 1/2, got a/b") == "expected 3/4 of 1/2, got a/b"
