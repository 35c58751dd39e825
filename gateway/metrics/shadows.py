"""The metrics of shadows: what became of the copies, and how much the answers differ from the original's."""

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric

from gateway.engine.shadow_metrics import DIFFERENCE_BUCKETS, RELATIVE_BUCKETS

_LABELS = ["model", "version"]
_HISTOGRAMS = {
    "modelport_shadow_difference": ("absolute", DIFFERENCE_BUCKETS, "Largest |a - b| of an output"),
    "modelport_shadow_relative_difference": (
        "relative", RELATIVE_BUCKETS, "Largest |a - b| of an output, divided by the largest |a|",
    ),
}  # fmt: skip


def shadow_families(totals: Mapping[tuple[str, str], Mapping[str, Any]]) -> Iterator[Metric]:
    """Yield the families of the versions that have been a shadow."""
    shadows = {key: total["shadow"] for key, total in totals.items() if "shadow" in total}
    requests = CounterMetricFamily(
        "modelport_shadow_requests", "Copies of requests for a shadow, by outcome", labels=[*_LABELS, "outcome"]
    )
    rows = CounterMetricFamily(
        "modelport_shadow_best_class_rows",
        "Rows of scores whose highest is at the same class as the original's, or not",
        labels=[*_LABELS, "output", "agrees"],
    )
    histograms = {
        name: HistogramMetricFamily(name, text, labels=[*_LABELS, "output"])
        for name, (_, _, text) in _HISTOGRAMS.items()
    }
    for key, shadow in shadows.items():
        for outcome, count in shadow["outcomes"].items():
            requests.add_metric([*key, outcome], count)
        for output, found in shadow["outputs"].items():
            for name, (kind, bounds, _) in _HISTOGRAMS.items():
                edges = [*map(str, map(float, bounds)), "+Inf"]
                buckets = list(zip(edges, accumulate(found[kind]["counts"]), strict=True))
                histograms[name].add_metric([*key, output], buckets, found[kind]["total"])
            if found["same"] or found["different"]:
                rows.add_metric([*key, output, "true"], found["same"])
                rows.add_metric([*key, output, "false"], found["different"])
    yield from (requests, *histograms.values(), rows)
