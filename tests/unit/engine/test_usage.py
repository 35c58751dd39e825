"""Quotas: what several fronts count together, what is refused and until when, and the room that identities share."""

import asyncio
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.control import ControlRequest
from gateway.domain.identity import Identity
from gateway.domain.quota import UNLIMITED, Quota
from gateway.domain.table import Table, TableEntry
from gateway.domain.types import InferRequest
from gateway.engine.admission import AdmissionController, AdmissionLimits, AdmissionReservation
from gateway.engine.engine import FrontEngine
from gateway.engine.identity_metrics import OTHERS, IdentityMetrics
from gateway.engine.usage import IdentityUsage, Usages
from gateway.errors import DeadlineExceeded, Overloaded, QuotaExceeded
from gateway.process import usage_page
from gateway.process.usage_page import clear_front
from runtimes.contract import TensorSpec
from runtimes.tensors import Tensor
from tests.support.front_server import model


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Fronts:
    """Several fronts that share a page, as they do in a gateway."""

    def __init__(self, path: Path, count: int) -> None:
        self.clock = Clock()
        self.path = path / "usage"
        self.each = [self.start(number) for number in range(1, count + 1)]

    def start(self, number: int) -> Usages:
        return Usages(AdmissionController(AdmissionLimits()), self.path, number, self.clock)

    def usages(self, quota: Quota, name: str = "alice") -> list[IdentityUsage]:
        return [front.of(name, quota) for front in self.each]


def admitted(usage: IdentityUsage, size: int = 0) -> bool:
    try:
        usage.admit(size)
    except QuotaExceeded:
        return False
    return True


@pytest.mark.parametrize("fronts", [1, 2, 5])
def test_the_rate_holds_for_all_fronts_together(tmp_path: Path, fronts: int) -> None:
    """Each front gets more requests than the limit allows, at odd times; 20 s of them are admitted, and the burst."""
    gateway = Fronts(tmp_path, fronts)
    usages = gateway.usages(Quota(requests_per_second=50, burst=10))
    count = 0
    for tick in range(20_000):
        gateway.clock.now += 0.001
        usage = usages[tick * 7 % fronts]
        if admitted(usage):
            count += 1
            usage.end(0)
    assert count == pytest.approx(20 * 50 + 10, abs=1)


def test_a_limit_that_one_front_has_used_up_is_used_up_in_a_front_that_starts_later(tmp_path: Path) -> None:
    gateway = Fronts(tmp_path, 1)
    quota = Quota(requests_per_second=1, burst=5)
    (first,) = gateway.usages(quota)
    assert [admitted(first) for _ in range(6)] == [True] * 5 + [False]
    later = gateway.start(2).of("alice", quota)
    assert not admitted(later)
    assert admitted(gateway.start(3).of("bob", quota))


def test_a_refusal_says_the_limit_and_when_to_try_again(tmp_path: Path) -> None:
    gateway = Fronts(tmp_path, 1)
    (usage,) = gateway.usages(Quota(requests_per_second=0.1))
    usage.admit(0)
    gateway.clock.now += 2.5
    with pytest.raises(
        QuotaExceeded, match=r"^your limit of 0\.1 requests per second is reached; try again in 8 s$"
    ) as refused:
        usage.admit(0)
    assert (refused.value.limit, refused.value.retry_after_s) == ("requests_per_second", 8)
    assert (refused.value.status, refused.value.code) == (429, "RESOURCE_EXHAUSTED")
    gateway.clock.now += refused.value.retry_after_s
    usage.admit(0)


def test_bytes_are_limited_and_a_large_request_leaves_a_debt(tmp_path: Path) -> None:
    gateway = Fronts(tmp_path, 2)
    one, two = gateway.usages(Quota(bytes_per_second=1000))
    assert admitted(one, 600)
    with pytest.raises(QuotaExceeded, match="your limit of 1000 bytes of input per second") as refused:
        two.admit(600)
    assert refused.value.retry_after_s == 1
    assert admitted(two, 400)
    gateway.clock.now += 1
    assert admitted(one, 5000)  # more than comes in during a second, when nothing was used
    gateway.clock.now += 3.9
    assert not admitted(two, 1)
    gateway.clock.now += 0.2
    assert admitted(two, 1)


