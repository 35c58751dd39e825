"""Pipelines in a front: which steps run when, what becomes of their tensors and errors, and how they end."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from gateway.domain.identity import Identity
from gateway.domain.pipeline import Condition, Step
from gateway.domain.table import Table, TableEntry
from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.engine.admission import AdmissionLimits
from gateway.engine.admitted import AdmittedRequest
from gateway.engine.arenas import Arenas, open_arenas
from gateway.engine.client import WorkerClient
from gateway.engine.engine import FrontEngine
from gateway.engine.queue import ModelQueue
from gateway.engine.servable import QueuedRequest
from gateway.errors import (
    DeadlineExceeded,
    Internal,
    InvalidRequest,
    ModelportError,
    Overloaded,
    QuotaExceeded,
    TooLarge,
    Unavailable,
    prefixed,
)
from runtimes.context import unpack_context
from runtimes.contract import SequenceControl, Signature, TensorSpec
from runtimes.layouts import TensorGroup, layout_of
from runtimes.result_frames import ResultGroup
from runtimes.tensors import Tensor, from_array, to_array

Outcomes = list[InferResponse | Exception]


def signature(inputs: Sequence[str], outputs: Sequence[str], optional: Sequence[str] = ()) -> Signature:
    specs = [tuple(TensorSpec(name, "", None) for name in names) for names in (inputs, outputs)]
    return Signature(specs[0], specs[1], {}, tuple(optional))


def model(name: str, inputs: str, outputs: str, version: str = "1", **others: Any) -> ModelStatus:
    """`inputs`, `outputs`: names, separated by spaces. An input with a question mark is optional."""
    optional = [each[:-1] for each in inputs.split() if each.endswith("?")]
    signatures = {"default": signature(inputs.replace("?", "").split(), outputs.split(), optional)}
    return ModelStatus(name, version, "READY", admits=True, signatures=signatures, **others)


def step(name: str, inputs: str, outputs: str, when: str = "", version: str = "") -> Step:
    """`inputs`, `outputs`: MODEL'S=PIPELINE'S names, separated by spaces."""
    maps = [dict(each.split("=") for each in names.split()) for names in (inputs, outputs)]
    return Step(name, version, maps[0], maps[1], Condition.parse(when) if when else None)


A, B, C = model("a", "x", "y"), model("b", "x", "y"), model("c", "p q", "r")
CHAIN = model("chain", "x", "z", steps=(step("b", "x=m", "y=z"), step("a", "x=x", "y=m")))
DIAMOND = model(
    "diamond",
    "x",
    "out y1",
    steps=(step("a", "x=x", "y=y1"), step("b", "x=x", "y=y2"), step("c", "p=y1 q=y2", "r=out")),
)
SIDES = (step("a", "x=x", "y=out", "flag"), step("b", "x=x", "y=out", "not flag"), step("c", "p=out q=x", "r=last"))
SWITCH = model("switch", "x flag", "out last", steps=SIDES)
FLAGGED = model("flagged", "x flag", "m z", steps=(step("a", "x=x", "y=m", "flag"), step("b", "x=m", "y=z")))


class Bench:
    """An engine without workers: tests answer what waits in the queues of models."""

    def __init__(
        self,
        *statuses: ModelStatus,
        arenas: Arenas | None = None,
        limits: AdmissionLimits | None = None,
        **options: Any,
    ) -> None:
        self.engine = FrontEngine(1, limits or AdmissionLimits(), lambda *_: asyncio.sleep(0), arenas, **options)
        self.apply(*statuses)
        self.outcomes: Outcomes = []
        self.body = b""

    def apply(self, *statuses: ModelStatus) -> None:
        self.engine.apply(Table(tuple(TableEntry(each) for each in statuses), True))

    def queue(self, name: str, version: str = "1") -> ModelQueue:
        return self.engine.routes._queues[name, version]

    def waiting(self, name: str, version: str = "1") -> list[AdmittedRequest]:
        return [each for each in self.queue(name, version)._queued.items.values() if isinstance(each, AdmittedRequest)]

    def submit(self, name: str, outputs: Sequence[str] = (), **tensors: Any) -> AdmittedRequest:
        inputs = [from_array(key, np.asarray(value)) for key, value in tensors.items()]
        return self.engine.submit(InferRequest(name, inputs, id="seven", outputs=outputs), self.outcomes.append)

    def answer(
        self, name: str, /, infer_ns: int = 300, version: str = "1", at: int = 0, **tensors: Any
    ) -> InferRequest:
        """Answer the first request that waits for a model, or the one at another position, and return it."""
        queued = self.waiting(name, version)[at]
        request = queued.request
        assert request is not None
        outputs = [from_array(key, np.asarray(value)) for key, value in tensors.items()]
        layout = layout_of("", (), outputs)
        self.body = body = b"".join(bytes(each.data) + bytes(-len(each.data) % 16) for each in outputs)
        sizes = [[len(each.data)] for each in outputs if each.datatype == "BYTES"]
        group = TensorGroup(layout, [1], memoryview(body), 0, sizes)
        self.queue(name, version).release(queued)
        results = ResultGroup((queued.id,), (1,), 20, infer_ns, 4000, 1, group, True, True)
        queued.answer(results, 0)
        queued.servable.metrics.count_results(results, 1, queued.rows)
        return request

    def fail(self, name: str, error: ModelportError) -> None:
        self.waiting(name)[0].fail(error)

    @property
    def values(self) -> dict[str, Any]:
        """The outputs of the only answer."""
        (outcome,) = self.outcomes
        assert isinstance(outcome, InferResponse), outcome
        return {each.name: to_array(each).tolist() for each in outcome.outputs}

    @property
    def error(self) -> ModelportError:
        (outcome,) = self.outcomes
        assert isinstance(outcome, ModelportError), outcome
        return outcome

    def is_idle(self) -> bool:
        admission = self.engine.admission
        return not (admission.requests or admission.admitted_bytes or any(s.under_way for s in self.servables))

    @property
    def servables(self) -> list[Any]:
        return list(self.engine.routes.servables())


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def arrays(request: InferRequest) -> dict[str, Any]:
    return {each.name: to_array(each).tolist() for each in request.inputs}


def test_steps_run_in_the_order_of_their_tensors() -> None:
    async def test() -> None:
        bench = Bench(A, B, CHAIN)
        bench.submit("chain", x=[1.0])
        assert (len(bench.waiting("a")), len(bench.waiting("b"))) == (1, 0)
        first = bench.answer("a", y=[2, 3])
        assert (arrays(first), first.outputs, first.id) == ({"x": [1.0]}, ("y",), "seven")
        second = bench.answer("b", y=[[b"text"], [b""]])
        assert (arrays(second), second.inputs[0].datatype) == ({"x": [2, 3]}, "INT64")
        assert bench.values == {"z": [[b"text"], [b""]]}
        (response,) = bench.outcomes
        assert isinstance(response, InferResponse)
        assert (response.model, response.version, response.id, response.final) == ("chain", "1", "seven", True)
        assert bench.is_idle()

    run(test)


def test_steps_whose_inputs_are_ready_run_side_by_side() -> None:
    async def test() -> None:
        bench = Bench(A, B, C, DIAMOND)
        bench.submit("diamond", x=[1.0])
        assert (len(bench.waiting("a")), len(bench.waiting("b")), len(bench.waiting("c"))) == (1, 1, 0)
        bench.answer("b", y=[2.0])
        assert bench.waiting("c") == []
        bench.answer("a", y=[3.0])
        assert arrays(bench.answer("c", r=[4.0])) == {"p": [3.0], "q": [2.0]}
        assert bench.values == {"out": [4.0], "y1": [3.0]}  # outputs of two steps

    run(test)


def test_every_step_gets_the_parameters_and_the_sequence_of_the_request() -> None:
    async def test() -> None:
        bench = Bench(model("a", "x", "y", takes_context=True), model("b", "x", "y", takes_context=True), CHAIN)
        sequence = SequenceControl("five", True, False)
        inputs = [from_array("x", np.ones(1))]
        bench.engine.submit(InferRequest("chain", inputs, parameters={"k": 2}, sequence=sequence), [].append)
        (queued,) = bench.waiting("a")
        assert queued.request is not None
        assert (queued.request.parameters, queued.request.sequence) == ({"k": 2}, sequence)
        assert unpack_context(queued.context) == ("", {"k": 2}, sequence)
        bench.answer("a", y=[2.0])
        (queued,) = bench.waiting("b")
        assert unpack_context(queued.context) == ("", {"k": 2}, sequence)

    run(test)


def test_bytes_of_one_step_become_those_of_the_next_without_a_copy() -> None:
    async def test() -> None:
        bench = Bench(A, B, CHAIN)
        bench.submit("chain", x=[1.0])
        bench.answer("a", y=np.zeros(100))
        (queued,) = bench.waiting("b")
        (data,) = queued.buffers
        assert isinstance(data, memoryview)
        assert data.obj is bench.body

    run(test)


@pytest.mark.parametrize(("flag", "ran", "other"), [(True, "a", "b"), (False, "b", "a")])
def test_a_condition_chooses_between_two_steps(flag: bool, ran: str, other: str) -> None:
    async def test() -> None:
        bench = Bench(A, B, C, SWITCH)
        bench.submit("switch", x=[1.0], flag=[flag])
        assert bench.waiting(other) == []
        bench.answer(ran, y=[2.0])
        bench.answer("c", r=[3.0])
        assert bench.values == {"out": [2.0], "last": [3.0]}

    run(test)


def test_steps_that_need_what_was_skipped_are_skipped_too() -> None:
    async def test() -> None:
        bench = Bench(A, B, FLAGGED)
        bench.submit("flagged", x=[1.0], flag=[False])
        assert bench.outcomes == []  # `submit` returns before its request is answered
        await asyncio.sleep(0)
        assert bench.values == {}
        bench.outcomes.clear()
        bench.submit("flagged", ["z"], x=[1.0], flag=[False])
        await asyncio.sleep(0)
        assert str(bench.error) == "there is no output 'z', because the step that makes it was skipped"
        assert bench.error.status == 400
        assert bench.is_idle()
        assert bench.engine.metrics.of("flagged", "1").outcomes == {"success": 1, "invalid": 1}

    run(test)


def test_a_step_runs_without_an_input_that_its_model_can_do_without() -> None:
    async def test() -> None:
        last = step("c", "p=x q=m", "r=z")
        pipeline = model("p", "x flag extra?", "z", steps=(step("a", "x=extra", "y=m"), last))
        bench = Bench(A, model("c", "p q?", "r"), pipeline)
        bench.submit("p", x=[1.0], flag=[True])
        assert arrays(bench.answer("c", r=[2.0])) == {"p": [1.0]}
        assert bench.values == {"z": [2.0]}

    run(test)


@pytest.mark.parametrize("flag", [[1.0], [True, False], []])
def test_a_condition_is_one_bool(flag: list[Any]) -> None:
    async def test() -> None:
        bench = Bench(A, B, FLAGGED)
        bench.submit("flagged", x=[1.0], flag=flag)
        await asyncio.sleep(0)
        assert str(bench.error).startswith(
            "pipeline 'flagged', step 1 (model a): it runs only when 'flag', which must be BOOL with one element, "
        )
        assert bench.error.status == 400

    run(test)


def test_a_condition_that_a_step_makes() -> None:
    async def test() -> None:
        pipeline = model("p", "x", "z", steps=(step("a", "x=x", "y=flag"), step("b", "x=x", "y=z", "not flag")))
        bench = Bench(A, B, pipeline)
        bench.submit("p", x=[1.0])
        bench.answer("a", y=[False])
        bench.answer("b", y=[5])
        assert bench.values == {"z": [5]}
        bench.outcomes.clear()
        bench.submit("p", x=[1.0])
        bench.answer("a", y=[3])
        assert (bench.error.status, bench.is_idle()) == (500, True)

    run(test)


def test_two_steps_must_not_make_the_same_tensor() -> None:
    async def test() -> None:
        steps = (step("a", "x=x", "y=z", "one"), step("b", "x=x", "y=z", "two"))
        bench = Bench(A, B, model("p", "x one two", "z", steps=steps))
        bench.submit("p", x=[1.0], one=[True], two=[True])
        bench.answer("a", y=[1])
        bench.answer("b", y=[2])
        assert str(bench.error).startswith("pipeline 'p', step 2 (model b): another step has made tensor 'z' already")

    run(test)


@pytest.mark.parametrize(
    "error",
    [InvalidRequest("no"), Internal("no"), DeadlineExceeded("no"), Overloaded("no", 7), QuotaExceeded("no", "x", 9)],
)
def test_an_error_names_its_step_and_ends_the_others(error: ModelportError) -> None:
    async def test() -> None:
        bench = Bench(A, B, C, DIAMOND)
        bench.submit("diamond", x=[1.0])
        bench.fail("b", error)
        assert str(bench.error) == "pipeline 'diamond', step 2 (model b): no"
        assert (type(bench.error), bench.error.__dict__) == (type(error), error.__dict__)
        assert str(error) == "no"  # others may get the same error
        assert bench.is_idle()
        assert bench.engine.metrics.of("a", "1").outcomes == {"cancelled": 1}
        assert bench.engine.metrics.of("diamond", "1").outcomes == {error.kind: 1}

    run(test)


def test_a_step_that_cannot_be_sent_fails_the_request_after_submit() -> None:
    async def test() -> None:
        loading = ModelStatus("b", "1", "LOADING", signatures=B.signatures)
        bench = Bench(A, loading, C, DIAMOND)
        bench.submit("diamond", x=[1.0])
        assert bench.outcomes == []
        await asyncio.sleep(0)
        assert str(bench.error) == "pipeline 'diamond', step 2 (model b): model 'b' is LOADING: try again later"
        assert (bench.error.status, bench.is_idle()) == (503, True)

    run(test)


def test_a_tensor_that_does_not_fit_the_next_model_is_an_error_of_that_step() -> None:
    async def test() -> None:
        strict = {"default": Signature((TensorSpec("x", "FP32", (2,)),), (TensorSpec("y", "", None),))}
        bench = Bench(A, ModelStatus("b", "1", "READY", admits=True, signatures=strict), CHAIN)
        bench.submit("chain", x=[1.0])
        bench.answer("a", y=np.ones(3, np.float32))
        assert str(bench.error) == "pipeline 'chain', step 1 (model b): input 'x' has shape [3], expected [2]"
        assert bench.is_idle()

    run(test)


def test_a_pipeline_can_be_a_step() -> None:
    async def test() -> None:
        outer = model("outer", "x flag", "m z", steps=(
            step("flagged", "x=x flag=flag", "m=m z=n"), step("chain", "x=n", "z=z"),
        ))  # fmt: skip
        bench = Bench(A, B, CHAIN, FLAGGED, outer)
        bench.submit("outer", x=[1.0], flag=[True])
        bench.answer("a", y=[2.0])
        bench.answer("b", y=[3.0])
        bench.answer("a", y=[4.0])
        bench.fail("b", Internal("no"))
        assert str(bench.error) == "pipeline 'outer', step 2 (model chain): step 1 (model b): no"
        assert bench.is_idle()
        bench.outcomes.clear()
        bench.submit("outer", x=[1.0], flag=[False])  # no step of the inner pipeline runs, nor the one after it
        for _ in range(3):
            await asyncio.sleep(0)
        assert (bench.values, bench.is_idle()) == ({}, True)

    run(test)


def test_a_pipeline_that_contains_itself_is_refused() -> None:
    async def test() -> None:
        inner = model("inner", "x", "z", steps=(step("outer", "x=x", "z=z"),))
        outer = model("outer", "x", "z", steps=(step("inner", "x=x", "z=z"),))
        bench = Bench(inner, outer)
        bench.submit("outer", x=[1.0])
        for _ in range(4):
            await asyncio.sleep(0)
        assert str(bench.error).startswith(
            "pipeline 'outer', step 1 (model inner): step 1 (model outer): model 'outer' would call itself "
            "(outer → inner → outer)"
        )
        assert bench.is_idle()

    run(test)


def test_metrics_of_a_pipeline_are_sums_of_its_steps() -> None:
    async def test() -> None:
        bench = Bench(A, B, CHAIN)
        for _ in range(2):
            bench.submit("chain", x=[1.0])
            bench.answer("a", y=[2.0])
            bench.answer("b", y=[3.0])
        figures = {each["model"]: each for each in bench.engine.snapshot()}
        chain = figures["chain"]
        assert chain["outcomes"] == figures["a"]["outcomes"] == {"success": 2}
        assert (chain["executions"], chain["rows"], chain["in_flight"]) == (2, 2, 0)
        assert chain["batches"] == {"1": [2, 80, 1200, 16000]}
        assert chain["queue"]["total"] == 0
        assert chain["succeeded_s"] > 0

    run(test)


class Worker:
    """A connection to a worker that answers when a test says so."""

    window, rows_in_flight, retiring = 9, 0, False

    def __init__(self) -> None:
        self.in_flight: dict[int, QueuedRequest] = {}

    def has_room(self, rows: int) -> bool:
        return True

    def send(self, queued: QueuedRequest) -> None:
        self.in_flight[queued.id] = queued

    def complete(self, numbers: Sequence[int]) -> list[tuple[int, QueuedRequest]]:
        return [(index, self.in_flight.pop(number)) for index, number in enumerate(numbers)]


def test_the_compute_time_of_each_step_is_charged_once() -> None:
    async def test() -> None:
        bench = Bench(A, B, CHAIN)
        identity = Identity("alice", (), usage=bench.engine.usages.of("alice"))
        workers = {name: cast(WorkerClient, Worker()) for name in ("a", "b")}
        for name, worker in workers.items():
            bench.queue(name).clients.append(worker)
        request = InferRequest("chain", [from_array("x", np.ones(1))])
        bench.engine.submit(request, bench.outcomes.append, identity)
        tensor = from_array("y", np.ones(1))
        outputs = TensorGroup(layout_of("", (), [tensor]), [1], memoryview(tensor.data), 0)
        for name, worker in workers.items():
            (number,) = worker.in_flight
            bench.queue(name).on_results(worker, ResultGroup((number,), (1,), 0, 1, 0, 1, outputs))
        assert bench.values == {"z": [1.0]}
        (counts,) = bench.engine.usages.snapshot()
        assert (round(counts["compute_s"] * 1e9, 3), counts["requests"]) == (2, 1)
        assert (bench.engine.usages.of("alice").requests, bench.is_idle()) == (0, True)

    run(test)


def test_impossible_durations_of_hostile_workers_do_no_harm() -> None:
    async def test() -> None:
        bench = Bench(A, B, CHAIN)
        bench.submit("chain", x=[1.0])
        for name in ("a", "b"):
            bench.answer(name, (1 << 64) - 1, y=[2.0])
        chain = next(each for each in bench.engine.snapshot() if each["model"] == "chain")
        assert chain["outcomes"] == {"success": 1}

    run(test)


def test_cancelling_a_pipeline_cancels_its_steps() -> None:
    async def test() -> None:
        bench = Bench(A, B, C, DIAMOND)
        handle = bench.submit("diamond", x=[1.0])
        handle.cancel()
        assert (bench.outcomes, bench.is_idle()) == ([], True)
        handle = bench.submit("diamond", x=[1.0])
        handle.fail(DeadlineExceeded("late"))
        assert bench.is_idle()

    run(test)


def test_a_pipeline_ends_at_its_deadline() -> None:
    async def test() -> None:
        bench = Bench(A, B, CHAIN)
        expired: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        tensor = from_array("x", np.ones(1))
        bench.engine.submit(InferRequest("chain", [tensor], deadline=time.monotonic() + 0.02), expired.set_result)
        (queued,) = bench.waiting("a")
        assert isinstance(await expired, DeadlineExceeded)
        assert (queued.settled, bench.is_idle()) == (True, True)

    run(test)


def test_steps_follow_versions_while_requests_run() -> None:
    async def test() -> None:
        bench = Bench(A, B, CHAIN)
        bench.submit("chain", x=[1.0])
        bench.apply(A, model("b", "x", "y", "2"), CHAIN)
        bench.answer("a", y=[2.0])
        bench.answer("b", version="2", y=[3.0])
        assert bench.values == {"z": [3.0]}

    run(test)


def test_a_step_that_was_unloaded_fails_with_its_name_and_a_pipeline_that_was_ends_its_requests() -> None:
    async def test() -> None:
        bench = Bench(A, B, CHAIN)
        bench.submit("chain", x=[1.0])
        bench.apply(A, CHAIN)
        bench.answer("a", y=[2.0])
        assert str(bench.error).startswith("pipeline 'chain', step 1 (model b): Request for unknown model: there is")
        assert isinstance(bench.error, Unavailable)
        bench.apply(A, B, CHAIN)
        bench.outcomes.clear()
        bench.submit("chain", x=[1.0])
        bench.apply(A, B)
        assert len(bench.servables) == 3  # until its last request has ended
        bench.answer("a", y=[2.0])
        bench.answer("b", y=[3.0])
        assert bench.values == {"z": [3.0]}
        assert len(bench.servables) == 2

    run(test)


def test_a_version_may_become_a_pipeline_and_cease_to_be_one() -> None:
    async def test() -> None:
        bench = Bench(A, B, model("chain", "x", "z"))
        bench.submit("chain", x=[1.0])
        bench.apply(A, B, CHAIN)  # the request that waited for a worker gets none any more
        assert isinstance(bench.error, Unavailable)
        bench.outcomes.clear()
        bench.submit("chain", x=[1.0])
        bench.apply(A, B, model("chain", "x", "z"))
        bench.answer("a", y=[2.0])
        bench.answer("b", y=[3.0])
        assert bench.values == {"z": [3.0]}
        bench.submit("chain", x=[1.0])
        assert len(bench.waiting("chain")) == 1

    run(test)


def test_draining_waits_for_pipelines_and_then_fails_them() -> None:
    async def test() -> None:
        bench = Bench(A, B, CHAIN)
        bench.submit("chain", x=[1.0])
        draining = asyncio.create_task(bench.engine.drain(60.0))
        await asyncio.sleep(0)
        bench.answer("a", y=[2.0])
        bench.answer("b", y=[3.0])
        await draining
        assert bench.values == {"z": [3.0]}
        bench.engine.draining = False
        bench.outcomes.clear()
        bench.submit("chain", x=[1.0])
        await bench.engine.drain(0.0)
        assert isinstance(bench.error, Unavailable)
        assert str(bench.error) == "the gateway stopped before the model answered"
        assert bench.is_idle()

    run(test)


def test_tensors_are_freed_when_no_step_needs_them() -> None:
    async def test() -> None:
        bench = Bench(A, B, CHAIN)
        queued = bench.submit("chain", x=[1.0])
        bench.answer("a", y=[2.0])
        (pipeline,) = (each for each in bench.servables if each.status.name == "chain")
        kept: dict[str, Tensor | None] = pipeline._runs[queued.id]._first._tensors
        assert kept == {"x": None, "m": None}
        queued.cancel()

    run(test)


def test_a_step_without_inputs_runs() -> None:
    async def test() -> None:
        specs = Signature((), (TensorSpec("y", "INT64", (-1, 1)),))
        source = ModelStatus("source", "1", "READY", admits=True, signatures={"default": specs}, max_batch_size=4)
        bench = Bench(source, model("p", "x", "z", steps=(step("source", "", "y=z"),)))
        bench.submit("p", x=[1.0])
        bench.answer("source", y=[[7]])
        assert bench.values == {"z": [[7]]}

    run(test)


def test_only_as_many_requests_run_as_their_tensors_have_room_for() -> None:
    async def test() -> None:
        bench = Bench(A, B, CHAIN, limits=AdmissionLimits(max_bytes=2 * 3 * 800))
        handles = [bench.submit("chain", x=[1.0]) for _ in range(20)]
        assert len(bench.waiting("a")) == 16  # until it is known what they make
        (pipeline,) = (each for each in bench.servables if each.status.name == "chain")
        assert (pipeline.queued, pipeline.under_way) == (4, 20)
        handles[17].cancel()
        assert pipeline.queued == 3
        bench.answer("a", y=np.zeros(90))
        bench.answer("b", y=np.zeros(10))  # 800 bytes together
        assert len(bench.outcomes) == 1
        for _ in range(11):
            bench.answer("a", y=np.zeros(1))
            bench.answer("b", y=np.zeros(1))
            assert pipeline.queued == 3  # those that run are still too many
        bench.answer("a", y=np.zeros(1))
        bench.answer("b", y=np.zeros(1))
        assert (pipeline.queued, pipeline.under_way) == (2, 6)
        while pipeline.under_way:  # the large one is being forgotten, and all of them run in the end
            bench.answer("a", y=np.zeros(1))
            bench.answer("b", y=np.zeros(1))
        assert len(bench.outcomes) == 19
        assert all(isinstance(each, InferResponse) for each in bench.outcomes)
        assert bench.is_idle()

    run(test)


def test_several_pipelines_together_leave_room_for_other_models() -> None:
    async def test() -> None:
        other = model("other", "x", "z", steps=(step("a", "x=x", "y=m"), step("b", "x=m", "y=z")))
        bench = Bench(A, B, CHAIN, other, limits=AdmissionLimits(max_bytes=4000))
        for name in ("chain", "other"):
            for _ in range(3):
                bench.submit(name, x=[1.0])
        bench.answer("a", y=np.zeros(260))  # more than half for the second step
        for _ in range(3):
            bench.submit("other", x=[1.0])
        assert len(bench.waiting("a")) == 5
        bench.submit("chain", x=[1.0]).cancel()
        for _ in range(5):
            bench.answer("a", y=np.zeros(1))
        bench.answer(
            "b", y=np.zeros(1)
        )  # the large one ends, and with it the wait of the others, when the next one does
        bench.answer("b", y=np.zeros(1))
        while any(each.under_way for each in bench.servables):
            if bench.waiting("a"):
                bench.answer("a", y=np.zeros(1))
            bench.answer("b", y=np.zeros(1))
        assert len(bench.outcomes) == 9
        assert all(isinstance(each, InferResponse) for each in bench.outcomes)
        assert (bench.is_idle(), bench.engine.admission.child_bytes) == (True, 0)

    run(test)


def test_one_request_runs_however_small_the_limit_is() -> None:
    async def test() -> None:
        bench = Bench(A, B, CHAIN, limits=AdmissionLimits(max_bytes=100))
        for _ in range(2):
            bench.submit("chain", x=[1.0])
            bench.answer("a", y=np.zeros(90))
            bench.answer("b", y=np.zeros(10))
        bench.submit("chain", x=[1.0])
        bench.submit("chain", x=[1.0])
        assert len(bench.waiting("a")) == 1

    run(test)


def test_requests_that_wait_for_room_are_ordered_and_end_like_others() -> None:
    async def test() -> None:
        bench = Bench(A, B, CHAIN, limits=AdmissionLimits())
        first = [bench.submit("chain", x=[1.0]) for _ in range(16)]
        tensor = [from_array("x", np.ones(1))]
        late = bench.engine.submit(InferRequest("chain", tensor, priority=2), bench.outcomes.append)
        urgent = bench.engine.submit(InferRequest("chain", tensor, priority=1), bench.outcomes.append)
        first[0].cancel()
        assert (urgent.sent_at >= urgent.queued_at, late.sent_at) == (True, 0.0)
        await bench.engine.drain(0.0)
        assert len(bench.outcomes) == 17
        assert {str(each) for each in bench.outcomes} == {"the gateway stopped before the model answered"}
        assert bench.is_idle()

    run(test)


def test_requests_that_wait_do_not_run_with_other_inputs_than_they_have() -> None:
    async def test() -> None:
        bench = Bench(A, B, CHAIN)
        first = [bench.submit("chain", x=[1.0]) for _ in range(17)]
        bench.apply(A, B, replace(CHAIN, priority_levels=2))  # they fit as before
        assert not bench.outcomes
        bench.apply(A, B, model("chain", "other", "z", steps=(step("a", "x=other", "y=z"),)))
        assert isinstance(bench.error, Unavailable)
        assert str(bench.error) == "model 'chain' was loaded again; send the request again"
        bench.outcomes.clear()
        for _ in first[:16]:
            bench.answer("a", y=[2.0])
            bench.answer("b", y=[3.0])
        assert [each.outputs[0].name for each in bench.outcomes if isinstance(each, InferResponse)] == ["z"] * 16
        assert bench.is_idle()

    run(test)


def test_an_answer_that_several_steps_make_obeys_the_limit_of_a_response() -> None:
    steps = (step("a", "x=x", "y=y"), step("b", "x=x", "y=z"))

    async def test() -> None:
        bench = Bench(A, B, model("both", "x", "y z", steps=steps), max_response_bytes=100)
        for outputs in ((), ("z",)):
            bench.submit("both", outputs, x=[1.0])
            bench.answer("a", y=np.zeros(8))
            bench.answer("b", y=np.zeros(8))
        refused, answered = bench.outcomes
        assert isinstance(refused, TooLarge)
        assert str(refused) == "the answer has 128 bytes and the limit is 100; ask for fewer outputs"
        assert isinstance(answered, InferResponse)
        assert bench.is_idle()

    run(test)


def test_the_body_of_a_pipeline_lies_where_its_first_step_reads_it() -> None:
    async def test() -> None:
        arenas = open_arenas(1 << 22)
        if arenas is None:
            pytest.skip("this system has no arenas")
        outer = model("outer", "x", "z", steps=(step("chain", "x=x", "z=z"),))
        two = model("two", "x flag", "m z", steps=FLAGGED.steps)  # its step does not get the flag
        loops = [model("l1", "x", "z", steps=(step("l2", "x=x", "z=z"),))]
        loops.append(model("l2", "x", "z", steps=(step("l1", "x=x", "z=z"),)))
        bench = Bench(A, B, CHAIN, outer, two, *loops, arenas=arenas)
        arena = arenas.of("a")
        assert arena is not None
        for name, found in {"a": True, "chain": True, "outer": True, "b": False, "two": False, "l1": False}.items():
            assert (arena.offset_of(bench.engine.buffer(1 << 17, name)) is not None) == found, name
        bench.apply(A, B, CHAIN, model("chain", "x", "z", "2", steps=(step("b", "x=x", "y=z"),)))
        assert arena.offset_of(bench.engine.buffer(1 << 17, "chain")) is None  # the version is not known yet

    run(test)


def test_a_prefixed_error_keeps_what_it_is() -> None:
    error = prefixed(QuotaExceeded("no", "requests_per_s", 7), "step 1")
    assert isinstance(error, QuotaExceeded)
    assert (str(error), error.limit, error.retry_after_s) == ("step 1: no", "requests_per_s", 7)


def rows_model(name: str, shape: tuple[int, ...] | None, **others: Any) -> ModelStatus:
    """A model with rows, whose output has this shape."""
    one = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "INT64", shape), TensorSpec("unused")))
    return ModelStatus(name, "1", "READY", admits=True, signatures={"default": one}, **others)


def found_nothing(classifier: ModelStatus) -> Bench:
    """A detector has found nothing for the classifier."""
    steps = (step("a", "x=x", "y=found"), step("rows", "x=found", "y=classes"))
    bench = Bench(A, classifier, model("finder", "x", "classes", steps=steps))
    bench.submit("finder", x=[1.0])
    bench.answer("a", y=np.zeros((0, 2), np.float32))
    return bench


@pytest.mark.parametrize("rows", [{"max_batch_size": 8}, {"was_batched": True}])
def test_a_model_with_rows_does_not_run_on_none_of_them(rows: dict[str, Any]) -> None:
    async def test() -> None:
        bench = found_nothing(rows_model("rows", (-1, 5), **rows))
        (outcome,) = bench.outcomes
        assert isinstance(outcome, InferResponse)
        assert [(each.name, each.datatype, each.shape) for each in outcome.outputs] == [("classes", "INT64", (0, 5))]
        assert bench.is_idle()

    run(test)


def test_a_model_without_rows_runs_on_an_empty_input() -> None:
    async def test() -> None:
        bench = found_nothing(rows_model("rows", (-1, 5)))
        assert arrays(bench.answer("rows", y=[[7]])) == {"x": []}
        assert bench.values == {"classes": [[7]]}

    run(test)


@pytest.mark.parametrize("shape", [None, (-1, -1)])
def test_no_rows_of_an_unknown_size_are_refused(shape: tuple[int, ...] | None) -> None:
    async def test() -> None:
        bench = found_nothing(rows_model("rows", shape, max_batch_size=8))
        assert (
            str(bench.error) == "pipeline 'finder', step 2 (model rows): input 'x' has 0 rows; at least 1 is required"
        )
        assert bench.is_idle()

    run(test)
