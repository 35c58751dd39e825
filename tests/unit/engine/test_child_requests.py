"""Requests that are made for an admitted one: by a pipeline, or by a model that calls others."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from gateway.domain.identity import Identity
from gateway.domain.pipeline import MAX_DEPTH
from gateway.domain.quota import Quota
from gateway.domain.request_record import MAX_DESCENDANTS, RequestRecord
from gateway.domain.table import Table, TableEntry
from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.engine.admission import AdmissionLimits
from gateway.engine.admitted import AdmittedRequest
from gateway.engine.engine import FrontEngine
from gateway.errors import (
    DeadlineExceeded,
    Internal,
    InvalidRequest,
    ModelportError,
    QuotaExceeded,
    Unavailable,
    Unsupported,
)
from runtimes.contract import Signature, TensorSpec
from runtimes.layouts import TensorGroup, layout_of
from runtimes.result_frames import ResultGroup
from runtimes.tensors import from_array

Outcomes = list[InferResponse | Exception]
SIGNATURES = {"default": Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),))}


def status(name: str, **others: Any) -> ModelStatus:
    return ModelStatus(name, "1", "READY", admits=True, signatures=SIGNATURES, **others)


def engine_of(*statuses: ModelStatus, limits: AdmissionLimits | None = None) -> FrontEngine:
    engine = FrontEngine(1, limits or AdmissionLimits(timeout_s=60.0), lambda *_: asyncio.sleep(0))
    engine.apply(Table(tuple(TableEntry(each) for each in statuses), True))
    return engine


def request(model: str, **others: Any) -> InferRequest:
    return InferRequest(model, [from_array("x", np.ones(4, np.float32))], **others)


def answer(admitted: AdmittedRequest) -> None:
    tensor = from_array("y", np.ones(1, np.float32))
    outputs = TensorGroup(layout_of("", (), [tensor]), [1], memoryview(tensor.data), 0)
    admitted.servable.release(admitted)
    admitted.answer(ResultGroup((admitted.id,), (1,), 2, 3, 4, 1, outputs), 0)


def child_of(
    engine: FrontEngine, parent: AdmittedRequest, request: InferRequest, on_answer: Callable[[Any], object]
) -> AdmittedRequest:
    child = engine.submit_child(parent, request, on_answer)
    assert isinstance(child, AdmittedRequest)
    return child


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_a_child_inherits_deadline_priority_and_identity() -> None:
    async def test() -> None:
        engine = engine_of(status("a"), status("b", priority_levels=5, default_priority_level=3))
        identity = Identity("alice", (), usage=engine.usages.of("alice"))
        parent = engine.submit(request("a", priority=2), [].append, identity)
        child = child_of(engine, parent, request("b"), [].append)
        assert (child.deadline, child.identity) == (parent.deadline, identity)
        assert child.priority == parent.priority  # level 2 of alice's flow
        sooner = child_of(engine, parent, request("b", priority=4, deadline=parent.deadline - 9), [].append)
        assert sooner.deadline == parent.deadline - 9
        assert sooner.priority - parent.priority == 2
        later = child_of(engine, parent, request("b", deadline=parent.deadline + 9), [].append)
        assert later.deadline == parent.deadline
        modest = child_of(engine, engine.submit(request("a"), [].append, identity), request("b"), [].append)
        assert modest.priority - parent.priority == 1  # the default of the child's model

    run(test)


def test_limits_quotas_and_draining_refuse_no_child() -> None:
    async def test() -> None:
        engine = engine_of(status("a"), status("b"), limits=AdmissionLimits(4, 40, 60.0))
        identity = Identity("alice", (), usage=engine.usages.of("alice", Quota(in_flight=1)))
        parent = engine.submit(request("a"), [].append, identity)
        with pytest.raises(QuotaExceeded):
            engine.submit(request("a"), [].append, identity)
        outcomes: Outcomes = []
        children = [child_of(engine, parent, request("b"), outcomes.append) for _ in range(3)]
        draining = asyncio.create_task(engine.drain(60.0))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            engine.submit(request("a"), [].append)
        children.append(child_of(engine, parent, request("b"), outcomes.append))
        # Their bytes count, so that requests of clients are refused in their stead; but they are no further requests.
        assert (engine.admission.requests, engine.admission.admitted_bytes) == (1, 5 * 16)
        for child in children:
            answer(child)
        assert engine.admission.admitted_bytes == 16
        answer(parent)
        assert engine.admission.admitted_bytes == engine.admission.requests == 0
        assert len(outcomes) == 4
        await draining
        engine.draining = False
        engine.submit(request("a"), [].append, identity).cancel()  # the quota was given back once, and no more
        assert engine.usages.of("alice").requests == 0

    run(test)


@pytest.mark.parametrize("end", [answer, AdmittedRequest.cancel, lambda parent: parent.fail(Internal("no"))])
def test_children_are_cancelled_when_the_parent_is_settled(end: Callable[[AdmittedRequest], None]) -> None:
    async def test() -> None:
        engine = engine_of(status("a"), status("b"), status("c"))
        parent = engine.submit(request("a"), [].append)
        outcomes: Outcomes = []
        child = child_of(engine, parent, request("b"), outcomes.append)
        grandchild = child_of(engine, child, request("c"), outcomes.append)
        done = child_of(engine, parent, request("b"), outcomes.append)
        answer(done)
        end(parent)
        assert child.settled
        assert grandchild.settled
        assert len(outcomes) == 1  # of `done`
        assert engine.metrics.of("b", "1").outcomes == {"cancelled": 1}
        assert engine.metrics.of("c", "1").outcomes == {"cancelled": 1}
        assert not any(servable.under_way for servable in engine.routes.servables() if servable.status.name != "a")
        assert engine.admission.admitted_bytes == 0
        with pytest.raises(InvalidRequest, match="the request for which this one is made has ended"):
            child_of(engine, parent, request("b"), outcomes.append)

    run(test)


def test_a_child_may_have_an_earlier_deadline_than_its_parent() -> None:
    async def test() -> None:
        engine = engine_of(status("a"), status("b"))
        parent = engine.submit(request("a"), [].append)
        expired: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        child_of(engine, parent, request("b", deadline=time.monotonic() + 0.02), expired.set_result)
        assert isinstance(await expired, DeadlineExceeded)
        assert not parent.settled
        with pytest.raises(DeadlineExceeded):
            child_of(engine, parent, request("b", deadline=time.monotonic() - 1), [].append)
        parent.cancel()

    run(test)


def test_the_deadline_of_the_parent_ends_the_children() -> None:
    async def test() -> None:
        engine = engine_of(status("a"), status("b"))
        expired: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        parent = engine.submit(request("a", deadline=time.monotonic() + 0.02), expired.set_result)
        outcomes: Outcomes = []
        child = child_of(engine, parent, request("b"), outcomes.append)
        assert isinstance(await expired, DeadlineExceeded)
        assert child.settled
        assert outcomes == []

    run(test)


def test_a_model_must_not_wait_for_itself() -> None:
    async def test() -> None:
        engine = engine_of(status("a"), status("b"))
        parent = engine.submit(request("a"), [].append)
        with pytest.raises(Internal, match=r"model 'a' would call itself \(a → a\); a model must not wait"):
            child_of(engine, parent, request("a"), [].append)
        child = child_of(engine, parent, request("b"), [].append)
        with pytest.raises(Internal, match=r"model 'a' would call itself \(a → b → a\)"):
            child_of(engine, child, request("a", version="1"), [].append)
        assert engine.admission.admitted_bytes == 32
        assert engine.metrics.of("a", "1").outcomes == {"internal": 2}
        parent.cancel()

    run(test)


def test_calls_are_not_deeper_than_a_limit() -> None:
    async def test() -> None:
        engine = engine_of(*(status(f"m{number}") for number in range(MAX_DEPTH + 1)))
        top = lowest = engine.submit(request("m0"), [].append)
        for number in range(1, MAX_DEPTH):
            lowest = child_of(engine, lowest, request(f"m{number}"), [].append)
        with pytest.raises(Internal, match="model 'm0' calls others more than 16 levels deep"):
            child_of(engine, lowest, request(f"m{MAX_DEPTH}"), [].append)
        top.cancel()
        assert lowest.settled

    run(test)


def test_a_child_is_refused_as_a_request_to_its_model_is() -> None:
    async def test() -> None:
        loading = ModelStatus("c", "1", "LOADING", signatures=SIGNATURES)
        engine = engine_of(status("a"), status("b"), loading, status("d", decoupled=True))
        parent = engine.submit(request("a"), [].append)
        refused: list[tuple[InferRequest, type[ModelportError]]] = [
            (request("b", outputs=("z",)), InvalidRequest),
            (request("c"), Unavailable),
            (request("d"), Unsupported),
        ]
        for each, kind in refused:
            with pytest.raises(kind):
                child_of(engine, parent, each, [].append)
        engine.submit_child(parent, request("d"), [].append, takes_many=True)
        assert not parent.settled
        parent.cancel()

    run(test)


class Nobody:
    def skips(self, model: str, traceparent: str) -> bool:
        return False

    def named(self, record: RequestRecord) -> None:
        record.traced = True

    def ended(self, record: RequestRecord) -> None:
        pass


def test_a_traced_parent_records_its_children() -> None:
    async def test() -> None:
        engine = engine_of(status("a"), status("b"))
        record = RequestRecord(Nobody(), "http", "POST", "/", "")
        parent = engine.submit(record.attach(request("a"), None), [].append)
        answer(child_of(engine, parent, request("b", id="x"), [].append))
        with pytest.raises(InvalidRequest):
            child_of(engine, parent, request("b", outputs=("z",)), [].append)
        child_of(engine, parent, request("b"), [].append)
        parent.cancel()
        described = [(each.model, each.version, each.id, each.outcome) for each in record.children]
        assert described == [("b", "1", "x", "success"), ("b", "", "", "invalid"), ("b", "1", "", "cancelled")]
        assert record.children[0].compute_infer_ns == 3
        assert record.children[0].sent <= record.children[0].answered
        for _ in range(MAX_DESCENDANTS):
            record.children[0].of_child("b", "", "")
        assert len(record.children) + len(record.children[0].children) == MAX_DESCENDANTS
        record.traced = False
        assert record.of_child("b", "", "") is None
        assert record.of_message(1).children == []

    run(test)
