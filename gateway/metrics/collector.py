"""The one metrics registry: what the fronts counted, and what the supervisor sees itself.

Served at /metrics of every front and on a port of its own. Names are modelport_*, in base units;
beside them stand the nv_* names that Triton's dashboards and autoscalers already query.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate, chain
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.engine.metrics import DURATION_BUCKETS, HISTOGRAMS, ROW_BUCKETS

Snapshot = dict[str, Any]
Key = tuple[str, str]

_LABELS = ["model", "version"]
_HISTOGRAM_HELP = {
    "request": ("modelport_request_duration_seconds", "Time from a request's arrival to its answer"),
    "queue": ("modelport_queue_duration_seconds", "Time that a request waited, in its front and at its worker"),
    "compute_input": ("modelport_compute_input_duration_seconds", "Time to put a batch's inputs together"),
    "compute_infer": ("modelport_compute_infer_duration_seconds", "Time that the model computed, per request"),
    "compute_output": ("modelport_compute_output_duration_seconds", "Time to split a batch's outputs"),
    "batch_rows": ("modelport_batch_rows", "Rows per executed batch"),
}
_NV_DURATIONS = {
    "nv_inference_request_duration_us": ("request", "Cumulative request time, microseconds"),
    "nv_inference_queue_duration_us": ("queue", "Cumulative queue time, microseconds"),
    "nv_inference_compute_input_duration_us": ("compute_input", "Cumulative input time, microseconds"),
    "nv_inference_compute_infer_duration_us": ("compute_infer", "Cumulative inference time, microseconds"),
    "nv_inference_compute_output_duration_us": ("compute_output", "Cumulative output time, microseconds"),
}


class FrontFigures:
    """Adds up the fronts' cumulative snapshots. A front that ended stays in the sum, or counters would fall.

    One thread tells the news; `totals` may run on any, as a scrape does. What it reads is never
    changed but replaced, in one step: a front is either live or past, and never neither.
    """

    def __init__(self) -> None:
        live: dict[int, list[Snapshot]] = {}
        past: dict[Key, Snapshot] = {}
        self._live_and_past = live, past

    def update(self, front: int, snapshots: list[Snapshot]) -> None:
        live, past = self._live_and_past
        self._live_and_past = {**live, front: snapshots}, past

    def fold(self, front: int) -> None:
        """The front has ended: what it counted stays, what it held is gone."""
        live, past = self._live_and_past
        left = {number: snapshots for number, snapshots in live.items() if number != front}
        ended = [{**snapshot, "in_flight": 0, "queued": 0} for snapshot in live.get(front, [])]
        self._live_and_past = left, _sum([*past.values(), *ended])

    def totals(self) -> dict[Key, Snapshot]:
        live, past = self._live_and_past
        return _sum(chain(past.values(), *live.values()))


def _sum(snapshots: Iterable[Snapshot]) -> dict[Key, Snapshot]:
    totals: dict[Key, Snapshot] = {}
    for snapshot in snapshots:
        _add(totals, snapshot)
    return totals


def _add(totals: dict[Key, Snapshot], snapshot: Snapshot) -> None:
    key = (snapshot["model"], snapshot["version"])
    total = totals.get(key)
    if total is None:
        totals[key] = {**snapshot, "outcomes": dict(snapshot["outcomes"]), "batches": dict(snapshot["batches"])}
        return
    for outcome, count in snapshot["outcomes"].items():
        total["outcomes"][outcome] = total["outcomes"].get(outcome, 0) + count
    for name in ("rows", "executions", "execution_s", "failed_s", "in_flight", "queued"):
        total[name] += snapshot[name]
    total["last_ms"] = max(total["last_ms"], snapshot["last_ms"])
    for rows, figures in snapshot["batches"].items():
        total["batches"][rows] = [a + b for a, b in zip(total["batches"].get(rows, [0] * 4), figures, strict=True)]
    for name in HISTOGRAMS:
        mine, other = total[name], snapshot[name]
        counts = [a + b for a, b in zip(mine["counts"], other["counts"], strict=True)]
        total[name] = {"counts": counts, "total": mine["total"] + other["total"]}


class GatewayCollector(Collector):
    """Reads the figures at each scrape. `own` gives the supervisor's families (models, workers, processes)."""

    def __init__(self, figures: FrontFigures, own: Callable[[], Iterable[Metric]]) -> None:
        self._figures = figures
        self._own = own

    def collect(self) -> Iterator[Metric]:
        totals = self._figures.totals()
        yield from _counters(totals)
        yield from _histograms(totals)
        yield from _triton(totals)
        yield from self._own()