def test_a_body_that_would_be_refused_is_refused_before_it_is_received(tmp_path: Path) -> None:
    gateway = Fronts(tmp_path, 1)
    (usage,) = gateway.usages(Quota(bytes_per_second=1000, requests_per_second=1, burst=2))
    usage.admit(500)
    with pytest.raises(QuotaExceeded, match="1000 bytes of input per second"):
        usage.reserve(600, 0)
    usage.admit(0)
    with pytest.raises(QuotaExceeded, match="1 request per second"):
        usage.reserve(0, 0)
    gateway.clock.now += 2
    usage.reserve(900, 0)
    usage.admit(300)
    with pytest.raises(QuotaExceeded):
        usage.reserve(100, 900)  # it has no Content-Length, and goes on
    usage.reserve(5000, 900, is_input=False)  # memory to decode it
    usage.unreserve(5900)


def test_memory_that_is_asked_for_again_is_refused_once_if_at_all() -> None:
    """An image waits for others of the same client, and asks whenever one of them has been decoded."""
    admission = AdmissionController(AdmissionLimits(max_bytes=1000))
    usages = Usages(admission)
    usage, _bob = usages.of("alice"), usages.of("bob")
    for gets_room, refused in ((True, {}), (False, {"share": 1})):
        image, other = [AdmissionReservation(admission, lambda *outcome: None, "m", "1", usage) for _ in range(2)]
        image.reserve(10)
        other.reserve(600, is_input=False)
        for _ in range(3):
            with pytest.raises(Overloaded, match="your share") as caught:
                image.reserve(300, is_input=False)
        if gets_room:
            other.release(600)
            image.reserve(300, is_input=False)
        image.close(None if gets_room else caught.value)
        other.close()
        (counted,) = [each for each in usages.snapshot() if each["identity"] == "alice"]
        assert counted["refused"] == refused


def test_compute_time_is_charged_afterwards_and_may_leave_a_debt(tmp_path: Path) -> None:
    gateway = Fronts(tmp_path, 2)
    one, two = gateway.usages(Quota(compute_seconds_per_minute=6))
    for _ in range(3):
        one.admit(0)
    one.charge(5.9)
    assert admitted(two)
    two.charge(0.7)
    gateway.clock.now += 0.02  # what was admitted in advance
    with pytest.raises(
        QuotaExceeded, match="your limit of 6 seconds of compute time per minute is reached; try again in 6 s"
    ):
        one.admit(0)
    gateway.clock.now += 6.1
    assert admitted(one)


@pytest.mark.parametrize("fronts", [1, 2, 5])
def test_high_rates_are_taken_in_advance_and_hold_nevertheless(tmp_path: Path, fronts: int) -> None:
    gateway = Fronts(tmp_path, fronts)
    usages = gateway.usages(Quota(requests_per_second=10_000, burst=500, bytes_per_second=5e5))
    count = 0
    for tick in range(40_000):  # a second of four times the rate
        gateway.clock.now += 0.000_025
        usage = usages[tick * 7 % fronts]
        if admitted(usage, 10):
            count += 1
            usage.end(10)
    assert count == pytest.approx(10_500, rel=0.01)
    for _ in range(200):  # now the bytes
        gateway.clock.now += 0.01
        for usage in usages:
            if admitted(usage, 10_000):
                count += 1
                usage.end(10_000)
    assert count - 10_500 == pytest.approx((5e5 * 3 - 10_500 * 10) / 10_000, rel=0.1)


def test_requests_in_flight_that_are_admitted_in_advance_exceed_the_limit_by_little(tmp_path: Path) -> None:
    gateway = Fronts(tmp_path, 4)
    usages = gateway.usages(Quota(in_flight=1000))
    for usage in usages:
        usage.admit(0)  # each takes permits in advance
    admitted_by_one = sum(admitted(usages[0]) for _ in range(2000))
    others = sum(admitted(usage) for usage in usages[1:] for _ in range(2000))
    assert 1000 <= 4 + admitted_by_one + others <= 1100


def test_requests_in_flight_are_limited_over_all_fronts_and_a_front_that_dies_frees_its_own(tmp_path: Path) -> None:
    gateway = Fronts(tmp_path, 2)
    one, two = gateway.usages(Quota(in_flight=3))
    one.admit(0)
    two.admit(0)
    two.admit(0)
    with pytest.raises(QuotaExceeded, match=r"^your limit of 3 requests in flight is reached; try again when one"):
        one.admit(0)
    one.end(0)
    assert admitted(one)
    assert not admitted(two)
    clear_front(gateway.path, 2)
    (successor,) = [gateway.start(3).of("alice", Quota(in_flight=3))]
    assert [admitted(successor) for _ in range(3)] == [True, True, False]


