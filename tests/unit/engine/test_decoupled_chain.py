"""Pipelines with several decoupled steps in a row, in a front: each answer of the first begins a stream of the next."""

import asyncio
import gc
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from gateway.domain.table import Table, TableEntry
from gateway.domain.traffic import Traffic
from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.engine.client import WorkerClient
from gateway.engine.pipeline_pass import Pass
from gateway.engine.pipeline_run import Run
from gateway.engine.pipeline_stream import Stream
from gateway.errors import Internal, Unavailable
from runtimes.layouts import TensorGroup, layout_of
from runtimes.result_frames import ResultGroup
from runtimes.tensors import from_array, to_array
from runtimes.wire import MAX_UNREAD_ANSWERS
from tests.unit.engine.test_decoupled_pipeline import D, StreamBench, Streaming
from tests.unit.engine.test_pipeline import B, model, run, step

E = model("e", "x", "y", decoupled=True)
F = model("f", "x", "y", decoupled=True)
STEPS = (step("e", "x=each", "y=inner"), step("d", "x=x", "y=each"))
TWO = model("p", "x", "inner each", steps=STEPS, decoupled=True)
BEHIND = model("p", "x", "z", steps=(*STEPS, step("b", "x=inner", "y=z")), decoupled=True)


class ChainBench(StreamBench):
    """`d`, `e` and `f` have workers; `tell` has one of them answer."""

    def __init__(self, *statuses: ModelStatus, **options: Any) -> None:
        super().__init__(*statuses, **options)
        self.workers = {"d": self.worker}
        for name in {each.name for each in statuses} & {"e", "f"}:
            self.workers[name] = Streaming()
            self.queue(name).clients.append(cast(WorkerClient, self.workers[name]))

    def tell(self, name: str, *values: float, final: bool = False) -> None:
        for value in values:
            self._result(name, False, value)
        if final:
            self._result(name, True)

    def _result(self, name: str, final: bool, *values: float) -> None:
        worker = self.workers[name]
        number = next(iter(worker.in_flight))
        outputs = [from_array("y", np.array([value])) for value in values]
        body = b"".join(bytes(each.data) + bytes(-len(each.data) % 16) for each in outputs)
        group = TensorGroup(layout_of("", (), outputs), [1], memoryview(body), 0)
        results = ResultGroup((number,), (1,), 1, 1, 1, 1, group, final, final)
        self.queue(name).on_results(cast(WorkerClient, worker), results)

    def asked(self, name: str) -> list[list[float]]:
        """The inputs of the requests that the model has."""
        requests = [each.request for each in self.workers[name].in_flight.values()]
        return [to_array(each.inputs[0]).tolist() for each in requests if each is not None]

    @property
    def pairs(self) -> list[tuple[float, float]]:
        return [(found["each"][0], found["inner"][0]) for found, final in self.found if not final]


def test_answers_multiply_and_keep_their_order() -> None:
    async def test() -> None:
        bench = ChainBench(D, E, TWO)
        handle = bench.ask()
        bench.tell("d", 1.0, 2.0, final=True)
        assert bench.asked("e") == [[1.0]]  # one stream after the other
        bench.tell("e", 10.0, 11.0)
        handle.acknowledge()
        assert (bench.worker.acknowledged, bench.workers["e"].acknowledged) == (0, 1)
        bench.tell("e", final=True)
        assert bench.asked("e") == [[2.0]]
        bench.tell("e", 20.0)
        assert bench.pairs == [(1.0, 10.0), (1.0, 11.0), (2.0, 20.0)]
        assert not bench.found[-1][1]
        bench.tell("e", final=True)
        assert [final for _, final in bench.found] == [False, False, False, True]
        assert bench.is_idle()

    run(test)


def test_the_first_model_may_go_on_when_the_client_has_read_all_that_became_of_an_answer() -> None:
    async def test() -> None:
        bench = ChainBench(D, E, TWO)
        handle = bench.ask()
        bench.tell("d", 1.0, 2.0, 3.0)
        bench.tell("e", 10.0, 11.0, final=True)
        bench.tell("e", final=True)  # nothing became of the second
        assert (bench.asked("e"), bench.worker.acknowledged) == ([[3.0]], 1)
        handle.acknowledge()
        assert bench.worker.acknowledged == 1
        handle.acknowledge()
        assert bench.worker.acknowledged == 2
        bench.tell("e", 30.0)
        handle.acknowledge()
        assert bench.worker.acknowledged == 2  # its stream may go on
        bench.tell("e", final=True)
        assert bench.worker.acknowledged == 3
        bench.tell("d", final=True)
        assert bench.is_idle()

    run(test)


def test_a_client_that_does_not_read_holds_back_streams_of_few_answers_too() -> None:
    """Each stream has fewer answers than its model may leave unread, but not all of them together."""

    async def test() -> None:
        bench = ChainBench(D, E, TWO)
        handle = bench.ask()
        bench.tell("d", *map(float, range(MAX_UNREAD_ANSWERS)))
        for _ in range(4):
            bench.tell("e", 1.0, 2.0, 3.0, 4.0, final=True)
        assert (len(bench.pairs), bench.asked("e")) == (MAX_UNREAD_ANSWERS, [])
        handle.acknowledge()
        assert bench.asked("e") == [[4.0]]
        handle.cancel()
        assert (bench.worker.cancelled, bench.workers["e"].cancelled) == (1, 1)

    run(test)


