"""What identities have used and what their quotas refused, summed over the fronts."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, Metric

Counts = dict[str, Any]
_NUMBERS = ("requests", "input_bytes", "compute_s")


class IdentityAggregator:
    """Sums the fronts' cumulative snapshots by identity, as MetricsAggregator does by model."""

    def __init__(self) -> None:
        live: dict[int, list[Counts]] = {}
        past: dict[str, Counts] = {}
        self._live_and_past = live, past

    def update(self, front: int, snapshots: list[Counts]) -> None:
        live, past = self._live_and_past
        self._live_and_past = {**live, front: snapshots}, past

    def retire(self, front: int) -> None:
        """Keep the counters of a front that has ended."""
        live, past = self._live_and_past
        remaining = {number: snapshots for number, snapshots in live.items() if number != front}
        self._live_and_past = remaining, _sum(chain(past.values(), live.get(front, [])))

    def totals(self) -> dict[str, Counts]:
        live, past = self._live_and_past
        return _sum(chain(past.values(), *live.values()))


def _sum(snapshots: Iterable[Counts]) -> dict[str, Counts]:
    totals: dict[str, Counts] = {}
    for counts in snapshots:
        name = counts["identity"]
        total = totals.setdefault(name, {"identity": name, **dict.fromkeys(_NUMBERS, 0), "refused": {}})
        for number in _NUMBERS:
            total[number] += counts[number]
        for limit, refused in counts["refused"].items():
            total["refused"][limit] = total["refused"].get(limit, 0) + refused
    return totals


def identity_families(totals: Mapping[str, Counts]) -> Iterator[Metric]:
    """Yield nothing if the server has no identities."""
    if not totals:
        return
    label = ["identity"]
    requests = CounterMetricFamily("modelport_identity_requests", "Requests admitted, by who sent them", labels=label)
    input_bytes = CounterMetricFamily("modelport_identity_input_bytes", "Bytes of their inputs", labels=label)
    compute_s = CounterMetricFamily(
        "modelport_identity_compute_seconds", "Time that models computed for them", labels=label
    )
    refused = CounterMetricFamily(
        "modelport_identity_refused", "Requests refused by a limit of who sent them", labels=[*label, "limit"]
    )
    for name, total in totals.items():
        requests.add_metric([name], total["requests"])
        input_bytes.add_metric([name], total["input_bytes"])
        compute_s.add_metric([name], total["compute_s"])
        for limit, number in total["refused"].items():
            refused.add_metric([name, limit], number)
    yield from (requests, input_bytes, compute_s, refused)