def _counters(totals: Mapping[Key, Snapshot]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "modelport_requests",
        "Requests answered, by outcome (success, or the kind of error)",
        labels=[*_LABELS, "outcome"],
    )
    rows = CounterMetricFamily("modelport_inference_rows", "Rows computed for requests that succeeded", labels=_LABELS)
    executions = CounterMetricFamily("modelport_executions", "Batches executed", labels=_LABELS)
    execution_s = CounterMetricFamily(
        "modelport_execution_seconds", "Time that the model took for its batches, each counted once", labels=_LABELS
    )
    in_flight = GaugeMetricFamily("modelport_requests_in_flight", "Requests admitted and not answered", labels=_LABELS)
    queued = GaugeMetricFamily("modelport_requests_queued", "Requests that no worker has taken yet", labels=_LABELS)
    for key, total in totals.items():
        for outcome, count in total["outcomes"].items():
            requests.add_metric([*key, outcome], count)
        rows.add_metric(key, total["rows"])
        executions.add_metric(key, total["executions"])
        execution_s.add_metric(key, total["execution_s"])
        in_flight.add_metric(key, total["in_flight"])
        queued.add_metric(key, total["queued"])
    yield from (requests, rows, executions, execution_s, in_flight, queued)


def _histograms(totals: Mapping[Key, Snapshot]) -> Iterator[Metric]:
    for name, (metric, text) in _HISTOGRAM_HELP.items():
        bounds = ROW_BUCKETS if name == "batch_rows" else DURATION_BUCKETS
        edges = [str(float(bound)) for bound in bounds] + ["+Inf"]
        family = HistogramMetricFamily(metric, text, labels=_LABELS)
        for key, total in totals.items():
            counts = accumulate(total[name]["counts"])
            family.add_metric(key, list(zip(edges, counts, strict=True)), total[name]["total"])
        yield family


def _triton(totals: Mapping[Key, Snapshot]) -> Iterator[Metric]:
    success = _nv("nv_inference_request_success", "Successful inference requests")
    failure = _nv("nv_inference_request_failure", "Failed inference requests, by reason")
    count = _nv("nv_inference_count", "Inferences performed (rows)")
    executions = _nv("nv_inference_exec_count", "Batches executed")
    pending = Metric("nv_inference_pending_request_count", "Requests waiting to be executed", "gauge")
    durations = {name: _nv(name, text) for name, (_, text) in _NV_DURATIONS.items()}
    for (model, version), total in totals.items():
        if not model:
            continue  # requests for models that do not exist: Triton counts none of them
        labels = {"model": model, "version": version}
        success.add_sample(success.name, labels, total["outcomes"].get("success", 0))
        for outcome, number in total["outcomes"].items():
            if outcome != "success":
                failure.add_sample(failure.name, {**labels, "reason": outcome.upper()}, number)
        count.add_sample(count.name, labels, total["rows"])
        executions.add_sample(executions.name, labels, total["executions"])
        pending.add_sample(pending.name, labels, total["queued"])
        for name, (histogram, _) in _NV_DURATIONS.items():
            durations[name].add_sample(name, labels, total[histogram]["total"] * 1e6)
    yield from (success, failure, count, executions, pending, *durations.values())


def _nv(name: str, text: str) -> Metric:
    """Untyped, to keep exactly this name: Triton's counters lack the _total that the text format demands."""
    return Metric(name, text, "unknown")


def registry(collector: Collector) -> CollectorRegistry:
    made = CollectorRegistry(auto_describe=False)
    made.register(collector)
    return made
