"""A front runs the steps of pipelines, and counts them, the same with the compiled fast path as without it.

Whatever is not as usual at a step has Python take over, which must go on from there.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop

from gateway.domain.pipeline import Condition, Step
from gateway.domain.request_record import RequestRecord
from gateway.domain.table import WorkerAddress
from gateway.domain.types import ModelStatus
from runtimes.contract import Signature, TensorSpec
from runtimes.tensors import Tensor, from_array
from tests.support.front_pair import Pair, compiled, error_frame, pair, result_frame
from tests.unit.front.test_compiled_identities import KEYS, POLICY


def _model(name: str, inputs: str = "x", outputs: str = "y", size: int = 2, **more: Any) -> ModelStatus:
    specs = [tuple(TensorSpec(each, "FP32", (-1, size)) for each in names.split()) for names in (inputs, outputs)]
    signature = Signature(specs[0], specs[1])
    return ModelStatus(name, "1", "READY", admits=True, signatures={"": signature}, **{"max_batch_size": 8, **more})


def _step(model: str, inputs: str, outputs: str, when: str = "") -> Step:
    maps = [dict(each.split("=") for each in names.split()) for names in (inputs, outputs)]
    return Step(model, "", maps[0], maps[1], Condition.parse(when) if when else None)


A, B, C = _model("a"), _model("b"), _model("c", "p q", "r s")
CHAIN = _model("chain", "x", "z m", steps=(_step("a", "x=x", "y=m"), _step("b", "x=m", "y=z")))
SIDES = (_step("a", "x=x", "y=one"), _step("b", "x=x", "y=two"), _step("c", "p=one q=two", "r=r s=s"))
DIAMOND = _model("diamond", "x", "r s", steps=SIDES)


def request(
    model: str,
    value: float = 1.5,
    rows: int = 1,
    binary: bool = False,
    size: int = 2,
    has_flag: bool = False,
    **more: Any,
) -> bytes:
    """Return a request by REST."""
    data = np.full((rows, size), value, np.float32)
    x: dict[str, Any] = {"name": "x", "shape": [rows, size], "datatype": "FP32"}
    if binary:
        x["parameters"] = {"binary_data_size": data.nbytes}
        more["parameters"] = {"binary_data_output": True, **more.get("parameters", {})}
    else:
        x["data"] = data.ravel().tolist()
    flag = {"name": "flag", "shape": [1, 1], "datatype": "BOOL", "data": [True]}
    text = json.dumps({**more, "inputs": [x, flag] if has_flag else [x]}).encode()
    body = text + (data.tobytes() if binary else b"")
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nhost: localhost\r\n"
    if binary:
        head += f"inference-header-content-length: {len(text)}\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


@dataclass
class Bench:
    """The models of the steps, with one worker each, and the pipelines `chain` and `diamond`."""

    pair: Pair
    number: int
    statuses: dict[str, ModelStatus] = field(default_factory=dict)
    workers: dict[str, WorkerAddress] = field(default_factory=dict)

    async def apply(self, *statuses: ModelStatus, window: int = 16) -> None:
        """Have these models in the table, in place of those of the same names."""
        self.statuses |= {each.name: each for each in statuses}
        for status in statuses:
            if not status.steps and status.name not in self.workers:
                self.workers[status.name] = await self.pair.worker(window)
        await self._publish()

    async def remove(self, name: str) -> None:
        del self.statuses[name]
        await self._publish()

    async def _publish(self) -> None:
        entries = [
            (status, [self.workers[name]] if name in self.workers and not status.steps else [])
            for name, status in self.statuses.items()
        ]
        await self.pair.apply(*entries)

    @property
    def taken(self) -> int:
        """How many steps the fast path has sent."""
        return self.pair.fast.taken["StepRequest"]

    def asked(self, model: str) -> list[int]:
        return self.pair.asked().get(self.workers[model].id, [])

    async def answer(self, model: str, *outputs: Tensor, rows: int = 1) -> None:
        """Answer the first request of a model: with these tensors, or with its input plus 1 in each of its outputs."""
        number = self.asked(model)[0]
        asked = self.pair.request(self.workers[model].id, number)
        if not outputs:
            found = np.frombuffer(bytes(asked.inputs[0].data), np.float32).reshape(asked.inputs[0].shape) + 1
            outputs = tuple(from_array(name, found) for name in asked.outputs)
            rows = len(found)
        self.pair.answer(self.workers[model].id, [number], result_frame([(number, rows, outputs)]))
        await self.pair.compare()

    async def send(self, data: bytes) -> None:
        self.pair.send(self.number, data)
        await self.pair.compare()

    async def run(self, data: bytes, models: str = "a b") -> tuple[int, bytes]:
        """Send a request, and have each of these models answer. Return the answer."""
        await self.send(data)
        for model in models.split():
            await self.answer(model)
        return self.reply()

    async def learn(self, data: bytes, models: str = "a b") -> None:
        """Send a request until the fast path runs all of its steps."""
        for _ in range(4):
            before = self.taken
            assert (await self.run(data, models))[0] == 200
        assert self.taken == before + len(models.split())

    def reply(self) -> tuple[int, bytes]:
        answer, self.pair.answers[self.number] = self.pair.answers[self.number], b""
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body


Test = Callable[[Bench], Awaitable[None]]
Run = Callable[..., None]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    module = compiled()

    def run(test: Test, **options: Any) -> None:
        async def main() -> None:
            async with pair(module, tmp_path, **options) as both:
                bench = Bench(both, both.connect())
                await bench.apply(A, B, C, CHAIN, DIAMOND)
                await test(bench)

        uvloop.run(main())

    return run


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("more", [{}, {"id": "seven"}, {"outputs": [{"name": "z"}]}, {"parameters": {"priority": 3}}])
def test_a_chain_is_answered(run: Run, binary: bool, more: dict[str, Any]) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn(request("chain", binary=binary, **more))
        for rows in (1, 3):
            status, body = await bench.run(request("chain", 2.5, rows, binary, **more))
            assert status == 200
            if not binary:
                found = {each["name"]: each["data"] for each in json.loads(body)["outputs"]}
                assert found["z"] == [4.5] * 2 * rows
                assert ("m" in found) == ("outputs" not in more)
            else:
                assert np.float32(4.5).tobytes() * 2 * rows in body

        await bench.send(request("chain", binary=binary, **more))
        (begun,) = bench.pair.fast.engine.routes._pipelines["chain", "1"]._runs.values()
        assert type(begun.queued).__name__ == "HttpRequest"

    run(test)


def test_steps_run_side_by_side(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn(request("diamond"), "b a c")
        await bench.send(request("diamond", 7.0))
        assert bench.asked("a")
        assert bench.asked("b")
        await bench.answer("a")
        assert not bench.asked("c")
        await bench.answer("b")
        await bench.answer("c")
        assert bench.reply()[0] == 200

    run(test)


def test_large_tensors(run: Run) -> None:
    """They are received into the arena of the first model, and results of this size are passed on as they are."""

    async def test(bench: Bench) -> None:
        wide = [replace(_model(each.name, size=20_000), steps=each.steps) for each in (A, B)]
        chain = replace(_model("chain", "x", "z m", 20_000), steps=CHAIN.steps)
        await bench.apply(*wide, chain)
        await bench.learn(request("chain", binary=True, size=20_000))
        assert (await bench.run(request("chain", 2.5, 2, binary=True, size=20_000)))[0] == 200

    run(test, arena=1 << 20)


def test_strings(run: Run) -> None:
    """Their lengths are in the bytes, so they are checked in each request."""
    spec = Signature((TensorSpec("x", "BYTES", (-1,)),), (TensorSpec("y", "BYTES", (-1,)),))
    steps = (_step("a", "x=x", "y=m"), _step("b", "x=m", "y=z"))
    both = Signature(spec.inputs, tuple(TensorSpec(name, "BYTES", (-1,)) for name in "zm"))

    def text(*values: str) -> bytes:
        inputs = [{"name": "x", "shape": [len(values)], "datatype": "BYTES", "data": values}]
        body = json.dumps({"inputs": inputs}).encode()
        return b"POST /v2/models/chain/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body

    async def test(bench: Bench) -> None:
        await bench.apply(
            *(replace(each, signatures={"": spec}) for each in (A, B)),
            replace(CHAIN, signatures={"": both}, steps=steps),
        )
        for values in (["one"], ["two"], ["a much longer one"], ["one", "more"]):
            await bench.send(text(*values))
            for model in "ab":
                asked = bench.pair.request(bench.workers[model].id, bench.asked(model)[0])
                await bench.answer(model, Tensor("y", *asked.inputs[0][1:]), rows=len(values))
            status, body = bench.reply()
            assert (status, json.loads(body)["outputs"][0]["data"]) == (200, values)
        assert bench.taken
        await bench.send(text("fine"))
        await bench.answer("a", Tensor("y", "BYTES", (1,), b"\xff\0\0\0no"))
        status, body = bench.reply()
        assert status == 400
        assert b"step 2 (model b)" in body

    run(test)


def test_a_step_that_fails_is_named_and_ends_the_others(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn(request("diamond"), "a b c")
        await bench.send(request("diamond"))
        number = bench.asked("b")[0]
        bench.pair.answer(bench.workers["b"].id, [number], error_frame(number, "internal", "it broke"))
        await bench.pair.compare()
        status, body = bench.reply()
        assert status == 500
        assert json.loads(body)["error"] == "pipeline 'diamond', step 2 (model b): it broke"
        assert bench.pair.fast.workers[bench.workers["a"].id].cancelled

    run(test)


@pytest.mark.parametrize(
    ("made", "rows"),
    [
        (Tensor("y", "FP32", (1, 3), bytes(12)), 1),  # not what the next model takes
        (Tensor("y", "INT32", (1, 2), bytes(8)), 1),
        (Tensor("other", "FP32", (1, 2), bytes(8)), 1),  # an output is missing
        (Tensor("y", "FP32", (0, 2), b""), 0),  # no model runs on no rows
    ],
)
def test_a_step_that_makes_something_unusual(run: Run, made: Tensor, rows: int) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn(request("chain"))
        await bench.send(request("chain"))
        await bench.answer("a", made, rows=rows)
        bench.reply()
        assert (await bench.run(request("chain")))[0] == 200

    run(test)


def test_a_model_that_runs_each_request_alone_does_not_run_on_no_rows(run: Run) -> None:
    """Its validator accepts them, because nothing is said of the rows of a model without batches."""

    async def test(bench: Bench) -> None:
        await bench.apply(replace(B, max_batch_size=0, was_batched=True))
        await bench.learn(request("chain"))
        await bench.send(request("chain"))
        await bench.answer("a", Tensor("y", "FP32", (0, 2), b""), rows=0)
        assert not bench.asked("b")
        status, body = bench.reply()
        assert (status, [each["shape"] for each in json.loads(body)["outputs"]]) == (200, [[0, 2], [0, 2]])

    run(test)


def test_python_takes_over_while_other_steps_are_under_way(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn(request("diamond"), "a b c")
        await bench.send(request("diamond"))
        await bench.answer("a", Tensor("y", "FP32", (0, 2), b""), rows=0)
        await bench.answer("b")
        status, body = bench.reply()
        assert status == 400
        assert b"step 3 (model c)" in body

    run(test)


def test_the_model_of_a_later_step_is_replaced_meanwhile(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn(request("chain"))
        await bench.send(request("chain"))
        await bench.apply(replace(B, max_batch_size=0))
        taken = bench.taken
        await bench.answer("a")
        assert bench.taken == taken  # Python has found the model, and sent this step
        await bench.answer("b")
        assert bench.reply()[0] == 200
        await bench.learn(request("chain"))

    run(test)


@pytest.mark.parametrize("name", ["a", "b", "chain"])
def test_what_a_request_needs_is_removed_meanwhile(run: Run, name: str) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn(request("chain"))
        await bench.send(request("chain"))
        await bench.remove(name)
        if bench.asked("a"):
            await bench.answer("a")
        if "b" in bench.statuses and bench.asked("b"):
            await bench.answer("b")
        assert bench.reply()[0] == (503 if name == "b" else 200)

    run(test)


def test_parameters_of_the_client_reach_steps_that_want_them(run: Run) -> None:
    async def test(bench: Bench) -> None:
        own = request("chain", parameters={"mine": 7})
        for _ in range(4):
            assert (await bench.run(own))[0] == 200
        await bench.apply(replace(B, takes_context=True), replace(CHAIN, takes_context=True))
        taken = bench.taken
        for _ in range(4):
            assert (await bench.run(own))[0] == 200
        assert bench.taken == taken

    run(test)


def test_a_client_leaves_while_a_step_runs(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn(request("chain"))
        await bench.send(request("chain"))
        for client in bench.pair.each(bench.number):
            client.lose(None)
        await bench.pair.compare()
        assert bench.pair.fast.workers[bench.workers["a"].id].cancelled

    run(test)


@pytest.mark.parametrize("more", [{}, {"parameters": {"timeout": 5_000_000}}])
@pytest.mark.parametrize("answered", [False, True])
def test_a_request_ends_at_its_deadline(run: Run, more: dict[str, Any], answered: bool) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn(request("chain", **more))
        await bench.send(request("chain", **more))
        if answered:
            await bench.answer("a")
        bench.pair.expire(3600)
        await bench.pair.compare()
        assert bench.reply()[0] == 504

    run(test)


def test_a_worker_that_runs_a_step_dies(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn(request("chain"))
        await bench.send(request("chain"))
        worker, number = bench.workers.pop("a"), bench.pair.asked()[1][0]
        bench.pair.kill(worker.id, frozenset({number}))
        await bench.pair.compare()
        await bench.apply(A)
        await bench.answer("a")
        await bench.answer("b")
        assert bench.reply()[0] == 200

    run(test)


def test_an_answer_of_several_steps_obeys_the_limit(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn(request("chain"))
        for front in bench.pair.fronts:
            front.engine.routes._pipelines["chain", "1"].max_response_bytes = 10
        assert (await bench.run(request("chain")))[0] == 413
        await bench.learn(request("chain", outputs=[{"name": "z"}]))

    run(test)


def test_requests_that_wait_for_room(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn(request("chain"))
        for front in bench.pair.fronts:
            front.engine.routes._pipelines["chain", "1"]._max_bytes = 1
        other = bench.pair.connect()
        await bench.send(request("chain"))
        bench.pair.send(other, request("chain", 3.0))
        await bench.pair.compare()
        assert len(bench.asked("a")) == 1
        for model in "abab":
            await bench.answer(model)
        assert b"200 OK" in bench.pair.answers[other]

    run(test)


class _Recorder:
    """An observer, to which both fronts report. It traces all requests, or none."""

    def __init__(self, traced: bool) -> None:
        self._traced = traced
        self.ends: list[tuple[Any, ...]] = []

    def skips(self, model: str, traceparent: str) -> bool:
        return False

    def named(self, record: RequestRecord) -> None:
        record.traced = self._traced

    def ended(self, record: RequestRecord) -> None:
        self.ends.append(_described(record))


def _described(record: RequestRecord) -> tuple[Any, ...]:
    spent = record.compute_input_ns, record.compute_infer_ns, record.compute_output_ns, record.queue_ns
    children = [_described(each) for each in record.children]
    who = record.model, record.version, record.outcome, record.status, record.has_steps
    return *who, spent, record.batch_rows, record.queued <= record.sent <= record.answered, children


@pytest.mark.parametrize("traced", [False, True])
def test_requests_are_recorded(run: Run, traced: bool) -> None:
    recorder = _Recorder(traced)

    async def test(bench: Bench) -> None:
        for _ in range(4):
            assert (await bench.run(request("chain", id="seven")))[0] == 200
        await bench.send(request("chain"))
        number = bench.asked("a")[0]
        bench.pair.answer(bench.workers["a"].id, [number], error_frame(number, "internal", "it broke"))
        await bench.pair.compare()
        assert bench.reply()[0] == 500
        assert bool(bench.taken) != traced  # each step has a record of its own
        assert len(recorder.ends) == 10
        for one, other in zip(recorder.ends[::2], recorder.ends[1::2], strict=True):
            assert one == other
        assert [name for name, *_ in recorder.ends[0][-1]] == (["a", "b"] if traced else [])

    run(test, observer=recorder)


def test_a_client_with_a_quota_is_counted(run: Run) -> None:
    key = f"authorization: Bearer {KEYS['limited']}\r\nhost:".encode()
    asked = request("chain").replace(b"host:", key, 1)

    async def test(bench: Bench) -> None:
        await bench.learn(asked)
        await bench.send(asked)
        other = bench.pair.connect()
        bench.pair.send(other, asked)
        await bench.pair.compare()
        assert b" 429 " in bench.pair.answers[other]  # one request may be in flight, whatever its steps are
        await bench.answer("a")
        await bench.answer("b")
        assert bench.reply()[0] == 200

    run(test, policy=POLICY)


def test_draining_lets_steps_run(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn(request("chain"))
        await bench.send(request("chain"))
        for front in bench.pair.fronts:
            front.engine.draining = True
        await bench.answer("a")
        await bench.answer("b")
        assert bench.reply()[0] == 200

    run(test)


@pytest.mark.parametrize(
    ("steps", "ran"),
    [
        ((_step("a", "x=x", "y=m"), _step("b", "x=m", "y=z", "flag")), "ab"),  # one that may be skipped
        ((_step("a", "x=x", "y=m"), _step("chain", "x=m", "z=z")), "aab"),  # one that has steps itself
    ],
)
def test_other_pipelines_are_left_to_python(run: Run, steps: tuple[Step, ...], ran: str) -> None:
    flag = TensorSpec("flag", "BOOL", (-1, 1))

    async def test(bench: Bench) -> None:
        other = _model("other", "x", "z", steps=steps)
        if "flag" in str(steps):
            inputs, outputs = other.signatures[""][:2]
            other = replace(other, signatures={"": Signature((*inputs, flag), outputs)})
        await bench.apply(other)
        for _ in range(4):
            status, _ = await bench.run(request("other", has_flag="flag" in str(steps)), " ".join(ran))
            assert status == 200
        assert not bench.taken

    run(test)
