"""Requests that wait for a model that has never been loaded, in a front without workers."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.identity import Identity
from gateway.domain.quota import UNLIMITED, Quota
from gateway.domain.table import Table, TableEntry
from gateway.domain.traffic import Traffic
from gateway.domain.types import InferRequest, ModelStatus, NotLoaded
from gateway.engine.admission import AdmissionLimits
from gateway.engine.engine import FrontEngine
from gateway.engine.usage import Usages
from gateway.errors import DeadlineExceeded, ModelportError, OutOfMemory, Overloaded, Unavailable
from runtimes.contract import Signature, TensorSpec
from runtimes.tensors import Tensor

_SIGNATURES = {"default": Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),))}
REQUEST = InferRequest("m", [Tensor("x", "FP32", (1,), b"\0" * 4)])


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def status(state: str, **values: Any) -> ModelStatus:
    return ModelStatus("m", "1", state, **{"admits": state != "UNAVAILABLE", **values})


class Front:
    """An engine, and what it has asked the supervisor for."""

    def __init__(self, **limits: Any) -> None:
        self.wanted: list[tuple[str, str]] = []
        self.outcomes: list[Any] = []
        self.engine = FrontEngine(
            1, AdmissionLimits(**limits), self._control, want=lambda *key: self.wanted.append(key)
        )

    async def _control(self, request: Any) -> None:
        raise AssertionError(request)

    def table(self, *statuses: ModelStatus) -> None:
        self.engine.apply(Table(tuple(TableEntry(each) for each in statuses), True))

    def submit(self, identity: Identity | None = None) -> Any:
        """Submit a request, which waits if its model has never been loaded."""
        try:
            return self.engine.submit(REQUEST, self.outcomes.append, identity)
        except NotLoaded as unloaded:
            go_on = partial(self.submit, identity)
            return self.engine.when_loaded(unloaded, go_on, self.outcomes.append, 10, identity=identity)


def test_requests_wait_in_order_and_ask_for_one_load() -> None:
    async def test() -> None:
        front = Front()
        front.table(status("UNLOADED"))
        for _ in range(3):
            front.submit()
        assert front.wanted == [("m", "1")]
        assert (front.engine.admission.requests, front.engine.admission.admitted_bytes) == (3, 30)
        front.table(status("LOADING"))
        assert not front.outcomes
        front.table(status("LOADING", signatures=_SIGNATURES))
        (servable,) = front.engine.routes.servables()
        assert servable.queued == 3  # as for any worker that is not there yet
        assert (front.engine.admission.requests, front.wanted) == (3, [("m", "1")])

    run(test)


def test_a_model_that_was_unloaded_again_is_wanted_again() -> None:
    async def test() -> None:
        front = Front()
        front.table(status("UNLOADED", signatures=_SIGNATURES))
        handle = front.submit()
        assert front.wanted == [("m", "1")]
        front.table(status("LOADING", signatures=_SIGNATURES))
        front.table(status("UNLOADED", signatures=_SIGNATURES))
        assert front.wanted == [("m", "1")] * 2  # its request is still there
        handle.cancel()
        front.table(status("UNLOADED", signatures=_SIGNATURES, reason="another one"))
        assert len(front.wanted) == 2
        assert not list(front.engine.routes.servables())  # nothing is kept for a model that nobody uses

    run(test)


@pytest.mark.parametrize(
    ("statuses", "kind", "says"),
    [
        ([status("UNAVAILABLE", reason="it is broken")], Unavailable, "it is broken"),
        ([status("UNAVAILABLE", reason="too large", error_kind="out_of_memory")], OutOfMemory, "too large"),
        ([], Unavailable, "was unloaded"),
    ],
)
def test_all_learn_why_it_is_not_loaded(statuses: list[ModelStatus], kind: type[ModelportError], says: str) -> None:
    async def test() -> None:
        front = Front()
        front.table(status("UNLOADED"))
        front.submit()
        front.submit()
        front.table(*statuses)
        assert [(type(each), says in str(each)) for each in front.outcomes] == [(kind, True)] * 2
        assert not front.engine.admission.requests

    run(test)


def test_waiting_ends_with_the_deadline_or_the_client() -> None:
    async def test() -> None:
        front = Front(timeout_s=0.01)
        front.table(status("UNLOADED"))
        front.submit().cancel()
        assert not front.engine.admission.requests
        front.submit()
        async with asyncio.timeout(5):
            while not front.outcomes:  # noqa: ASYNC110 - the deadline has no event
                await asyncio.sleep(0.001)
        assert isinstance(front.outcomes[0], DeadlineExceeded)
        front.table(status("READY", signatures=_SIGNATURES))
        assert len(front.outcomes) == 1

    run(test)


def test_the_limits_hold_for_those_that_wait() -> None:
    async def test() -> None:
        front = Front(max_requests=2)
        front.table(status("UNLOADED"))
        front.submit()
        front.submit()
        with pytest.raises(Overloaded):
            front.submit()
        front.engine.draining = True
        with pytest.raises(Unavailable, match="shutting down"):
            front.submit()

    run(test)


def test_a_request_waits_again_if_another_version_is_chosen_that_was_never_loaded() -> None:
    async def test() -> None:
        front = Front()
        version = {name: ModelStatus("m", name, "UNLOADED", admits=True) for name in ("3", "4")}
        parent = ModelStatus("parent", "1", "READY", admits=True, signatures=_SIGNATURES, calls_models=True)
        chosen = iter(["3", "4", "4"] * 2)
        front.engine.routes.choice.choose = (  # type: ignore[method-assign]
            lambda request, identity: next(chosen) if request.model == "m" else ""
        )

        def table() -> None:
            front.table(*version.values(), parent)

        table()
        caller = front.engine.submit(REQUEST._replace(model="parent"), print)
        asked = asyncio.ensure_future(front.engine.infer(REQUEST))
        await asyncio.sleep(0)
        version["3"] = ModelStatus("m", "3", "READY", admits=True, signatures=_SIGNATURES)
        table()
        assert front.wanted == [("m", "3"), ("m", "4")]
        assert not asked.done()
        version["4"] = ModelStatus("m", "4", "READY", admits=True, signatures=_SIGNATURES)
        table()
        queues = {servable.status.version: servable.queued for servable in front.engine.routes.servables()}
        assert queues == {"3": 0, "4": 1, "1": 1}
        for name in ("3", "4"):
            version[name] = ModelStatus("m", name, "UNLOADED", admits=True)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        table()
        front.engine.submit_child(caller, REQUEST, front.outcomes.append)
        version["3"] = ModelStatus("m", "3", "READY", admits=True, signatures=_SIGNATURES)
        table()
        assert not front.outcomes
        assert front.engine.admission.requests == 1

    run(test)


def test_what_waited_before_a_drain_is_still_answered() -> None:
    async def test() -> None:
        front = Front()
        front.table(status("UNLOADED"))
        front.submit()
        draining = asyncio.create_task(front.engine.drain(60))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="shutting down"):
            front.submit()
        front.table(status("READY", signatures=_SIGNATURES))
        assert front.outcomes == []
        (servable,) = front.engine.routes.servables()
        assert servable.queued == 1
        for _ in range(3):
            await asyncio.sleep(0)
        assert not draining.done()
        servable.fail_all(Unavailable("done"))
        await draining

    run(test)


@pytest.mark.parametrize(
    ("limit", "quota", "says"), [(4, UNLIMITED, "your share"), (8, Quota(in_flight=2), "in flight")]
)
def test_who_waits_leaves_room_for_others(limit: int, quota: Quota, says: str, tmp_path: Path) -> None:
    async def test() -> None:
        front = Front(max_requests=limit)
        front.engine.usages = Usages(front.engine.admission, tmp_path / "usage", 1)
        front.table(status("UNLOADED"), replace(status("UNLOADED"), name="other"))
        usages = [front.engine.usages.of(name, quota) for name in ("many", "few")]
        many, few = (Identity("name", {"infer": ["*"]}, usage=usage) for usage in usages)
        front.engine.admission._share = limit
        first = front.submit(many)
        front.submit(many)
        with pytest.raises(Overloaded, match=says):
            front.submit(many)
        front.submit(few)
        assert (front.engine.admission.requests, front.engine.admission.admitted_bytes) == (3, 30)
        first.cancel()
        front.submit(many)
        front.table(status("READY", signatures=_SIGNATURES))  # all of them go on as requests
        assert (front.outcomes, front.engine.admission.requests) == ([], 3)
        for servable in list(front.engine.routes.servables()):
            servable.fail_all(Unavailable("done"))
        assert [(usage.requests, usage.bytes) for usage in usages] == [(0, 0)] * 2

    run(test)


def test_a_version_that_cannot_be_loaded_leaves_its_share_of_waiting_requests_to_the_others() -> None:
    async def test() -> None:
        front = Front()

        def table(newest: str) -> None:
            statuses = (
                ModelStatus("m", "3", "READY", admits=True, signatures=_SIGNATURES),
                ModelStatus("m", "4", newest, "it is corrupt", admits=newest == "UNLOADED"),
            )
            traffic = {"m": Traffic({"3": 1, "4": 1e9})}
            front.engine.apply(Table(tuple(map(TableEntry, statuses)), True, traffic=traffic))

        table("UNLOADED")
        asked = [asyncio.ensure_future(front.engine.infer(REQUEST._replace(version=version))) for version in ("", "4")]
        await asyncio.sleep(0)
        assert front.wanted == [("m", "4")]
        table("UNAVAILABLE")
        await asyncio.sleep(0)
        assert [servable.status.version for servable in front.engine.routes.servables() if servable.queued] == ["3"]
        with pytest.raises(Unavailable, match="it is corrupt"):
            await asked[1]
        counts = {each["version"]: each["outcomes"] for each in front.engine.snapshot()}
        assert counts["4"] == {"unavailable": 1}
        asked[0].cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        assert front.engine.admission.requests == 0

    run(test)
