"""Turns the fronts' metrics and the supervisor's own into Prometheus' metric families.

They are served at /metrics by every front and on the metrics port. Names are modelport_*, in base units. There are also
nv_* names, which dashboards and autoscalers for Triton query.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from gateway.engine.metrics import CACHE_COUNTERS, CACHE_GAUGES, DURATION_BUCKETS, HISTOGRAMS, ROW_BUCKETS
from gateway.engine.shadow_metrics import add_shadows
from gateway.metrics.cache import cache_families
from gateway.metrics.front_sums import FrontSums
from gateway.metrics.identities import add_identity, identity_families
from gateway.metrics.shadows import shadow_families

MetricsSnapshot = dict[str, Any]
Key = tuple[str, str]

_LABELS = ["model", "version"]
# Outcomes that are exported with 0 before they occur. Prometheus' rate() does not count the first value of a series,
# so alerts would miss the first failures of a model.
_FROM_START = dict.fromkeys(("success", "internal", "unavailable", "overloaded", "deadline", "out_of_memory"), 0)
_SUMS = (
    "rows", "executions", "execution_s", "failed_s", "succeeded_s", "in_flight", "queued", *CACHE_COUNTERS,
    *CACHE_GAUGES,
)  # fmt: skip
_HISTOGRAM_HELP = {
    "request": ("modelport_request_duration_seconds", "Time from a request's arrival to its answer"),
    "queue": ("modelport_queue_duration_seconds", "Time that a request waited in its front and at its worker"),
    "compute_input": ("modelport_compute_input_duration_seconds", "Time to put a batch's inputs together"),
    "compute_infer": ("modelport_compute_infer_duration_seconds", "Time that the model computed, per request"),
    "compute_output": ("modelport_compute_output_duration_seconds", "Time to split a batch's outputs"),
    "batch_rows": ("modelport_batch_rows", "Rows per executed batch"),
}
# Triton's reasons of failures, which all exist from the start; further outcomes are OTHER.
_NV_REASONS = {
    "overloaded": "REJECTED",
    "quota": "REJECTED",
    "deadline": "REJECTED",
    "cancelled": "CANCELED",
    "internal": "BACKEND",
    "out_of_memory": "BACKEND",
}
_NV_DURATIONS = {
    "nv_inference_request_duration_us": ("request", "Cumulative request time, microseconds"),
    "nv_inference_queue_duration_us": ("queue", "Cumulative queue time, microseconds"),
    "nv_inference_compute_input_duration_us": ("compute_input", "Cumulative input time, microseconds"),
    "nv_inference_compute_infer_duration_us": ("compute_infer", "Cumulative inference time, microseconds"),
    "nv_inference_compute_output_duration_us": ("compute_output", "Cumulative output time, microseconds"),
}


class MetricsAggregator:
    """Sums the fronts' snapshots by model, and by identity."""

    def __init__(self) -> None:
        self._models = FrontSums(_add, gauges=("in_flight", "queued", *CACHE_GAUGES))
        self.identities = FrontSums(add_identity)

    def update(
        self, front: int, snapshots: list[MetricsSnapshot], identities: list[MetricsSnapshot] | None = None
    ) -> None:
        self.identities.update(front, identities or [])
        self._models.update(front, snapshots)

    def retire(self, front: int) -> None:
        """See FrontSums."""
        self.identities.retire(front)
        self._models.retire(front)

    def totals(self) -> dict[Key, MetricsSnapshot]:
        return self._models.totals()


def _add(totals: dict[Key, MetricsSnapshot], snapshot: MetricsSnapshot) -> None:
    key = (snapshot["model"], snapshot["version"])
    total = totals.get(key)
    if total is None:
        totals[key] = {**snapshot, "outcomes": dict(snapshot["outcomes"]), "batches": dict(snapshot["batches"])}
        return
    for outcome, count in snapshot["outcomes"].items():
        total["outcomes"][outcome] = total["outcomes"].get(outcome, 0) + count
    for name in _SUMS:
        total[name] += snapshot[name]
    if "shadow" in snapshot:
        total["shadow"] = add_shadows(total.get("shadow", {}), snapshot["shadow"])
    total["last_ms"] = max(total["last_ms"], snapshot["last_ms"])
    for rows, figures in snapshot["batches"].items():
        total["batches"][rows] = [a + b for a, b in zip(total["batches"].get(rows, [0] * 4), figures, strict=True)]
    for name in HISTOGRAMS:
        histogram, more = total[name], snapshot[name]
        counts = [a + b for a, b in zip(histogram["counts"], more["counts"], strict=True)]
        total[name] = {"counts": counts, "total": histogram["total"] + more["total"]}
        if exemplars := _newest(histogram.get("exemplars", {}), more.get("exemplars", {})):
            total[name]["exemplars"] = exemplars


