"""Response caches: what they hold, when they answer, and that an answer is never another one than the model's."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.table import Table, TableEntry
from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.engine.admission import AdmissionLimits
from gateway.engine.admitted import AdmittedRequest
from gateway.engine.cached_model import CachedModel
from gateway.engine.engine import FrontEngine
from gateway.engine.response_cache import ENTRY_BYTES, TENSOR_BYTES, Question, ResponseCache
from gateway.errors import Internal, InvalidRequest, Unavailable
from runtimes.contract import Signature, TensorSpec
from runtimes.layouts import TensorGroup, layout_of, new_layout
from runtimes.result_frames import ResultGroup
from runtimes.tensors import Tensor, from_array, pack_bytes

SIGNATURES = {
    "default": Signature(
        (TensorSpec("x", "FP32", None), TensorSpec("s", "BYTES", None)),
        (TensorSpec("y", "FP32", None), TensorSpec("z", "FP32", None)),
        optional=frozenset({"s"}),
    )
}
Outcomes = list[InferResponse | Exception]


def status(**others: Any) -> ModelStatus:
    values = {"signatures": SIGNATURES, "response_cache": 1 << 20, "fingerprint": "a", "admits": True, **others}
    return ModelStatus("m", "1", "READY", **values)


def request(value: float = 1.0, **others: Any) -> InferRequest:
    return InferRequest("m", [from_array("x", np.full(4, value, np.float32))], **others)


class Bench:
    """An engine with one model, whose requests a test answers."""

    def __init__(self, *statuses: ModelStatus) -> None:
        self.engine = FrontEngine(1, AdmissionLimits(timeout_s=60.0), lambda *_: asyncio.sleep(0))
        self.apply(*(statuses or (status(),)))

    def apply(self, *statuses: ModelStatus) -> None:
        self.engine.apply(Table(tuple(TableEntry(each) for each in statuses), True))

    @property
    def model(self) -> CachedModel:
        servable = self.engine.routes.servable("m", "1")
        assert isinstance(servable, CachedModel)
        return servable

    @property
    def waiting(self) -> list[AdmittedRequest]:
        """The requests that the workers would have."""
        return list(self.model.inner._queued.items.values())  # type: ignore[attr-defined]

    def ask(self, asked: InferRequest, outcomes: Outcomes) -> AdmittedRequest:
        return self.engine.submit(asked, outcomes.append)

    def answer(self, admitted: AdmittedRequest, outputs: Sequence[Tensor]) -> None:
        """Answer as a worker does."""
        self.model.inner.release(admitted)
        data = memoryview(b"".join(bytes(tensor.data) for tensor in outputs))
        group = TensorGroup(layout_of("", (), outputs), [1], data, 0)
        results = ResultGroup((admitted.id,), (1,), 2, 3, 4, 1, group, first_of_batch=True)
        admitted.deliver(outputs, results, 0)
        self.model.metrics.count_results(results, 1, 1)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def y(value: float) -> list[Tensor]:
    return [from_array("y", np.full(2, value, np.float32))]


def test_an_equal_request_gets_the_same_answer_without_a_worker_and_is_counted_as_triton_does() -> None:
    async def test() -> None:
        bench, outcomes = Bench(), Outcomes()
        bench.ask(request(id="one"), outcomes)
        bench.answer(bench.waiting[0], y(7))
        bench.ask(request(id="two"), outcomes)
        assert not bench.waiting
        assert len(outcomes) == 1, "an answer before submit has returned"
        await asyncio.sleep(0)
        first, second = outcomes
        assert isinstance(first, InferResponse)
        assert isinstance(second, InferResponse)
        assert (second.model, second.version, second.id) == ("m", "1", "two")
        assert [(*each[:3], bytes(each.data)) for each in second.outputs] == [
            (*each[:3], bytes(each.data)) for each in first.outputs
        ]
        (found,) = bench.engine.snapshot()
        assert (found["outcomes"]["success"], found["rows"], found["executions"]) == (2, 1, 1)
        assert (found["cache_hits"], found["cache_misses"], found["cache_entries"]) == (1, 1, 1)
        assert sum(found["request"]["counts"]) == 2
        assert sum(found["compute_infer"]["counts"]) == 1
        assert (bench.engine.admission.requests, bench.engine.admission.admitted_bytes) == (0, 0)

    run(test)


def test_the_compiled_path_does_not_know_cached_models() -> None:
    async def test() -> None:
        bench = Bench()
        bench.ask(request(), [])
        assert bench.engine.routes.known == {}
        bench.apply(status(response_cache=None))
        bench.engine.submit(request(), print)
        assert bench.engine.routes.known

    run(test)


@pytest.mark.parametrize("change", [{"fingerprint": "b"}, {"max_batch_size": 8}])
def test_a_version_that_was_loaded_again_answers_nothing_from_before(change: dict[str, Any]) -> None:
    async def test() -> None:
        bench, outcomes = Bench(), Outcomes()
        bench.ask(request(), outcomes)
        bench.answer(bench.waiting[0], y(1))
        bench.ask(request(2.0), outcomes)  # it runs in the old version
        bench.apply(status(**change))
        bench.ask(request(), outcomes)
        bench.answer(bench.waiting[0], y(2))
        for value in (1.0, 2.0):
            bench.ask(request(value), outcomes)
        assert len(bench.waiting) == 2, "the first of them waits for its equal in the new version"
        assert bench.model.cache.size == 0

    run(test)


def test_equal_requests_that_come_together_run_once() -> None:
    async def test() -> None:
        bench, outcomes = Bench(), Outcomes()
        for _ in range(5):
            bench.ask(request(), outcomes)
        (running,) = bench.waiting
        assert bench.model.under_way == 5
        bench.answer(running, y(3))
        assert len(outcomes) == 5
        assert {bytes(each.outputs[0].data) for each in outcomes if isinstance(each, InferResponse)} == {
            np.full(2, 3, np.float32).tobytes()
        }
        assert bench.model.under_way == 0
        assert (bench.model.metrics.cache_hits, bench.model.metrics.cache_misses) == (4, 1)

    run(test)


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_those_that_wait_for_a_request_that_gets_no_answer_run_themselves(how: str) -> None:
    async def test() -> None:
        bench, outcomes, first = Bench(), Outcomes(), Outcomes()
        leader = bench.ask(request(), first)
        others = [bench.ask(request(), outcomes) for _ in range(3)]
        others[1].cancel()
        if how == "cancelled":
            leader.cancel()
        else:
            leader.fail(Internal("it failed"))
        assert [type(each) for each in first] == ([] if how == "cancelled" else [Internal])
        assert bench.waiting == [others[0], others[2]]
        for each in bench.waiting:
            bench.answer(each, y(1))
        assert len(outcomes) == 2
        assert bench.model.under_way == 0
        assert (bench.engine.admission.requests, bench.engine.admission.admitted_bytes) == (0, 0)

    run(test)


def test_a_more_urgent_request_does_not_wait_for_a_less_urgent_one() -> None:
    async def test() -> None:
        bench = Bench(status(priority_levels=5, default_priority_level=3))
        bench.ask(request(priority=4), [])
        bench.ask(request(priority=1), [])
        bench.ask(request(priority=5), [])
        assert len(bench.waiting) == 2

    run(test)


def test_a_request_that_is_cancelled_before_its_answer_from_the_cache_gets_none() -> None:
    async def test() -> None:
        bench, outcomes = Bench(), Outcomes()
        bench.ask(request(), outcomes)
        bench.answer(bench.waiting[0], y(1))
        bench.ask(request(), outcomes).cancel()
        await asyncio.sleep(0)
        assert len(outcomes) == 1
        assert bench.model.under_way == 0
        bench.ask(request(), outcomes)
        bench.model.fail_all(Unavailable("stopping"))
        await asyncio.sleep(0)
        assert len(outcomes) == 2

    run(test)


def test_fail_all_reaches_those_that_wait_for_another_request() -> None:
    async def test() -> None:
        bench, outcomes = Bench(), Outcomes()
        for _ in range(3):
            bench.ask(request(), outcomes)
        bench.model.fail_all(Unavailable("stopping"))
        assert [type(each) for each in outcomes] == [Unavailable] * 3
        assert bench.model.under_way == 0

    run(test)


def test_the_end_of_the_grace_period_reaches_those_that_wait_for_another_request() -> None:
    async def test() -> None:
        bench, outcomes = Bench(), Outcomes()
        for _ in range(3):
            bench.ask(request(), outcomes)
        (found,) = bench.engine.snapshot()
        assert found["in_flight"] == 3
        async with asyncio.timeout(5):
            await bench.engine.drain(0.0)
        assert [type(each) for each in outcomes] == [Unavailable] * 3

    run(test)


def test_those_that_wait_for_a_request_that_another_version_answers_run_themselves() -> None:
    """The version is unloaded and has no worker. The first one wants any version, and so does one that waits for it."""

    async def test() -> None:
        bench = Bench()
        any_version, this_version = Outcomes(), Outcomes()
        bench.ask(request(), any_version)
        bench.ask(request(), any_version)
        bench.ask(request(version="1"), this_version)
        assert len(bench.waiting) == 1
        new = replace(status(), version="2")
        bench.apply(new)
        (failed,) = this_version
        assert isinstance(failed, Unavailable)
        queue = bench.engine.routes._queues["m", "2"]
        moved = list(queue._queued.items.values())  # type: ignore[union-attr]
        assert len(moved) == 2
        for admitted in moved:
            queue.release(admitted)
            group = TensorGroup(layout_of("", (), y(2)), [1], memoryview(y(2)[0].data), 0)
            admitted.deliver(y(2), ResultGroup((admitted.id,), (1,), 2, 3, 4, 1, group, first_of_batch=True), 0)
        assert [each.version for each in any_version if isinstance(each, InferResponse)] == ["2", "2"]
        bench.ask(request(version="2"), any_version)
        await asyncio.sleep(0)
        assert len(any_version) == 2, "the answer was kept for a question that it does not belong to"
        bench.engine.routes.servable("m", "2").fail_all(Unavailable("the test has ended"))
        assert bench.engine.admission.requests == 0

    run(test)


def test_those_that_wait_get_the_answer_even_if_that_of_the_first_cannot_be_delivered() -> None:
    async def test() -> None:
        bench, outcomes = Bench(), Outcomes()

        def fail(outcome: InferResponse | Exception) -> None:
            raise RuntimeError("a bug")

        bench.engine.submit(request(), fail)
        bench.ask(request(), outcomes)
        bench.answer(bench.waiting[0], y(1))
        assert len(outcomes) == 1

    run(test)


def test_a_cache_that_is_replaced_keeps_nothing_and_its_evictions_still_count() -> None:
    async def test() -> None:
        size = 4 * (3 * ENTRY_BYTES)
        bench, outcomes = Bench(status(response_cache=size)), Outcomes()
        for value in range(12):
            bench.ask(request(float(value)), outcomes)
            bench.answer(bench.waiting[0], y(1))
        (before,) = bench.engine.snapshot()
        assert before["cache_evictions"] > 0
        bench.ask(request(100.0), outcomes)
        old = bench.model
        bench.apply(status(response_cache=size + 1))
        (after,) = bench.engine.snapshot()
        assert after["cache_evictions"] == before["cache_evictions"]
        assert after["cache_entries"] == 0
        bench.answer(bench.waiting[0], y(1))
        assert (old.cache.size, len(old.cache)) == (0, 0)

    run(test)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_course_of_events_is_counted_once(data: st.DataObject) -> None:
    """Requests that are asked, answered, cancelled or fail, and a version that is loaded again, in any order."""

    async def test() -> None:
        bench, fingerprint = Bench(status(response_cache=60_000)), 0
        open_requests: list[AdmittedRequest] = []
        succeeded = ended = asked = 0

        def submit(value: float) -> None:
            def on_answer(outcome: InferResponse | Exception) -> None:
                nonlocal succeeded, ended
                ended += 1
                if isinstance(outcome, InferResponse):
                    succeeded += 1
                    assert outcome.outputs[0].data == y(value)[0].data

            open_requests.append(bench.engine.submit(request(value), on_answer))

        for _ in range(data.draw(st.integers(5, 40))):
            step = data.draw(st.sampled_from(["ask", "ask", "ask", "answer", "cancel", "fail", "turn", "reload"]))
            open_requests = [each for each in open_requests if not each.settled]
            waiting = bench.waiting
            if step == "ask":
                asked += 1
                submit(float(data.draw(st.integers(0, 2))))
            elif step == "answer" and waiting:
                each = data.draw(st.sampled_from(waiting))
                assert each.request is not None
                bench.answer(each, y(float(np.frombuffer(each.request.inputs[0].data, np.float32)[0])))
            elif step == "cancel" and open_requests:
                data.draw(st.sampled_from(open_requests)).cancel()
                ended += 1
            elif step == "fail" and waiting:
                data.draw(st.sampled_from(waiting)).fail(Internal("it failed"))
            elif step == "turn":
                await asyncio.sleep(0)
            elif step == "reload":
                fingerprint += 1
                bench.apply(status(response_cache=60_000, fingerprint=str(fingerprint)))
            (found,) = bench.engine.snapshot()
            assert found["in_flight"] == asked - ended == bench.engine.admission.requests
            assert found["outcomes"].get("success", 0) == succeeded == found["cache_hits"] + found["rows"]
            assert found["cache_hits"] + found["cache_misses"] <= asked
        while bench.waiting:
            each = bench.waiting[0]
            assert each.request is not None
            bench.answer(each, y(float(np.frombuffer(each.request.inputs[0].data, np.float32)[0])))
        await asyncio.sleep(0)
        (found,) = bench.engine.snapshot()
        assert ended == asked == sum(found["outcomes"].values())
        assert (found["in_flight"], bench.model.under_way, bench.engine.admission.requests) == (0, 0, 0)

    run(test)


def test_requests_are_validated_and_errors_are_not_kept() -> None:
    async def test() -> None:
        bench, outcomes = Bench(), Outcomes()
        with pytest.raises(InvalidRequest):
            bench.ask(request(outputs=["nothing"]), outcomes)
        bench.ask(request(), outcomes).fail(Internal("it failed"))
        bench.ask(request(), outcomes)
        assert len(bench.waiting) == 1

    run(test)


def test_models_share_one_cache_and_their_answers_do_not_mix() -> None:
    async def test() -> None:
        bench = Bench(
            status(response_cache=0),
            ModelStatus("n", "1", "READY", admits=True, signatures=SIGNATURES, response_cache=0),
        )
        outcomes = Outcomes()
        bench.ask(request(), outcomes)
        bench.answer(bench.waiting[0], y(1))
        bench.engine.submit(request()._replace(model="n"), outcomes.append)
        other = bench.engine.routes.servable("n", "1")
        assert isinstance(other, CachedModel)
        assert other.cache is bench.model.cache
        await asyncio.sleep(0)
        assert len(outcomes) == 1
        bench.apply(status(response_cache=0))
        assert len(bench.model.cache) == 1

    run(test)


def question(*data: bytes, outputs: Sequence[str] = ()) -> Question:
    tensors = [Tensor(str(number), "UINT8", (len(each),), each) for number, each in enumerate(data)]
    return Question(new_layout("", outputs, tensors), list(data))


def test_a_collision_of_hashes_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ResponseCache(1 << 20)
    cache.put("m", b"same", question(b"one"), y(1))
    assert cache.get("m", b"same", question(b"two")) is None
    assert cache.get("m", b"same", question(b"one")) is not None
    assert cache.get("other", b"same", question(b"one")) is None
    monkeypatch.setattr(xxhash, "xxh3_128", lambda data: _Constant())

    async def test() -> None:
        bench, outcomes = Bench(), Outcomes()
        bench.ask(request(1.0), outcomes)
        bench.ask(request(2.0), outcomes)
        assert len(bench.waiting) == 2
        for each in bench.waiting:
            assert each.request is not None
            bench.answer(each, y(float(np.frombuffer(each.request.inputs[0].data, np.float32)[0])))
        for value in (1.0, 2.0, 1.0):
            bench.ask(request(value), outcomes)
            await asyncio.sleep(0)
            for each in bench.waiting:
                bench.answer(each, y(value))
        values = [
            np.frombuffer(each.outputs[0].data, np.float32)[0] for each in outcomes if isinstance(each, InferResponse)
        ]
        assert values == [1, 2, 1, 2, 1]

    run(test)


class _Constant:
    def update(self, data: object) -> None:
        pass

    def digest(self) -> bytes:
        return bytes(16)


def test_the_size_is_bounded_counted_and_the_least_recently_used_goes_first() -> None:
    entry = 1000 + ENTRY_BYTES + 2 * TENSOR_BYTES + 8
    cache = ResponseCache(5 * entry)
    questions = [question(bytes([number]) * 1000) for number in range(7)]
    for each in questions[:5]:
        cache.put("m", each.digest(), each, y(1))
    assert (cache.size, len(cache)) == (5 * entry, 5)
    assert cache.get("m", questions[0].digest(), questions[0]) is not None
    for each in questions[5:]:
        cache.put("n", each.digest(), each, y(1))
    kept = [
        number for number, each in enumerate(questions) if cache.get("m" if number < 5 else "n", each.digest(), each)
    ]
    assert kept == [0, 3, 4, 5, 6]
    assert (cache.held("m").entries, cache.held("m").evictions, cache.held("m").size) == (3, 2, 3 * entry)
    cache.put("m", questions[0].digest(), questions[0], y(2))
    assert cache.size == 5 * entry
    large = question(bytes(2 * entry))
    cache.put("m", large.digest(), large, y(1))
    assert cache.get("m", large.digest(), large) is None
    cache.drop("m")
    assert cache.size == 2 * entry == cache.held("n").size


def test_an_entry_keeps_copies() -> None:
    """The bytes of requests and answers may be in memory that is used again."""
    cache, asked = ResponseCache(1 << 20), bytearray(b"asked")
    answer = bytearray(8)
    cache.put("m", b"digest", question(asked), [Tensor("y", "UINT8", (8,), memoryview(answer))])
    asked[:], answer[:] = b"other", b"changed!"
    found = cache.get("m", b"digest", question(b"asked"))
    assert found is not None
    assert found[0].data == bytes(8)


# What a deterministic model might do: every detail of a request that may matter shows in the answer.
def model(asked: InferRequest) -> list[Tensor]:
    parts = [f"{name} {datatype} {shape} {bytes(data)!r}" for name, datatype, shape, data in asked.inputs]
    text = f"{asked.signature} {parts} {list(asked.outputs)}".encode()
    return [
        Tensor(name, "FP32", (1,), (hash((name, text)) & 0xFFFFFFFF).to_bytes(4, "little"))
        for name in asked.outputs or ("y", "z")
    ]


FLOATS = st.sampled_from(
    [b"\0\0\0\0", b"\0\0\0\x80", b"\0\0\xc0\x7f", b"\1\0\xc0\x7f", b"\0\0\xc0\xff", b"\0\0\x80\x3f"]
)  # 0.0, -0.0, three NaNs, 1.0
X = st.lists(FLOATS, max_size=3).flatmap(
    lambda values: st.sampled_from([(len(values),), (len(values), 1), (1, len(values))]).map(
        lambda shape: Tensor("x", "FP32", shape, b"".join(values))
    )
)
S = st.lists(st.sampled_from([b"", b"a", b"aa", "ä".encode()]), max_size=2).map(
    lambda elements: Tensor("s", "BYTES", (len(elements),), pack_bytes(elements))
)
REQUESTS = st.builds(
    lambda x, s, first, outputs, parameters: InferRequest(
        "m",
        [x] if s is None else [s, x] if first else [x, s],
        outputs=outputs,
        parameters=parameters,
    ),
    X,
    st.none() | S,
    st.booleans(),
    st.sampled_from([(), ("y",), ("z",), ("y", "z"), ("z", "y")]),
    st.sampled_from([{}, {"temperature": 1}]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(REQUESTS, min_size=2, max_size=12))
def test_any_requests_get_the_answers_of_the_model(asked: list[InferRequest]) -> None:
    async def test() -> None:
        bench = Bench(status(response_cache=40_000))
        for each in [*asked, *(twice for one in asked for twice in (one, one))]:
            outcomes = Outcomes()
            bench.ask(each, outcomes)
            await asyncio.sleep(0)
            for waiting in bench.waiting:
                bench.answer(waiting, model(each))
            (outcome,) = outcomes
            assert isinstance(outcome, InferResponse)
            assert [(*t[:3], bytes(t.data)) for t in outcome.outputs] == [(*t[:3], bytes(t.data)) for t in model(each)]
        assert bench.model.cache.size <= 40_000
        assert bench.model.metrics.cache_hits >= len(asked)

    run(test)
