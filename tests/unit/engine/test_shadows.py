"""Copies for a shadow: when they are made, that they affect nothing, and what is counted of the answers."""

import asyncio
import math
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gateway.domain.identity import Identity
from gateway.domain.quota import Quota
from gateway.domain.table import Table, TableEntry
from gateway.domain.traffic import Shadow, Traffic
from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.engine.admission import AdmissionLimits
from gateway.engine.engine import FrontEngine
from gateway.engine.servable import QueuedRequest
from gateway.engine.shadow import ShadowRequest
from gateway.engine.shadow_comparison import compare
from gateway.engine.shadow_metrics import ShadowMetrics, add_shadows
from gateway.errors import DeadlineExceeded, Internal, Overloaded
from gateway.metrics.collector import MetricsAggregator
from runtimes.contract import Signature, TensorSpec, numpy_dtype
from runtimes.fair_order import MAX_LEVEL
from runtimes.layouts import TensorGroup, layout_of
from runtimes.result_frames import ResultGroup
from runtimes.tensors import Tensor, from_array, pack_bytes

SIGNATURES = {"default": Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1, -1)),))}


def status(version: str, **others: Any) -> ModelStatus:
    values = {"signatures": SIGNATURES, "admits": True, **others}
    return ModelStatus("m", version, "READY", **values)


def request(version: str = "3", size: int = 4) -> InferRequest:
    return InferRequest("m", [from_array("x", np.ones(size, np.float32))], version)


def scores(*values: float) -> list[Tensor]:
    return [from_array("y", np.array([values], np.float32))]


class Bench:
    """An engine with versions 3 and 4 of a model, whose requests a test answers."""

    def __init__(self, share: float = 1.0, limits: AdmissionLimits | None = None, **others: Any) -> None:
        self.engine = FrontEngine(1, limits or AdmissionLimits(timeout_s=60.0), lambda *_: asyncio.sleep(0))
        self.engine.shadows.random = Random(1)
        self.traffic = {"m": Traffic({"3": 1}, shadow=Shadow("4", "3", share))}
        self.apply(status("3"), status("4", **others))
        self.outcomes: list[InferResponse | Exception] = []

    def apply(self, *statuses: ModelStatus) -> None:
        self.engine.apply(Table(tuple(TableEntry(each) for each in statuses), True, traffic=self.traffic))

    def ask(self, asked: InferRequest, identity: Identity | None = None) -> None:
        self.engine.submit(asked, self.outcomes.append, identity)

    def waiting(self, version: str) -> list[QueuedRequest]:
        return list(self.engine.routes._queues["m", version]._queued.items.values())  # type: ignore[union-attr]

    def answer(self, version: str, outputs: Sequence[Tensor]) -> None:
        """Answer the oldest request of a version as its worker does."""
        queue = self.engine.routes._queues["m", version]
        queued = self.waiting(version)[0]
        queue.release(queued)
        group = TensorGroup(layout_of("", (), outputs), [1], memoryview(outputs[0].data), 0)
        results = ResultGroup((queued.id,), (1,), 2, 3, 4, 1, group, first_of_batch=True)
        queued.answer(results, 0)
        queue.metrics.count_results(results, 1, queued.rows)

    async def settled(self) -> None:
        """Wait until no copy is in progress."""
        while self.engine.shadows.use.count:  # noqa: ASYNC110 - it ends within a few turns of the loop
            await asyncio.sleep(0)

    def found(self, version: str = "4") -> dict[str, Any]:
        return next(each for each in self.engine.snapshot() if each["version"] == version)

    @property
    def shadow(self) -> dict[str, Any]:
        shadow: dict[str, Any] = self.found()["shadow"]
        return shadow


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_a_copy_is_made_after_the_answer_and_waits_behind_all_clients() -> None:
    async def test() -> None:
        bench = Bench()
        bench.ask(request())
        assert not bench.waiting("4")
        bench.answer("3", scores(1, 2))
        assert len(bench.outcomes) == 1
        assert not bench.waiting("4"), "before everything about the original has happened"
        await asyncio.sleep(0)
        (copy,) = bench.waiting("4")
        assert isinstance(copy, ShadowRequest)
        assert (copy.priority, copy.identity) == (MAX_LEVEL, None)
        bench.ask(request("4"))
        queue = bench.engine.routes._queues["m", "4"]
        first = queue._queued.first()  # type: ignore[union-attr]
        assert first is not copy
        assert first is not None

    run(test)