def _newest(exemplars: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return the newest exemplar of each bucket."""
    found = dict(exemplars)
    for bucket, other in others.items():
        if bucket not in found or other[2] > found[bucket][2]:
            found[bucket] = other
    return found


class GatewayCollector(Collector):
    """Collects all metrics at each scrape: those of the fronts, and the supervisor's own families."""

    def __init__(self, fronts: MetricsAggregator, supervisor: Callable[[], Iterable[Metric]]) -> None:
        self._fronts = fronts
        self._supervisor = supervisor

    def collect(self) -> Iterator[Metric]:
        totals = self._fronts.totals()
        yield from _counters(totals)
        yield from _histograms(totals)
        yield from _triton(totals)
        yield from cache_families(totals)
        yield from shadow_families(totals)
        yield from identity_families(self._fronts.identities.totals())
        yield from self._supervisor()


def _counters(totals: Mapping[Key, MetricsSnapshot]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "modelport_requests",
        "Requests answered, by outcome (success, or the kind of error)",
        labels=[*_LABELS, "outcome"],
    )
    rows = CounterMetricFamily("modelport_inference_rows", "Rows computed for requests that succeeded", labels=_LABELS)
    executions = CounterMetricFamily("modelport_executions", "Batches executed", labels=_LABELS)
    execution_s = CounterMetricFamily(
        "modelport_execution_seconds", "Time that the model ran, summed over batches", labels=_LABELS
    )
    in_flight = GaugeMetricFamily("modelport_requests_in_flight", "Requests admitted and not answered", labels=_LABELS)
    queued = GaugeMetricFamily("modelport_requests_queued", "Requests that wait in their front", labels=_LABELS)
    for key, total in totals.items():
        outcomes = {**_FROM_START, **total["outcomes"]} if key[0] else total["outcomes"]
        for outcome, count in outcomes.items():
            requests.add_metric([*key, outcome], count)
        rows.add_metric(key, total["rows"])
        executions.add_metric(key, total["executions"])
        execution_s.add_metric(key, total["execution_s"])
        in_flight.add_metric(key, total["in_flight"])
        queued.add_metric(key, total["queued"])
    yield from (requests, rows, executions, execution_s, in_flight, queued)


def _histograms(totals: Mapping[Key, MetricsSnapshot]) -> Iterator[Metric]:
    for name, (metric, text) in _HISTOGRAM_HELP.items():
        bounds = ROW_BUCKETS if name == "batch_rows" else DURATION_BUCKETS
        edges = [str(float(bound)) for bound in bounds] + ["+Inf"]
        family = HistogramMetricFamily(metric, text, labels=_LABELS)
        for key, total in totals.items():
            counts = accumulate(total[name]["counts"])
            exemplars = total[name].get("exemplars", {})
            buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = [
                (edge, count, _exemplar(exemplars[str(number)])) if str(number) in exemplars else (edge, count)
                for number, (edge, count) in enumerate(zip(edges, counts, strict=True))
            ]
            family.add_metric(key, buckets, total[name]["total"])
        yield family


def _exemplar(found: Sequence[Any]) -> Exemplar:
    value, trace_id, observed = found
    return Exemplar({"trace_id": trace_id}, value, observed)


def _triton(totals: Mapping[Key, MetricsSnapshot]) -> Iterator[Metric]:
    success = _nv("nv_inference_request_success", "Successful inference requests")
    failure = _nv("nv_inference_request_failure", "Failed inference requests, by reason")
    count = _nv("nv_inference_count", "Inferences performed (rows), without those answered from the response cache")
    executions = _nv("nv_inference_exec_count", "Batches executed")
    pending = Metric("nv_inference_pending_request_count", "Requests waiting to be executed", "gauge")
    durations = {name: _nv(name, text) for name, (_, text) in _NV_DURATIONS.items()}
    for (model, version), total in totals.items():
        if not model:
            continue  # requests for unknown models, which Triton does not count
        labels = {"model": model, "version": version}
        success.add_sample(success.name, labels, total["outcomes"].get("success", 0))
        failures = dict.fromkeys((*_NV_REASONS.values(), "OTHER"), 0)
        for outcome, number in total["outcomes"].items():
            if outcome != "success":
                failures[_NV_REASONS.get(outcome, "OTHER")] += number
        for reason, number in failures.items():
            failure.add_sample(failure.name, {**labels, "reason": reason}, number)
        count.add_sample(count.name, labels, total["rows"])
        executions.add_sample(executions.name, labels, total["executions"])
        pending.add_sample(pending.name, labels, total["queued"])
        for name, (histogram, _) in _NV_DURATIONS.items():
            # Triton counts requests that succeeded, and so do the other histograms.
            seconds = total["succeeded_s"] if histogram == "request" else total[histogram]["total"]
            durations[name].add_sample(name, labels, seconds * 1e6)
    yield from (success, failure, count, executions, pending, *durations.values())


def _nv(name: str, text: str) -> Metric:
    """Return an untyped metric, because a counter's name would get the suffix _total, which Triton's names lack."""
    return Metric(name, text, "unknown")


def build_registry(collector: Collector) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return registry