def test_steps_between_and_behind_them_run_for_their_answers() -> None:
    async def test() -> None:
        steps = (step("d", "x=x", "y=each"), step("b", "x=each", "y=m"), step("e", "x=m", "y=inner"),
                 step("f", "x=inner", "y=z"))  # fmt: skip
        bench = ChainBench(B, D, E, F, model("p", "x", "m z", steps=steps, decoupled=True))
        handle = bench.ask()
        bench.tell("d", 1.0, 2.0, final=True)
        bench.answer("b", y=[5.0])
        bench.tell("e", 6.0, 7.0, final=True)
        bench.tell("f", 60.0, final=True)
        bench.tell("f", 70.0, 71.0, final=True)
        bench.answer("b", y=[8.0])
        bench.tell("e", 9.0, final=True)
        bench.tell("f", 90.0, final=True)
        expected = [(5.0, 60.0), (5.0, 70.0), (5.0, 71.0), (8.0, 90.0)]
        assert bench.found == [*(({"m": [m], "z": [z]}, False) for m, z in expected), ({}, True)]
        assert (handle.settled, bench.is_idle()) == (True, True)

    run(test)


def test_the_last_steps_run_side_by_side_for_answers_of_one_stream() -> None:
    async def test() -> None:
        bench = ChainBench(B, D, E, BEHIND)
        bench.ask()
        bench.tell("d", 1.0, final=True)
        bench.tell("e", 10.0, 11.0, final=True)
        bench.answer("b", at=1, y=[2.0])
        bench.answer("b", y=[1.0])
        assert bench.found == [({"z": [1.0]}, False), ({"z": [2.0]}, False), ({}, True)]

    run(test)


@pytest.mark.parametrize(("failing", "number"), [("d", 2), ("e", 1)])
def test_an_error_comes_after_the_answers_before_and_names_its_step(failing: str, number: int) -> None:
    async def test() -> None:
        bench = ChainBench(B, D, E, BEHIND)
        bench.ask()
        bench.tell("d", 1.0)
        bench.tell("e", 10.0)
        worker = bench.workers[failing]
        (request,) = worker.in_flight
        bench.queue(failing).on_error(cast(WorkerClient, worker), request, Internal("it broke"))
        assert bench.outcomes == []
        bench.answer("b", y=[1.0])
        if failing == "d":
            assert len(bench.outcomes) == 1  # the stream of its answer goes on
            bench.tell("e", final=True)
        first, error = bench.outcomes
        assert isinstance(first, InferResponse)
        assert str(error) == f"pipeline 'p', step {number} (model {failing}): it broke"
        for name, each in bench.workers.items():
            assert each.cancelled == (name == "d" != failing)

    run(test)


def test_one_that_is_skipped_gives_one_answer() -> None:
    async def test() -> None:
        steps = (step("d", "x=x", "y=each"), step("e", "x=each", "y=inner", "flag"))
        bench = ChainBench(D, E, model("p", "x flag", "each inner", steps=steps, decoupled=True))
        bench.ask(x=[1.0], flag=[False])
        bench.tell("d", 1.0, 2.0, final=True)
        assert bench.found == [({"each": [1.0]}, False), ({"each": [2.0]}, False), ({}, True)]
        assert (bench.is_idle(), bench.worker.acknowledged) == (True, 0)

    run(test)


@pytest.mark.parametrize("ending", ["answered", "failed", "cancelled"])
def test_what_a_request_takes_is_freed_without_the_collector(ending: str) -> None:
    async def test() -> None:
        bench = ChainBench(B, D, E, BEHIND)
        handle = bench.ask()
        bench.tell("d", 1.0, 2.0)
        bench.tell("e", 10.0, final=True)
        bench.answer("b", y=[1.0])
        bench.tell("e", 20.0)
        if ending == "answered":
            bench.answer("b", y=[1.0])
            bench.tell("e", final=True)
            bench.tell("d", final=True)
        elif ending == "failed":
            bench.fail("b", Internal("no"))
        else:
            handle.cancel()
        assert handle.settled
        await asyncio.sleep(0)
        assert not [each for each in gc.get_objects() if isinstance(each, Run | Pass | Stream)]

    gc.collect()
    gc.disable()
    try:
        run(test)
    finally:
        gc.enable()


def test_versions_that_weights_choose_may_not_put_decoupled_steps_side_by_side() -> None:
    async def test() -> None:
        steps = (step("d", "x=x", "y=one"), step("b", "x=x", "y=other"))
        pipeline = model("p", "x", "one other", steps=steps, decoupled=True)
        bench = ChainBench(D, replace(B, decoupled=True), replace(B, version="2"), pipeline)
        entries = tuple(TableEntry(each) for each in bench.engine.models())
        bench.engine.apply(Table(entries, True, traffic={"b": Traffic({"1": 1})}))
        bench.engine.submit(InferRequest("p", [from_array("x", np.ones(1))]), bench.outcomes.append, takes_many=True)
        await asyncio.sleep(0)
        assert isinstance(bench.error, Unavailable)
        assert "weights choose for one of its steps is decoupled, and the newest is not" in str(bench.error)

    run(test)