def test_what_another_version_answers_is_not_compared() -> None:
    async def test() -> None:
        bench = Bench()
        bench.traffic = {"m": Traffic({}, shadow=Shadow("4", "5", 1.0))}
        bench.apply(status("3"), status("4"), status("5"))
        bench.ask(request(""))
        bench.traffic = {"m": Traffic({}, shadow=Shadow("4", "6", 1.0))}
        bench.apply(status("4"), status("6"))  # 5 has left, and had no worker
        bench.answer("6", scores(1, 2))
        await asyncio.sleep(0)
        (answer,) = bench.outcomes
        assert isinstance(answer, InferResponse)
        assert answer.version == "6"
        assert not bench.waiting("4")

    run(test)


def test_the_compiled_path_knows_neither_the_original_nor_requests_without_a_version() -> None:
    async def test() -> None:
        bench = Bench()
        for version in ("", "3", "4"):
            bench.ask(request(version))
        assert set(bench.engine.routes.known) == {("m", "4")}

    run(test)


def test_nothing_that_clients_are_billed_by_knows_of_a_copy() -> None:
    async def test() -> None:
        bench = Bench()
        alice = Identity("alice", {}, usage=bench.engine.usages.of("alice", Quota()))
        bench.ask(request(), alice)
        bench.answer("3", scores(1, 2))
        await asyncio.sleep(0)
        assert (bench.engine.admission.requests, bench.engine.admission.admitted_bytes) == (0, 0)
        assert (bench.found()["in_flight"], bench.found()["queued"]) == (0, 0)
        bench.answer("4", scores(1, 2))
        await bench.settled()
        original, shadow = bench.found("3"), bench.found("4")
        assert original["outcomes"] == {"success": 1}
        assert shadow["outcomes"] == {}
        assert (shadow["rows"], sum(shadow["request"]["counts"]), sum(shadow["queue"]["counts"])) == (0, 0, 0)
        assert (sum(shadow["compute_infer"]["counts"]), shadow["compute_infer"]["total"]) == (0, 0.0)
        assert shadow["executions"] == 1, "the model has run"
        (usage,) = bench.engine.usages.snapshot()
        assert usage["requests"] == 1

    run(test)


@pytest.mark.parametrize("how", ["fails", "expires", "crashes", "hangs", "is unloaded"])
def test_whatever_happens_to_a_copy_the_original_is_answered(how: str) -> None:
    async def test() -> None:
        bench = Bench(limits=AdmissionLimits(timeout_s=0.05 if how == "expires" else 60.0))
        bench.ask(request())
        bench.answer("3", scores(1, 2))
        await asyncio.sleep(0)
        (copy,) = bench.waiting("4")
        if how in ("fails", "crashes"):
            copy.fail(Internal("it failed"))
        elif how == "is unloaded":
            bench.apply(status("3"))
        elif how == "hangs":
            for _ in range(100):
                bench.ask(request())
                bench.answer("3", scores(1, 2))
                await asyncio.sleep(0)
            assert bench.engine.shadows.use.count == 32
            assert bench.shadow["outcomes"]["dropped"] == 69
            bench.engine.routes._queues["m", "4"].fail_all(Internal("killed"))
        await bench.settled()
        assert bench.shadow["outcomes"]["failed"] == (32 if how == "hangs" else 1)
        assert all(isinstance(each, InferResponse) for each in bench.outcomes)
        assert (bench.engine.shadows.use.size, bench.engine.shadows.copies) == (0, set())
        bench.ask(request())
        bench.answer("3", scores(1, 2))
        assert isinstance(bench.outcomes[-1], InferResponse)

    run(test)


def test_a_shadow_that_hangs_leaves_room_for_others() -> None:
    async def test() -> None:
        bench = Bench()
        bench.traffic["n"] = Traffic({"3": 1}, shadow=Shadow("4", "3", 1.0))
        others = [ModelStatus("n", version, "READY", signatures=SIGNATURES, admits=True) for version in "34"]
        bench.apply(status("3"), status("4"), *others)
        for _ in range(100):
            bench.ask(request())
            bench.answer("3", scores(1, 2))
            await asyncio.sleep(0)
        assert bench.engine.shadows.use.count == 16
        bench.engine.submit(request()._replace(model="n"), bench.outcomes.append)
        (queued,) = bench.engine.routes._queues["n", "3"]._queued.items.values()  # type: ignore[union-attr]
        group = TensorGroup(layout_of("", (), scores(1)), [1], memoryview(scores(1)[0].data), 0)
        queued.answer(ResultGroup((queued.id,), (1,), 2, 3, 4, 1, group, first_of_batch=True), 0)
        await asyncio.sleep(0)
        assert bench.engine.shadows.use.count == 17
        bench.engine.routes._queues["m", "4"].fail_all(Internal("killed"))
        bench.engine.routes._queues["n", "4"].fail_all(Internal("killed"))
        await bench.settled()
        assert bench.engine.shadows._uses == {}

    run(test)


