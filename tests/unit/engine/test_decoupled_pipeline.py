"""Pipelines with a decoupled step in a front: its answers go through the steps behind it, in order."""

import asyncio
import gc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from gateway.domain.table import Table, TableEntry, WorkerAddress
from gateway.domain.traffic import Traffic
from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.engine.client import WorkerClient
from gateway.engine.pipeline_pass import Pass
from gateway.engine.pipeline_run import Run
from gateway.errors import Internal, InvalidRequest, Unavailable, Unsupported
from runtimes.contract import Signature, TensorSpec
from runtimes.layouts import TensorGroup, layout_of
from runtimes.result_frames import ResultGroup
from runtimes.tensors import from_array, to_array
from runtimes.wire import MAX_UNREAD_BYTES
from tests.unit.engine.test_pipeline import A, B, Bench, C, Worker, arrays, model, run, step

D = model("d", "x", "y", decoupled=True)
FIRST, LAST = step("d", "x=x", "y=each"), step("b", "x=each", "y=z")
BEHIND = model("p", "x", "z", steps=(LAST, FIRST), decoupled=True)


class Streaming(Worker):
    """The worker of a decoupled model."""

    def __init__(self) -> None:
        super().__init__()
        self.acknowledged = self.cancelled = 0
        self.address = WorkerAddress(0, "", "", 1)

    def update(self, address: WorkerAddress | None) -> None:
        """It stays, whatever a table says."""

    def count_unread(self, number: int) -> bool:
        return True

    def acknowledge(self, number: int) -> None:
        self.acknowledged += 1

    def cancel(self, number: int) -> bool:
        self.cancelled += 1
        return True


class StreamBench(Bench):
    """`d` has a worker, which sends what a test says."""

    def __init__(self, *statuses: ModelStatus, **options: Any) -> None:
        super().__init__(*statuses, **options)
        self.worker = Streaming()
        self.queue("d").clients.append(cast(WorkerClient, self.worker))

    def ask(self, name: str = "p", outputs: Sequence[str] = (), **tensors: Any) -> Any:
        inputs = [from_array(key, np.asarray(value)) for key, value in (tensors or {"x": [1.0]}).items()]
        request = InferRequest(name, inputs, id="seven", outputs=outputs)
        return self.engine.submit(request, self.outcomes.append, takes_many=True)

    def send(self, final: bool = False, **tensors: Any) -> None:
        """One more answer of `d` to the first of its requests."""
        number = next(iter(self.worker.in_flight))
        outputs = [from_array(key, np.asarray(value)) for key, value in tensors.items()]
        body = b"".join(bytes(each.data) + bytes(-len(each.data) % 16) for each in outputs)
        group = TensorGroup(layout_of("", (), outputs), [1], memoryview(body), 0)
        results = ResultGroup((number,), (1,), 20, 300, 4000, 1, group, final, final)
        self.queue("d").on_results(cast(WorkerClient, self.worker), results)

    @property
    def found(self) -> list[tuple[dict[str, Any], bool]]:
        """Outputs of the answers so far, and whether each is final."""
        found = []
        for outcome in self.outcomes:
            assert isinstance(outcome, InferResponse), outcome
            found.append(({each.name: to_array(each).tolist() for each in outcome.outputs}, outcome.final))
        return found


def test_each_answer_goes_through_the_steps_behind_it_and_is_delivered_in_order() -> None:
    async def test() -> None:
        bench = StreamBench(B, D, BEHIND)
        handle = bench.ask()
        bench.send(y=[1.0])
        bench.send(y=[2.0])
        assert (bench.found, len(bench.waiting("b"))) == ([], 2)  # side by side
        assert arrays(bench.answer("b", at=1, z=[9.0], y=[20.0])) == {"x": [2.0]}
        assert bench.found == []  # it is the second
        bench.answer("b", y=[10.0])
        assert bench.found == [({"z": [10.0]}, False), ({"z": [20.0]}, False)]
        assert bench.worker.acknowledged == 0
        handle.acknowledge()
        assert bench.worker.acknowledged == 1
        bench.send(final=True)
        assert bench.found[2:] == [({}, True)]
        (response, *_) = bench.outcomes
        assert isinstance(response, InferResponse)
        assert (response.model, response.id) == ("p", "seven")
        assert bench.is_idle()
        figures = {each["model"]: each for each in bench.engine.snapshot()}
        assert [figures[name]["outcomes"] for name in "pdb"] == [{"success": 1}, {"success": 1}, {"success": 2}]
        assert figures["p"]["batches"] == {"1": [1, 60, 900, 12000]}

    run(test)