def test_the_supervisor_makes_no_page_that_no_front_has_used(tmp_path: Path) -> None:
    clear_front(tmp_path / "usage", 1)
    assert not list(tmp_path.iterdir())


def test_a_new_quota_applies_to_what_was_used_before(tmp_path: Path) -> None:
    gateway = Fronts(tmp_path, 1)
    (usage,) = gateway.usages(Quota(requests_per_second=100, in_flight=1))
    usage.admit(0)
    assert gateway.usages(UNLIMITED) == [usage]
    usage.admit(0)
    usage.end(0)
    usage.end(0)
    gateway.usages(Quota(in_flight=1))
    assert [admitted(usage), admitted(usage)] == [True, False]


def test_compute_time_from_before_there_was_a_quota_is_not_charged(tmp_path: Path) -> None:
    gateway = Fronts(tmp_path, 1)
    (usage,) = gateway.usages(UNLIMITED)
    usage.admit(0)
    usage.charge(1000)
    gateway.usages(Quota(compute_seconds_per_minute=6))
    usage.charge(0.1)
    assert admitted(usage)


def test_slots_are_used_again_and_who_finds_none_shares_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_page, "SLOTS", 3)  # the shared one, and two
    gateway = Fronts(tmp_path, 1)
    (front,) = gateway.each
    quota = Quota(requests_per_second=1, in_flight=1)
    first, second, third, fourth = [front.of(name, quota) for name in ("a", "b", "c", "d")]
    assert [admitted(usage) for usage in (first, second)] == [True, True]
    gateway.clock.now += 5  # the buckets of all are full again, but requests are in flight
    assert admitted(third)
    assert not admitted(fourth)  # by what the third has used
    first.end(0)
    gateway.clock.now += 5
    assert admitted(fourth)  # in the slot of the first
    assert not admitted(first)  # which now shares with the third
    third.end(0)
    gateway.clock.now += 5
    assert admitted(first)
    for usage in (first, second, fourth):
        usage.end(0)
    assert not any(front.page.in_flight(slot * usage_page.STRIDE) for slot in range(3))


def test_names_of_token_issuers_do_not_fill_the_metrics() -> None:
    metrics = IdentityMetrics()
    for number in range(1000):
        metrics.of(f"subject {number}").requests += 1
    snapshot = metrics.snapshot()
    assert len(snapshot) <= 201
    assert snapshot[-1]["identity"] == OTHERS
    assert sum(counts["requests"] for counts in snapshot) == 1000


def test_what_an_identity_has_used_is_counted_when_it_is_gone(tmp_path: Path) -> None:
    front = Fronts(tmp_path, 1).each[0]
    usage = front.of("alice")
    for size in (3, 4):
        usage.admit(size)
        usage.end(size)
        assert [(each["requests"], each["input_bytes"]) for each in front.snapshot()] == [(size - 2, 4 * size - 9)]
    usage.admit(5)
    usage.end(5)
    del usage
    gc.collect()
    assert [(each["requests"], each["input_bytes"]) for each in front.snapshot()] == [(3, 12)]


# -- the room that identities share, and the engine ---------------------------------------------------------------


async def control(request: ControlRequest[Any]) -> None:
    raise AssertionError(request)


def waiting_engine(limits: AdmissionLimits) -> FrontEngine:
    """Serves 'm', whose worker is being restarted, so that admitted requests wait."""
    engine = FrontEngine(1, limits, control)
    engine.apply(Table((TableEntry(model("m", TensorSpec("x", "UINT8", (-1,)), admits=True)),), True))
    return engine


def request(size: int = 1) -> InferRequest:
    return InferRequest("m", [Tensor("x", "UINT8", (size,), bytes(size))])


def identity(engine: FrontEngine, name: str, quota: Quota = UNLIMITED) -> Identity:
    return Identity(name, {"infer": ("*",)}, usage=engine.usages.of(name, quota))


def count_until_refused(engine: FrontEngine, who: Identity, size: int = 1) -> int:
    count = 0
    while True:
        try:
            engine.submit(request(size), lambda outcome: None, who)
        except Overloaded:
            return count
        count += 1


