"""A worker's sequences: their order, their states and their controls, with a real executor and a model of numpy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtimes.context import pack_context
from runtimes.contract import DATATYPES, LoadError, Model, Request, SequenceControl, Signature, TensorSpec
from runtimes.control import BatchingOptions, ControlTensor, Load, SequenceOptions, SequenceState
from runtimes.fair_order import priority_of
from runtimes.request_frames import InferFrame, pack_infer, unpack_requests
from runtimes.tensors import from_array, to_array
from runtimes.worker.execute import Executor
from runtimes.worker.pending import Batch
from runtimes.worker.results import Failure
from runtimes.worker.sequence_batcher import SequenceBatcher, batcher_of
from runtimes.worker.sequence_model import Joined, SequenceModel, decide_sequence_batching, with_sequence_tensors

CONTROLS = tuple(ControlTensor(kind, kind.lower(), "INT32") for kind in ("START", "READY", "END"))
ID = ControlTensor("CORRID", "id", "INT64")
TOTAL = SequenceState("total", "new_total", "FP32", (1,), (1,))


class Adder(Model):
    """y = the sum of all x of a sequence. dim: the one that counts sequences in the state. x = 500 fails."""

    def __init__(self, options: SequenceOptions, rows: int = -1, dim: int = 0) -> None:
        total = (rows, 1) if dim == 0 else (1, rows)
        inputs = [TensorSpec("x", "FP32", (rows, 1))]
        inputs += [TensorSpec(each.input, each.datatype, (rows, 1)) for each in options.controls]
        inputs += [TensorSpec(each.input, each.datatype, total) for each in options.states]
        outputs = [TensorSpec("y", "FP32", (rows, 1))]
        outputs += [TensorSpec(each.output, each.datatype, total) for each in options.states]
        self.signatures = {"default": Signature(tuple(inputs), tuple(outputs))}
        self.seen: list[dict[str, Any]] = []
        self.dim = dim

    def infer(self, inputs: dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> dict[str, np.ndarray]:
        self.seen.append({name: array.ravel().tolist() for name, array in inputs.items()})
        if (inputs["x"] == 500).any():
            raise RuntimeError("no")
        state = inputs["total"] if self.dim == 0 else inputs["total"].T
        y = state + inputs["x"]
        return {"y": y, "new_total": y if self.dim == 0 else y.T}


class Keeper(Adder):
    """The same, with the sums in rows of its own. A row begins with START and changes with READY."""

    def __init__(self, options: SequenceOptions, rows: int = 4) -> None:
        super().__init__(options)
        self.sums = np.zeros((rows, 1), np.float32)

    def infer(self, inputs: dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> dict[str, np.ndarray]:
        self.seen.append({name: array.ravel().tolist() for name, array in inputs.items()})
        sums = self.sums[: len(inputs["x"])]
        sums[inputs["start"] != 0] = 0
        sums += inputs["x"] * inputs["ready"]
        return {"y": sums.copy()}


class Requests(Adder):
    """The same, of requests as they came."""

    takes_requests = True

    def infer_requests(self, requests: Sequence[Request], signature: str) -> list[Any]:
        return [Adder.infer(self, request.inputs, request.outputs, signature) for request in requests]


class Worker:
    """`run` answers all requests that can be; a request is (number, sequence, x, "start" or "end" or "")."""

    def __init__(self, model: Model, options: SequenceOptions, batching: BatchingOptions) -> None:
        load = Load("", "", "adder", sequence=options, batching=batching)
        joined = Joined(model, options, batching)
        self.decision = decide_sequence_batching(joined, batching, False)
        if isinstance(model, Adder):
            model.seen.clear()
        self.model = SequenceModel(joined, load, self.decision.batching)
        self.executor = Executor(self.model, self.decision.batching, 1 << 20)
        self.batcher: SequenceBatcher = batcher_of(self.model, self.decision.batching)
        self.answers: dict[int, Any] = {}
        self.batches: list[list[int]] = []
        self.shape = 1, 1

    def add(
        self, number: int, sequence: int | str, x: float, flags: str = "", now: float = 0.0, priority: int = 0
    ) -> None:
        control = SequenceControl(sequence, "start" in flags, "end" in flags)
        tensor = from_array("x", np.full(self.shape, x, np.float32))
        frame = InferFrame(100.0, priority, "default", (), [tensor], None, pack_context("", {}, control))
        buffers = pack_infer([(number, frame)])
        packed = b"".join(bytes(each) for each in buffers)
        self.batcher.add("front", unpack_requests(memoryview(packed)[24:], None, 4), False, now)

    def run(self, *requests: tuple[int, int | str, float, str], now: float = 0.0) -> dict[int, Any]:
        for each in requests:
            self.add(*each, now=now)
        self.answers = {}
        while True:
            for pending in self.batcher.take_expired(now):
                self.answers[pending.id] = "expired"
            for pending, failure in self.batcher.take_refused(now):
                self.answers[pending.id] = failure.message
            batch, _ = self.batcher.next(now)
            if batch is None:
                return self.answers
            self._answer(batch, now)

    def _answer(self, batch: Batch, now: float) -> None:
        outcomes = self.executor.run(batch)
        self.batcher.settle(batch, outcomes, now)
        self.batches.append(list(batch.ids))
        for number, outcome in zip(batch.ids, outcomes, strict=True):
            if isinstance(outcome, Failure):
                self.answers[number] = outcome.message
            else:
                assert [tensor.name for tensor in outcome.outputs] == ["y"]
                self.answers[number] = float(to_array(outcome.outputs[0]).ravel()[0])


def oldest(**changes: Any) -> SequenceOptions:
    return SequenceOptions("oldest", 10.0, states=(TOTAL,))._replace(**changes)


def worker(options: SequenceOptions, max_rows: int | None = 4, kind: type[Adder] = Adder, **of: Any) -> Worker:
    return Worker(kind(options, **of), options, BatchingOptions(max_rows))


@pytest.mark.parametrize(
    ("kind", "max_rows", "of"),
    [(Adder, 4, {}), (Adder, 0, {"rows": 1}), (Adder, 4, {"dim": 1}), (Requests, 4, {})],
)
def test_each_sequence_has_its_own_state(kind: type[Adder], max_rows: int, of: dict[str, Any]) -> None:
    options = oldest(states=(TOTAL._replace(dim=of.get("dim", 0)),))
    if not max_rows:
        options = oldest(states=(TOTAL._replace(shape=(1, 1), initial=(1, 1)),))
    served = worker(options, max_rows, kind, **of)
    assert [spec.name for spec in served.model.signatures["default"].inputs] == ["x"]
    assert [spec.name for spec in served.model.signatures["default"].outputs] == ["y"]
    assert served.run((1, 5, 1, "start"), (2, "5", 10, "start"), (3, 6, 100, "start")) == {1: 1, 2: 10, 3: 100}
    assert served.batches[0] == ([1, 2, 3] if max_rows else [1])
    assert served.run((4, 6, 1, ""), (5, 5, 1, "end"), (6, "5", 1, "")) == {4: 101, 5: 2, 6: 11}
    (answer,) = served.run((7, 5, 1, "")).values()
    assert "must specify the START flag on the first request of the sequence" in answer
    assert served.run((8, 6, 7, "start"), (9, "5", 2, "")) == {8: 7, 9: 13}  # a START resets a sequence


def test_two_requests_of_a_sequence_never_share_a_batch() -> None:
    served = worker(oldest())
    assert served.run((1, 1, 1, "start"), (2, 1, 2, ""), (3, 1, 3, "end"), (4, 1, 5, "start")) == {
        1: 1,
        2: 3,
        3: 6,
        4: 5,
    }
    assert served.batches == [[1], [2], [3], [4]]


def test_what_waits_is_ordered_by_priority_and_then_by_arrival_whoever_sent_it() -> None:
    served = worker(oldest(), max_rows=1)
    served.add(1, 1, 1, "start", priority=priority_of(2, 9))
    served.add(2, 2, 1, "start", priority=priority_of(2, 1))
    served.add(3, 3, 1, "start", priority=priority_of(1, 9))
    served.run()
    assert served.batches == [[3], [1], [2]]


def test_a_start_beyond_the_limit_waits_and_keeps_no_other_waiting() -> None:
    served = worker(oldest(max_sequences=1))
    assert served.run((1, 1, 1, "start"), (2, 2, 10, "start"), (3, 1, 1, "")) == {1: 1, 3: 2}
    batch, wait = served.batcher.next(4.0)
    assert batch is None
    assert wait == 6.0  # until the sequence is idle
    assert served.run((4, 1, 1, "end"), now=5.0) == {4: 3, 2: 10}
    assert served.run((5, 3, 1, "start"), now=15.0) == {5: 1}  # sequence 2 has been idle
    assert served.run((6, 4, 1, "start"), now=16.0) == {}
    assert served.run(now=100.0) == {6: "expired"}


def test_an_idle_sequence_ends() -> None:
    served = worker(oldest())
    served.run((1, 1, 1, "start"))
    assert served.run((2, 1, 1, ""), now=9.0) == {2: 2}
    assert "had no request for 10 s" in served.run((3, 1, 1, ""), now=19.0)[3]


def test_a_failed_request_changes_no_state() -> None:
    served = worker(oldest())
    served.run((1, 1, 1, "start"), (2, 2, 10, "start"))
    answers = served.run((3, 1, 500, ""), (4, 2, 1, ""), (5, 3, 500, "start"))
    assert "failed" in answers[3]
    assert "failed" in answers[5]
    assert answers[4] == 11  # once, although it ran with the others first
    answers = served.run((6, 1, 1, ""), (7, 2, 1, ""), (8, 3, 1, ""))
    assert (answers[6], answers[7]) == (2, 12)
    assert "START" in answers[8]


def test_a_cancelled_start_leaves_no_older_sequence() -> None:
    served = worker(oldest())
    served.run((1, 1, 1, "start"))
    served.add(2, 1, 5, "start")
    assert served.batcher.cancel("front", 2)
    assert "START" in served.run((3, 1, 1, ""))[3]


class Columns(Model):
    """y = x + total, whose columns are rows. It returns one column for several unless it has one."""

    def __init__(self) -> None:
        x, total, y, new = [TensorSpec(name, "FP32", (2, -1)) for name in ("x", "total", "y", "new_total")]
        self.signatures = {"default": Signature((x, total), (y, new))}

    def infer(self, inputs: dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> dict[str, np.ndarray]:
        assert inputs["total"].shape == inputs["x"].shape
        y = inputs["x"] + inputs["total"]
        return {"y": y[:, :1], "new_total": y}


@pytest.mark.parametrize("trial", [True, False], ids=["when it is loaded", "when it runs"])
def test_states_keep_their_dimension_if_batching_goes_off(trial: bool) -> None:
    options = oldest(states=(TOTAL._replace(shape=(2,), initial=(2,), dim=1),))
    served = Worker(Columns(), options, BatchingOptions(None if trial else 4, dim=1, trial=trial))
    assert bool(served.decision.batching.max_rows) is not trial
    served.shape = (2, 1)
    assert served.run((1, 1, 1, "start"), (2, 2, 10, "start")) == {1: 1, 2: 10}
    assert served.run((3, 1, 1, ""), (4, 2, 10, "")) == {3: 2, 4: 20}


def test_a_front_may_end_a_sequence_that_did_not_begin_anew() -> None:
    served = worker(oldest())
    assert served.run((1, 1, 5, "start"), (2, "1", 6, "start")) == {1: 5, 2: 6}
    served.batcher.end(1)
    served.batcher.end(2)
    answers = served.run((3, 1, 1, ""), (4, "1", 1, ""))
    assert (str(answers[3]).count("must specify the START flag"), answers[4]) == (1, 7)


def test_direct_slots_and_controls() -> None:
    options = SequenceOptions("direct", 10.0, controls=(*CONTROLS, ID))
    served = worker(options, kind=Keeper)
    keeper = served.model._model._model
    assert isinstance(keeper, Keeper)
    assert served.run((1, 7, 1, "start"), (2, 8, 2, "start"), (3, 9, 3, "start")) == {1: 1, 2: 2, 3: 3}
    assert served.run((4, 9, 1, "end")) == {4: 4}
    assert keeper.seen[-1] == {
        "x": [0, 0, 1], "start": [0, 0, 0], "ready": [0, 0, 1], "end": [0, 0, 1], "id": [0, 0, 9],
    }  # fmt: skip
    assert served.run((5, 7, 1, "end"), (6, 8, 1, "")) == {5: 2, 6: 3}
    assert served.run((7, 10, 1, "start")) == {7: 1}  # in the slot of 7
    assert keeper.seen[-1]["ready"] == [1, 0]
    starts = [(20 + each, 20 + each, 1.0, "start") for each in range(4)]
    assert served.run(*starts) == {20: 1, 21: 1}  # four rows
    assert served.run((30, 8, 1, "end")) == {30: 4, 22: 1}


def test_slots_are_padded_to_declared_sizes() -> None:
    options = SequenceOptions("direct", 10.0, controls=CONTROLS)
    served = Worker(Keeper(options), options, BatchingOptions(4, sizes=(2, 4)))
    assert served.run((1, 1, 1, "start"), (2, 2, 2, "start"), (3, 3, 3, "start")) == {1: 1, 2: 2, 3: 3}
    keeper = served.model._model._model
    assert isinstance(keeper, Keeper)
    assert keeper.seen[-1]["ready"] == [1, 1, 1, 0]
    assert served.run((4, 3, 1, "end"), (5, 1, 1, "")) == {4: 4, 5: 2}


class Small(Adder):
    """Has no memory for more than two rows."""

    def infer(self, inputs: dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> dict[str, np.ndarray]:
        if len(inputs["x"]) > 2:
            raise MemoryError
        return super().infer(inputs, outputs, signature)


@pytest.mark.parametrize("dim", [0, 1])
def test_a_batch_that_does_not_fit_into_memory_is_divided(dim: int) -> None:
    options = oldest(states=(TOTAL._replace(dim=dim),))
    served = worker(options, kind=Small, dim=dim)
    assert served.run(*[(each, each, each, "start") for each in range(1, 5)]) == {1: 1, 2: 2, 3: 3, 4: 4}
    assert served.run(*[(each, each, 1, "") for each in range(1, 5)]) == {1: 2, 2: 3, 3: 4, 4: 5}


@pytest.mark.parametrize(
    ("control", "sequence", "seen"),
    [("INT64", 5, [5]), ("BYTES", "a", [b"a"]), ("BYTES", 5, [b"5"]), ("INT64", "a", None), ("INT32", 1 << 40, None)],
)
def test_ids(control: str, sequence: int | str, seen: list[Any] | None) -> None:
    options = oldest(controls=(ControlTensor("CORRID", "id", control),))
    served = worker(options)
    answer = served.run((1, sequence, 1, "start"))[1]
    adder = served.model._model._model
    assert isinstance(adder, Adder)
    if seen is None:
        assert "the sequence's id" in answer
    else:
        assert (answer, adder.seen[-1]["id"]) == (1, seen)


class Grower(Adder):
    """Appends x to a state of any length, a number or a string; y is its length."""

    def infer(self, inputs: dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> dict[str, np.ndarray]:
        state = inputs["total"]
        added = np.concatenate([state, state[:, :1]], axis=1)
        return {"y": np.full((len(state), 1), added.shape[1], np.float32), "new_total": added}


@pytest.mark.parametrize("datatype", sorted(DATATYPES))
def test_states_of_every_datatype_and_of_sizes_that_vary(datatype: str) -> None:
    options = oldest(states=(SequenceState("total", "new_total", datatype, (-1,), (1,)),))
    served = Worker(Grower(options), options, BatchingOptions(4, trial=False))
    assert served.run((1, 1, 1, "start"), (2, 2, 1, "start")) == {1: 2, 2: 2}
    assert served.run((3, 1, 1, "")) == {3: 3}
    assert served.run((4, 1, 1, ""), (5, 2, 1, "")) == {4: 4, 5: 3}  # joined by shape
    assert served.model.sequences[1].states is not None
    assert served.model.sequences[1].states["total"].tolist() == [b"" if datatype == "BYTES" else 0] * 4


def test_initial_states_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "initial"
    file.write_bytes(np.float32(40).tobytes())
    options = oldest(states=(TOTAL._replace(file=str(file)),))
    assert worker(options).run((1, 1, 2, "start")) == {1: 42}
    file.write_bytes(b"123")
    with pytest.raises(LoadError, match="has 3 bytes, but FP32"):
        worker(options)


@pytest.mark.parametrize(
    ("options", "batching", "reason"),
    [
        (oldest(controls=(ControlTensor("END", "over", "INT32"),)), BatchingOptions(4), "names the input 'over'"),
        (oldest(states=(TOTAL._replace(output="z"),)), BatchingOptions(4), "names the output 'z'"),
        (oldest(states=(TOTAL._replace(shape=(1, 1, 1)),)), BatchingOptions(4), "declared with 3 sizes"),
    ],
)
def test_tensors_that_do_not_exist(options: SequenceOptions, batching: BatchingOptions, reason: str) -> None:
    with pytest.raises(LoadError, match=reason):
        Worker(Adder(oldest()), options, batching)


def test_declared_tensors_include_those_of_sequences() -> None:
    x, y = TensorSpec("x", "FP32", (-1, 1)), TensorSpec("y", "FP32", (-1, 1))
    load = with_sequence_tensors(Load("", "", inputs=(x,), outputs=(y,), sequence=oldest(controls=(ID,))))
    assert [spec.name for spec in load.inputs] == ["x", "id", "total"]
    assert [spec.name for spec in load.outputs] == ["y", "new_total"]