def test_the_last_step_may_be_the_decoupled_one() -> None:
    """The outputs of the steps before it are in each answer, and only those that the client wants."""

    async def test() -> None:
        steps = (step("b", "x=x", "y=before"), step("d", "x=before", "y=each"), step("a", "x=x", "y=beside"))
        bench = StreamBench(A, B, D, model("p", "x", "before each beside", steps=steps, decoupled=True))
        for outputs in ((), ("each",)):
            bench.ask(outputs=outputs)
            bench.answer("b", y=[7.0])
            bench.send(y=[1.0])
            bench.send(y=[2.0])
            assert bench.found == []  # a step beside it has not ended
            bench.answer("a", y=[8.0])
            bench.send(y=[3.0])
            bench.send(final=True)
            others = {} if outputs else {"before": [7.0], "beside": [8.0]}
            expected = [({**others, "each": [value]}, False) for value in (1.0, 2.0, 3.0)]
            assert bench.found == [*expected, ({}, True)]
            assert bench.is_idle()
            bench.outcomes.clear()

    run(test)


def test_a_step_behind_it_gets_tensors_of_steps_before_it_again_and_again() -> None:
    async def test() -> None:
        steps = (step("a", "x=x", "y=before"), FIRST, step("c", "p=each q=before", "r=z"))
        bench = StreamBench(A, C, D, model("p", "x", "z", steps=steps, decoupled=True))
        bench.ask()
        bench.answer("a", y=[5.0])
        for value in (1.0, 2.0):
            bench.send(y=[value])
            assert arrays(bench.answer("c", r=[value])) == {"p": [value], "q": [5.0]}
        bench.send(final=True)
        assert bench.found == [({"z": [1.0]}, False), ({"z": [2.0]}, False), ({}, True)]

    run(test)


def test_a_request_may_get_no_answer_but_the_end() -> None:
    async def test() -> None:
        bench = StreamBench(B, D, BEHIND)
        bench.ask()
        bench.send(final=True)
        assert (bench.found, bench.is_idle()) == ([({}, True)], True)

    run(test)


def test_an_answer_that_lacks_what_a_step_needs_is_delivered_without_its_output() -> None:
    async def test() -> None:
        steps = (step("d", "x=x", "y=each w=other"), step("b", "x=other", "y=z"))
        bench = StreamBench(
            B, model("d", "x", "y w", decoupled=True), model("p", "x", "each z", steps=steps, decoupled=True)
        )
        bench.ask(outputs=["each", "z"])
        bench.send(y=[1.0])
        assert (bench.found, bench.waiting("b")) == ([({"each": [1.0]}, False)], [])

    run(test)


@pytest.mark.parametrize(("flag", "expected"), [(True, [([1.0], False), ([2.0], False)]), (False, [([7.0], False)])])
def test_a_condition_chooses_between_it_and_a_step_with_one_answer(flag: bool, expected: list[Any]) -> None:
    async def test() -> None:
        steps = (step("d", "x=x", "y=out", "flag"), step("a", "x=x", "y=out", "not flag"), step("b", "x=out", "y=z"))
        bench = StreamBench(A, B, D, model("p", "x flag", "z", steps=steps, decoupled=True))
        bench.ask(x=[1.0], flag=[flag])
        if flag:
            bench.send(y=[1.0])
            bench.send(y=[2.0])
            bench.send(final=True)
        else:
            bench.answer("a", y=[7.0])
        for each in list(bench.waiting("b")):
            assert each.request is not None
            bench.answer("b", y=to_array(each.request.inputs[0]))
        assert bench.found == [*(({"z": value}, final) for value, final in expected), ({}, True)]
        assert bench.is_idle()

    run(test)


def test_a_step_behind_it_that_fails_ends_the_request_after_the_answers_before() -> None:
    async def test() -> None:
        bench = StreamBench(B, D, BEHIND)
        bench.ask()
        for value in (1.0, 2.0, 3.0):
            bench.send(y=[value])
        bench.waiting("b")[1].fail(InvalidRequest("no"))
        assert bench.outcomes == []
        bench.answer("b", y=[10.0])
        first, error = bench.outcomes
        assert (isinstance(first, InferResponse), str(error), type(error)) == (
            True, "pipeline 'p', step 1 (model b): no", InvalidRequest,
        )  # fmt: skip
        assert (bench.worker.cancelled, bench.waiting("b")) == (1, [])
        assert bench.engine.metrics.of("p", "1").outcomes == {"invalid": 1}

    run(test)


def test_an_unload_in_the_middle_names_the_pipeline_and_the_step() -> None:
    async def test() -> None:
        bench = StreamBench(B, D, BEHIND)
        bench.ask()
        bench.send(y=[1.0])
        bench.answer("b", y=[10.0])
        bench.apply(D, BEHIND)
        bench.send(y=[2.0])
        first, error = bench.outcomes
        assert isinstance(first, InferResponse)
        assert isinstance(error, Unavailable)
        assert str(error).startswith("pipeline 'p', step 1 (model b): Request for unknown model")

    run(test)