def test_an_identity_alone_has_all_the_room_and_beside_others_leaves_some() -> None:
    async def run() -> None:
        engine = waiting_engine(AdmissionLimits(max_requests=12))
        alone = identity(engine, "alone")
        assert count_until_refused(engine, alone) == 12
        engine = waiting_engine(AdmissionLimits(max_requests=12))
        greedy, second, third = (identity(engine, name) for name in ("greedy", "second", "third"))
        assert count_until_refused(engine, greedy) == 6  # as many as are left
        assert count_until_refused(engine, second) == 3
        assert count_until_refused(engine, third) >= 1
        engine = waiting_engine(AdmissionLimits(max_bytes=1000))
        greedy, second = identity(engine, "greedy"), identity(engine, "second")
        assert count_until_refused(engine, greedy, 100) == 5
        assert count_until_refused(engine, second, 100) >= 2

    asyncio.run(run())


def test_bodies_that_are_being_received_leave_room_for_others() -> None:
    engine = waiting_engine(AdmissionLimits(max_bytes=1000))
    greedy, second = identity(engine, "greedy"), identity(engine, "second")
    bodies = [engine.reserve_body("m", "", greedy) for _ in range(10)]
    refused = 0
    for body in bodies:
        try:
            body.reserve(100)
        except Overloaded as error:
            refused += 1
            body.close(error)
    assert refused == 5
    with engine.reserve_body("m", "", second) as body:
        body.reserve(100)
    with engine.reserve_body("m", "", second) as alone:  # the only one of this identity may be large
        alone.reserve(400)


def test_however_a_request_ends_it_no_longer_counts() -> None:
    async def run() -> None:
        engine = waiting_engine(AdmissionLimits())
        who = identity(engine, "someone", Quota(in_flight=1))
        usage = who.usage
        assert isinstance(usage, IdentityUsage)
        late = request()._replace(deadline=0.0)
        with pytest.raises(DeadlineExceeded):
            engine.submit(late, lambda outcome: None, who)
        handle = engine.submit(request(), lambda outcome: None, who)
        with pytest.raises(QuotaExceeded):
            engine.submit(request(), lambda outcome: None, who)
        assert (usage.requests, usage.bytes, engine.admission.requests) == (1, 1, 1)
        handle.cancel()
        outcomes: list[object] = []
        engine.submit(request(), outcomes.append, who)
        await engine.drain(0.0)
        assert len(outcomes) == 1
        assert (usage.requests, usage.bytes, engine.admission.requests) == (0, 0, 0)
        (counts,) = engine.usages.snapshot()
        assert counts == {
            "identity": "someone", "requests": 2, "input_bytes": 2, "compute_s": 0.0, "refused": {"in_flight": 1}
        }  # fmt: skip
        (figures,) = [each for each in engine.snapshot() if each["model"] == "m"]
        assert figures["outcomes"]["quota"] == 1

    asyncio.run(run())


def test_a_limit_that_begins_counts_the_requests_in_progress(tmp_path: Path) -> None:
    """Otherwise each of them that ends would give back one that it has not taken."""
    (usage,) = Fronts(tmp_path, 1).usages(UNLIMITED)
    assert all(admitted(usage) for _ in range(3))
    usage.configure(Quota(in_flight=2))
    assert not admitted(usage)
    usage.end(0)
    assert not admitted(usage)
    usage.end(0)
    assert admitted(usage)
    assert not admitted(usage)
    usage.configure(Quota(requests_per_second=1))
    usage.end(0)
    usage.configure(Quota(in_flight=2))
    assert admitted(usage)
    assert not admitted(usage)


class Values:
    """Stands for the inputs of a request."""


@pytest.mark.parametrize("quota", [Quota(requests_per_second=0.1), Quota(in_flight=1), Quota(bytes_per_second=1)])
def test_what_a_quota_refuses_leaves_memory_at_once(tmp_path: Path, quota: Quota) -> None:
    """Not when the garbage collector runs: a client could fill the memory."""
    (usage,) = Fronts(tmp_path, 1).usages(quota)
    assert admitted(usage, 1)

    def refused() -> "weakref.ref[Values]":
        values = Values()
        assert not admitted(usage, 1)
        return weakref.ref(values)

    gc.disable()
    try:
        assert refused()() is None
    finally:
        gc.enable()
