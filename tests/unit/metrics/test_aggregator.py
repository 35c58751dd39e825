"""Sums of the fronts' metrics while fronts end."""

from collections.abc import Callable, Iterator
from typing import Any

from gateway.engine.metrics import FrontMetrics
from gateway.metrics.collector import GatewayCollector, MetricsAggregator


class Watched(dict[str, Any]):
    """A snapshot that calls `look` when it is read, as a scrape on another thread may happen at any time."""

    look: Callable[[], None] = staticmethod(lambda: None)

    def __getitem__(self, key: str) -> Any:
        self.look()
        return super().__getitem__(key)

    def __iter__(self) -> Iterator[str]:
        """Needed because {**snapshot} calls __getitem__ only if __iter__ is overridden."""
        return super().__iter__()


def snapshot(requests: int) -> Watched:
    metrics = FrontMetrics()
    for _ in range(requests):
        metrics.of("m", "1").count("success", 0.001)
    (made,) = metrics.snapshot()
    return Watched(made)


def test_no_counter_decreases_while_a_front_ends() -> None:
    aggregator = MetricsAggregator()
    seen: list[int] = []

    def look() -> None:
        Watched.look = staticmethod(lambda: None)
        seen.append(aggregator.totals()["m", "1"]["outcomes"]["success"])
        Watched.look = staticmethod(look)

    aggregator.update(1, [snapshot(3)])
    aggregator.update(2, [snapshot(4)])
    aggregator.retire(1)
    aggregator.update(3, [snapshot(5)])
    Watched.look = staticmethod(look)
    try:
        aggregator.retire(2)
    finally:
        Watched.look = staticmethod(lambda: None)
    look()
    assert len(seen) > 1
    assert set(seen) == {12}


def test_counters_of_an_ended_front_stay_and_its_gauges_are_dropped() -> None:
    aggregator = MetricsAggregator()
    aggregator.update(1, [{**snapshot(3), "queued": 7, "in_flight": 8}])
    aggregator.retire(1)
    aggregator.retire(1)
    aggregator.update(2, [{**snapshot(4), "queued": 1, "in_flight": 2}])
    total = aggregator.totals()["m", "1"]
    assert (total["outcomes"], total["queued"], total["in_flight"]) == ({"success": 7}, 1, 2)


def collected(metrics: FrontMetrics) -> dict[tuple[str, str], float]:
    """Return the values of all samples by name and the label that tells them apart."""
    aggregator = MetricsAggregator()
    aggregator.update(1, metrics.snapshot())
    families = GatewayCollector(aggregator, tuple).collect()
    labels = ("outcome", "reason")
    return {
        (sample.name, next((sample.labels[each] for each in labels if each in sample.labels), "")): sample.value
        for family in families
        for sample in family.samples
    }


def test_tritons_duration_is_that_of_successful_requests() -> None:
    """As in Triton, where it is divided by nv_inference_request_success."""
    metrics = FrontMetrics()
    model = metrics.of("m", "1")
    model.finished += [0.25, 0.5]
    model.outcomes["success"] = 2
    model.count("internal", 4.0)
    samples = collected(metrics)
    assert samples["nv_inference_request_duration_us", ""] == 750_000
    assert samples["modelport_request_duration_seconds_sum", ""] == 4.75


def test_failures_have_tritons_reasons() -> None:
    metrics = FrontMetrics()
    outcomes = ("overloaded", "quota", "deadline", "cancelled", "internal", "out_of_memory", "invalid", "unavailable")
    for outcome in outcomes:
        metrics.of("m", "1").count(outcome, 0.0)
    samples = collected(metrics)
    reasons = {reason: value for (name, reason), value in samples.items() if name == "nv_inference_request_failure"}
    assert reasons == {"REJECTED": 3, "CANCELED": 1, "BACKEND": 2, "OTHER": 2}


def test_outcomes_of_the_server_exist_before_they_occur() -> None:
    """Otherwise, rate() would not see the first failures of a model."""
    metrics = FrontMetrics()
    metrics.of("m", "1").count("invalid", 0.0)
    samples = collected(metrics)
    outcomes = {outcome: value for (name, outcome), value in samples.items() if name == "modelport_requests_total"}
    faults = ("internal", "unavailable", "overloaded", "deadline", "out_of_memory")
    assert outcomes == {"invalid": 1, "success": 0, **dict.fromkeys(faults, 0)}
    unknown = FrontMetrics()
    unknown.of("", "").count("not_found", 0.0)
    assert ("modelport_requests_total", "internal") not in collected(unknown)