def test_a_failure_of_it_is_the_last_answer() -> None:
    async def test() -> None:
        bench = StreamBench(B, D, BEHIND)
        bench.ask()
        bench.send(y=[1.0])
        (number,) = bench.worker.in_flight
        bench.queue("d").on_error(cast(WorkerClient, bench.worker), number, Internal("it broke"))
        assert bench.outcomes == []
        bench.answer("b", y=[10.0])
        first, error = bench.outcomes
        assert (isinstance(first, InferResponse), str(error)) == (True, "pipeline 'p', step 2 (model d): it broke")
        assert bench.is_idle()

    run(test)


@pytest.mark.parametrize("answered", [False, True])
def test_a_client_that_leaves_ends_all_of_it(answered: bool) -> None:
    async def test() -> None:
        bench = StreamBench(B, D, BEHIND)
        handle = bench.ask()
        bench.send(y=[1.0])
        bench.send(y=[2.0])
        if answered:
            bench.answer("b", y=[10.0])
        before = list(bench.outcomes)
        handle.cancel()
        assert (bench.worker.cancelled, bench.waiting("b"), bench.outcomes) == (1, [], before)
        bench.send(y=[3.0])  # it was on its way
        bench.send(final=True)
        assert (bench.outcomes, bench.is_idle()) == (before, True)

    run(test)


def test_a_client_may_leave_while_it_gets_an_answer() -> None:
    async def test() -> None:
        bench = StreamBench(B, D, BEHIND)
        request, got = InferRequest("p", [from_array("x", np.ones(1))]), []

        def on_answer(outcome: InferResponse | Exception) -> None:
            got.append(outcome)
            handle.cancel()

        handle = bench.engine.submit(request, on_answer, takes_many=True)
        bench.send(y=[1.0])
        bench.send(y=[2.0])
        bench.answer("b", at=1, y=[20.0])
        bench.answer("b", y=[10.0])
        assert (len(got), bench.worker.cancelled) == (1, 1)
        bench.send(final=True)
        assert bench.is_idle()

    run(test)


def test_a_client_may_have_read_an_answer_at_once() -> None:
    """As events are over HTTP, when the system has room for them."""

    async def test() -> None:
        bench = StreamBench(B, D, BEHIND)
        request = InferRequest("p", [from_array("x", np.ones(1))])

        def on_answer(outcome: InferResponse | Exception) -> None:
            bench.outcomes.append(outcome)
            handle.acknowledge()

        handle = bench.engine.submit(request, on_answer, takes_many=True)
        for value in (1.0, 2.0, 3.0):
            bench.send(y=[value])
        bench.send(final=True)
        bench.answer("b", at=1, y=[20.0])
        bench.answer("b", at=1, y=[30.0])
        bench.answer("b", y=[10.0])
        assert bench.found == [*(({"z": [value]}, False) for value in (10.0, 20.0, 30.0)), ({}, True)]
        assert bench.is_idle()

    run(test)


