"""Sums of the fronts' metrics while fronts end."""

from collections.abc import Callable, Iterator
from typing import Any

from gateway.engine.metrics import FrontMetrics
from gateway.metrics.collector import MetricsAggregator


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