def test_the_bytes_of_copies_are_bounded() -> None:
    async def test() -> None:
        bench = Bench()
        for _ in range(3):
            bench.ask(request(size=4 << 20))  # 16 MiB each
            bench.answer("3", scores(1, 2))
            await asyncio.sleep(0)
        assert bench.engine.shadows.use.count == 1
        assert bench.shadow["outcomes"]["dropped"] == 2

    run(test)


def test_a_share_of_the_requests_is_copied_and_failures_are_not() -> None:
    async def test() -> None:
        bench = Bench(share=0.25)
        for _ in range(400):
            bench.ask(request())
            bench.answer("3", scores(1, 2))
            await asyncio.sleep(0)
            if bench.waiting("4"):
                bench.answer("4", scores(1, 2))
                await bench.settled()
        assert 70 <= bench.shadow["outcomes"]["compared"] <= 130
        before = bench.shadow["outcomes"]
        bench.ask(request())
        bench.waiting("3")[0].fail(Overloaded("too busy"))
        await asyncio.sleep(0)
        assert bench.shadow["outcomes"] == before

    run(test)


def test_a_shadow_that_is_not_ready_is_counted_and_one_that_does_not_fit_gets_nothing() -> None:
    async def test() -> None:
        bench = Bench(admits=False)
        bench.ask(request())
        bench.answer("3", scores(1, 2))
        await asyncio.sleep(0)
        assert bench.shadow["outcomes"]["unavailable"] == 1
        bench.apply(status("3"), status("4", stateful=True))
        bench.ask(request())
        bench.answer("3", scores(1, 2))
        await asyncio.sleep(0)
        assert not bench.waiting("4")

    run(test)


def test_differences_are_observed_by_output_and_the_classes_compared() -> None:
    async def test() -> None:
        bench = Bench()
        for other in ((1.0, 2.0), (1.0, 2.5), (3.0, 2.0)):
            bench.ask(request())
            bench.answer("3", scores(1, 2))
            await asyncio.sleep(0)
            bench.answer("4", scores(*other))
            await bench.settled()
        found = bench.shadow["outputs"]["y"]
        assert bench.shadow["outcomes"]["compared"] == 3
        assert (found["same"], found["different"]) == (2, 1)
        assert found["absolute"]["counts"][0] == 1
        assert found["absolute"]["total"] == pytest.approx(2.5)
        assert found["relative"]["total"] == pytest.approx(1.25)
        bench.ask(request())
        bench.answer("3", scores(1, 2))
        await asyncio.sleep(0)
        bench.answer("4", scores(1, math.nan))
        await bench.settled()
        assert bench.shadow["outcomes"]["not_finite"] == 1

    run(test)


def one(array: np.ndarray, name: str = "y") -> list[Tensor]:
    return [from_array(name, array)]


@pytest.mark.parametrize(
    ("original", "shadow", "outcome"),
    [
        (one(np.ones(2, np.float32)), one(np.ones(2, np.float64)), "form"),
        (one(np.ones(2, np.float32)), one(np.ones((1, 2), np.float32)), "form"),
        (one(np.ones(2, np.float32)), one(np.ones(2, np.float32), "z"), "form"),
        (one(np.full(1, np.inf, np.float32)), one(np.full(1, -np.inf, np.float32)), "not_finite"),
        (one(np.full(2, np.nan, np.float32)), one(np.full(2, np.nan, np.float32)), "compared"),
        (one(np.zeros((0, 3), np.float32)), one(np.zeros((0, 3), np.float32)), "compared"),
        (one(np.ones(2, np.float32)), [*one(np.ones(2, np.float32)), *one(np.ones(1, np.int8), "more")], "compared"),
    ],
)
def test_answers_of_another_form_are_not_compared(original: list[Tensor], shadow: list[Tensor], outcome: str) -> None:
    assert compare(original, shadow)[0] == outcome