def test_large_answers_wait_until_the_client_has_read_those_before() -> None:
    """The model is held back by what its own answers take; what the steps behind it make may be larger."""

    async def test() -> None:
        bench = StreamBench(B, D, BEHIND)
        handle = bench.ask()
        bench.send(y=[1.0])
        bench.answer("b", y=np.zeros(MAX_UNREAD_BYTES // 8))
        for value in (2.0, 3.0):
            bench.send(y=[value])
        bench.send(final=True)
        assert (len(bench.outcomes), bench.waiting("b")) == (1, [])
        handle.acknowledge()
        bench.answer("b", y=[20.0])
        bench.answer("b", y=[30.0])
        assert bench.found[1:] == [({"z": [20.0]}, False), ({"z": [30.0]}, False), ({}, True)]

    run(test)


def test_a_step_with_a_state_runs_for_one_answer_after_the_other() -> None:
    async def test() -> None:
        bench = StreamBench(model("b", "x", "y", stateful=True), D, BEHIND)
        bench.ask()
        for value in (1.0, 2.0):
            bench.send(y=[value])
        for value in (10.0, 20.0):
            assert len(bench.waiting("b")) == 1
            bench.answer("b", y=[value])
        bench.send(final=True)
        assert bench.found == [({"z": [10.0]}, False), ({"z": [20.0]}, False), ({}, True)]

    run(test)


def test_a_decoupled_pipeline_can_be_a_step() -> None:
    async def test() -> None:
        outer = model("outer", "x", "last", steps=(step("p", "x=x", "z=m"), step("a", "x=m", "y=last")), decoupled=True)
        bench = StreamBench(A, B, D, BEHIND, outer)
        handle = bench.ask("outer")
        for value in (1.0, 2.0):
            bench.send(y=[value])
            bench.answer("b", y=[10 * value])
            assert arrays(bench.answer("a", y=[100 * value])) == {"x": [10 * value]}
            handle.acknowledge()
        bench.send(final=True)
        assert bench.found == [({"last": [100.0]}, False), ({"last": [200.0]}, False), ({}, True)]
        assert (bench.worker.acknowledged, bench.is_idle()) == (2, True)

    run(test)


def test_it_is_refused_where_there_is_one_answer() -> None:
    async def test() -> None:
        bench = StreamBench(B, D, BEHIND)
        with pytest.raises(Unsupported, match="model 'p' is decoupled"):
            bench.submit("p", x=[1.0])
        assert bench.is_idle()

    run(test)


def test_the_limit_of_a_response_is_for_one_answer() -> None:
    async def test() -> None:
        bench = StreamBench(B, D, BEHIND, max_response_bytes=100)
        handle = bench.ask()
        for size in (12, 12, 13):
            bench.send(y=[1.0])
            bench.answer("b", y=np.zeros(size))
            handle.acknowledge()
        first, second, error = bench.outcomes
        assert isinstance(first, InferResponse)
        assert isinstance(second, InferResponse)
        assert str(error) == "the answer has 104 bytes and the limit is 100; ask for fewer outputs"

    run(test)


@pytest.mark.parametrize("ending", ["answered", "failed", "refused", "cancelled"])
def test_what_a_request_takes_is_freed_without_the_collector(ending: str) -> None:
    """Its tensors may be in memory that workers need."""

    async def test() -> None:
        one = Signature((TensorSpec("x", "FP64", (1,)),), (TensorSpec("y", "", None),))
        bench = StreamBench(replace(B, signatures={"default": one}), D, BEHIND)
        handle = bench.ask()
        bench.send(y=[1.0])
        bench.answer("b", y=[1.0])
        bench.send(y=[2.0])
        if ending == "answered":
            bench.answer("b", y=[2.0])
            bench.send(final=True)
        elif ending == "failed":
            bench.fail("b", Internal("no"))
        elif ending == "refused":
            bench.answer("b", y=[2.0])
            bench.send(y=[3.0, 4.0])  # which the next model does not take
        else:
            handle.cancel()
        assert handle.settled
        await asyncio.sleep(0)
        assert not [each for each in gc.get_objects() if isinstance(each, Run | Pass)]

    gc.collect()
    gc.disable()
    try:
        run(test)
    finally:
        gc.enable()


def test_requests_that_wait_start_when_an_answer_has_shown_what_they_take() -> None:
    async def test() -> None:
        bench = StreamBench(B, D, BEHIND)
        bench.worker.window = 99
        for _ in range(17):
            bench.ask()
        assert len(bench.worker.in_flight) == 16
        bench.send(y=[1.0])
        bench.answer("b", y=[1.0])
        assert len(bench.worker.in_flight) == 17

    run(test)


def test_requests_that_wait_do_not_run_as_a_pipeline_of_the_other_kind() -> None:
    """Else a client that takes one answer would get the empty one that ends a stream."""

    async def test() -> None:
        plain = model("p", "x", "z", steps=(step("b", "x=x", "y=z"),))
        bench = Bench(B, D, plain)
        for _ in range(17):
            bench.submit("p", x=[1.0])
        bench.apply(B, D, BEHIND)
        assert str(bench.error) == "model 'p' was loaded again; send the request again"
        assert isinstance(bench.error, Unavailable)
        bench.outcomes.clear()
        for _ in range(16):  # those that ran are not touched
            bench.answer("b", y=[3.0])
        assert [isinstance(each, InferResponse) and each.final for each in bench.outcomes] == [True] * 16

    run(test)


@pytest.mark.parametrize("newest", [False, True])
def test_weights_that_choose_a_version_of_the_other_kind_are_named_as_the_reason(newest: bool) -> None:
    async def test() -> None:
        older = replace(D, decoupled=not newest)
        bench = Bench(B, older, replace(D, version="2", decoupled=newest), replace(BEHIND, decoupled=newest))
        entries = tuple(TableEntry(each) for each in bench.engine.models())
        bench.engine.apply(Table(entries, True, traffic={"d": Traffic({"1": 1})}))
        bench.engine.submit(InferRequest("p", [from_array("x", np.ones(1))]), bench.outcomes.append, takes_many=True)
        assert (bench.waiting("d"), bench.outcomes) == ([], [])  # `submit` returns first
        await asyncio.sleep(0)
        assert str(bench.error) == (
            "model 'p' cannot run: the version that weights choose for one of its steps is "
            f"{'not decoupled, and the newest is' if newest else 'decoupled, and the newest is not'}; name the version "
            "in the step, or change the weights"
        )
        assert bench.is_idle()

    run(test)
