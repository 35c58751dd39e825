"""Out of memory: a batch runs in smaller chunks, the size that fits is remembered, and the worker survives."""

from typing import Any

import numpy as np
import pytest

from runtimes.contract import DeviceLost, LoadOptions
from runtimes.fake.runtime import FakeModel
from runtimes.request_frames import InferFrame
from runtimes.tensors import from_array, to_array
from runtimes.worker.batcher import Batching
from runtimes.worker.execute import Executor, Failure, Outcome
from runtimes.worker.pending import Batch
from tests.support.pending_requests import batch_of


class Noting(FakeModel):
    """Records the rows of each run, including those that ran out of memory."""

    def __init__(self, **described: Any) -> None:
        super().__init__(described, LoadOptions(""))
        self.tried: list[int] = []

    def infer(self, inputs: dict[str, np.ndarray], outputs: Any, signature: str) -> dict[str, np.ndarray]:
        self.tried.append(len(inputs["x"]))
        return super().infer(inputs, outputs, signature)


def frame(rows: np.ndarray) -> InferFrame:
    return InferFrame(1e9, 0, "default", [], [from_array("x", rows)])


def batch(*requests: list[float]) -> Batch:
    """Return a request for each list, with a row for each number."""
    return batch_of(*[frame(np.array([[value] * 4 for value in values], np.float32)) for values in requests])


def executor(model: FakeModel, max_rows: int, sizes: tuple[int, ...] = ()) -> Executor:
    return Executor(model, Batching(max_rows, frozenset({"default"}), 0, 0.0, sizes), 1 << 20)


def first_column(outcome: Outcome) -> list[float]:
    assert not isinstance(outcome, Failure), outcome
    return [row[0] for row in to_array(outcome.outputs[0]).tolist()]


def test_a_batch_that_does_not_fit_runs_in_halves_and_the_size_is_remembered(capfd: pytest.CaptureFixture[str]) -> None:
    model = Noting(memory_rows=3)
    runs = executor(model, 8)
    for _ in range(2):
        outcomes = runs.run(batch([1, 2, 3], [4], [5, 6, 7, 8]))
        assert [first_column(each) for each in outcomes] == [[2, 4, 6], [8], [10, 12, 14, 16]]
    assert model.tried == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert capfd.readouterr().out.count("8 rows did not fit into memory; from now on, at most 2 rows") == 1


def test_a_request_larger_than_a_batch_is_cut_smaller_still() -> None:
    model = Noting(memory_rows=2)
    (outcome,) = executor(model, 4).run(batch([1, 2, 3, 4, 5, 6, 7, 8, 9]))
    assert first_column(outcome) == [2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert model.tried == [4, 2, 2, 2, 2, 1]


def test_declared_sizes_are_kept_to() -> None:
    model = Noting(memory_rows=2)
    runs = executor(model, 8, (2, 8))
    (outcome,) = runs.run(batch([1, 2, 3]))
    assert first_column(outcome) == [2, 4, 6]
    assert model.tried == [8, 2, 2]


def test_one_row_that_does_not_fit_fails_by_itself_and_nothing_is_remembered() -> None:
    model = Noting()
    runs = executor(model, 4)
    outcomes = runs.run(batch([1], [507], [3]))
    assert [isinstance(each, Failure) and each.kind for each in outcomes] == [False, "out_of_memory", False]
    model.tried.clear()
    runs.run(batch([1], [2], [3], [4]))
    assert model.tried == [4]


def test_what_is_remembered_holds_for_its_shape_only() -> None:
    model = Noting(memory_rows=1, inputs=[{"name": "x", "datatype": "FP32", "shape": [-1, -1]}])
    runs = executor(model, 2)
    runs.run(batch([1], [2]))
    model.tried.clear()
    runs.run(batch_of(*[frame(np.ones((1, 9), np.float32))] * 2))
    assert model.tried == [2, 1, 1]


def test_a_request_of_a_model_without_batches_fails_and_the_next_is_answered() -> None:
    runs = Executor(Noting(memory_rows=1), Batching(), 1 << 20)
    (failed,) = runs.run(batch([1, 2]).alone(is_batched=False)[0])
    assert isinstance(failed, Failure)
    assert failed.kind == "out_of_memory"
    assert first_column(runs.run(batch([1]).alone(is_batched=False)[0])[0]) == [2]


@pytest.mark.parametrize("when", ["start", "finish"])
def test_a_pipelined_batch_that_does_not_fit_runs_in_halves_too(when: str) -> None:
    class Pipelined(Noting):
        def start(self, inputs: dict[str, np.ndarray], outputs: Any, signature: str) -> Any:
            if when == "start" and len(inputs["x"]) > 2:
                raise MemoryError
            return super().start(inputs, outputs, signature)

    model = Pipelined(memory_rows=2, pipelined=True)
    runs = executor(model, 4)
    outcomes = runs.finish(runs.begin(batch([1, 2], [3, 4])))
    assert [first_column(each) for each in outcomes] == [[2, 4], [6, 8]]
    running = runs.begin(batch([1, 2]))
    assert running.started
    assert first_column(runs.finish(running)[0]) == [2, 4]
    assert not runs.begin(batch([1, 2, 3])).started


@pytest.mark.parametrize("pipelined", [True, False])
def test_a_lost_device_is_nobodys_failure(pipelined: bool) -> None:
    """The error leaves the worker's loop, so the worker is replaced and another one gets its requests."""

    class Lost(Noting):
        def infer(self, inputs: dict[str, np.ndarray], outputs: Any, signature: str) -> dict[str, np.ndarray]:
            raise DeviceLost("CUDA error: an illegal memory access was encountered")

    runs = executor(Lost(pipelined=pipelined), 4)
    with pytest.raises(DeviceLost):
        runs.finish(runs.begin(batch([1], [2])))