def test_integers_strings_and_half_precision() -> None:
    integers = compare(one(np.array([1, 2, 3, 200], np.uint8)), one(np.array([1, 2, 9, 100], np.uint8)))[1][0]
    assert (integers.absolute, integers.relative) == (100, 0.5)
    text = [Tensor("s", "BYTES", (1,), pack_bytes(["a"]))]
    other = [Tensor("s", "BYTES", (1,), pack_bytes(["b"]))]
    assert [compare(text, each)[1][0].absolute for each in (text, other)] == [0, 1]
    half = compare(one(np.full(2, 60000, np.float16)), one(np.full(2, -60000, np.float16)))[1][0]
    assert (half.absolute, half.relative) == (120000, 2)
    for datatype in ("BF16", "FP8_E5M2", "INT4"):
        dtype = numpy_dtype(datatype)
        small = compare(one(np.array([4, -2]).astype(dtype)), one(np.array([3, -2]).astype(dtype)))[1][0]
        assert (small.absolute, small.relative) == (1, 0.5 if datatype == "INT4" else 0.25)
    zeros = compare(one(np.zeros(2, np.float32)), one(np.ones(2, np.float32)))[1][0]
    assert (zeros.absolute, zeros.relative) == (1, math.inf)


def test_two_infinite_scores_are_no_clear_winner() -> None:
    infinite = one(np.full((1, 2), np.inf, np.float32))
    with np.errstate(all="raise"):
        (found,) = compare(infinite, infinite)[1]
    assert found == ("y", 0.0, 0.0, 0, 0)


def test_requests_in_progress_belong_to_the_cache_that_they_were_given_to() -> None:
    async def test() -> None:
        bench = Bench()
        bench.apply(status("3", response_cache=1 << 20), status("4"))
        leader = bench.engine.submit(request(), bench.outcomes.append)
        bench.ask(request())
        assert len(bench.waiting("3")) == 1
        bench.apply(status("3", response_cache=1 << 21), status("4"))
        bench.engine.submit(request(size=5), print)
        leader.cancel()
        assert len(bench.waiting("3")) == 2, "nobody runs the request that waited for the cancelled one"
        bench.answer("3", scores(1, 2))
        bench.answer("3", scores(1, 2))
        assert len(bench.outcomes) == 1

    run(test)


def test_copies_that_a_worker_has_after_their_deadline_are_no_requests_in_flight() -> None:
    async def test() -> None:
        bench = Bench()
        bench.ask(request())
        bench.answer("3", scores(1, 2))
        await asyncio.sleep(0)
        (copy,) = bench.waiting("4")
        queue: Any = bench.engine.routes._queues["m", "4"]
        worker: Any = SimpleNamespace(in_flight={copy.id: copy}, cancel=lambda number: True)
        worker.has = worker.in_flight.__contains__
        queue._queued.take(copy)
        queue._sent, copy.worker = 1, worker
        assert bench.found()["in_flight"] == 0
        copy.fail(DeadlineExceeded("too late"))
        assert bench.found()["in_flight"] == 0
        worker.in_flight.clear()
        queue._sent = 0
        assert bench.found()["in_flight"] == 0
        assert not bench.engine.shadows.late

    run(test)


def test_no_copy_waits_for_a_shadow_that_is_unloaded() -> None:
    async def test() -> None:
        bench = Bench()
        bench.ask(request())
        entry = ModelStatus("m", "4", "UNLOADED", signatures=SIGNATURES, admits=True)
        queue = bench.engine.routes._queues["m", "4"]
        queue.update_status(entry)  # the last answer is on its way
        bench.answer("3", scores(1, 2))
        await asyncio.sleep(0)
        assert (bench.engine.shadows.use.count, bench.shadow["outcomes"]["unavailable"]) == (0, 1)

    run(test)


def test_sums_over_fronts_and_infinite_differences() -> None:
    fronts = [ShadowMetrics(), ShadowMetrics()]
    fronts[0].count("compared")
    fronts[0].observe("y", 1.0, math.inf, 1, 0)
    for front in fronts:
        front.count("dropped")
        front.observe("z", 0.0, 0.0, 0, 1)
    first, second = (front.snapshot() for front in fronts)
    found = add_shadows(first, second)
    assert (found["outcomes"]["compared"], found["outcomes"]["dropped"]) == (1, 2)
    assert found["outputs"]["y"]["relative"]["counts"][-1] == 1
    assert math.isfinite(found["outputs"]["y"]["relative"]["total"])
    assert found["outputs"]["z"]["different"] == 2
    assert first == fronts[0].snapshot(), "it was changed"
    assert add_shadows({}, first) == first


def test_the_supervisor_adds_up_the_fronts() -> None:
    async def test() -> None:
        bench, totals = Bench(), MetricsAggregator()
        bench.ask(request())
        bench.answer("3", scores(1, 2))
        await asyncio.sleep(0)
        bench.answer("4", scores(1, 2))
        await bench.settled()
        for front in (1, 2):
            totals.update(front, bench.engine.snapshot())
        totals.retire(1)
        assert totals.totals()["m", "4"]["shadow"]["outcomes"]["compared"] == 2

    run(test)
