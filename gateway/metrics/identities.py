"""What identities have used and what their quotas refused, summed over the fronts."""

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, Metric

Counts = dict[str, Any]
_NUMBERS = ("requests", "input_bytes", "compute_s")


def add_identity(totals: dict[str, Counts], counts: Counts) -> None:
    """Add the counts of an identity to those of its name: see FrontSums."""
    name = counts["identity"]
    total = totals.setdefault(name, {"identity": name, **dict.fromkeys(_NUMBERS, 0), "refused": {}})
    for number in _NUMBERS:
        total[number] += counts[number]
    for limit, refused in counts["refused"].items():
        total["refused"][limit] = total["refused"].get(limit, 0) + refused


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
