"""One front's metrics, as plain accumulators.

Each request appends its durations to a list, and numpy adds many of them to the histograms at a time. A front sends
cumulative snapshots to the supervisor, which sums them over all fronts, including those that have ended
(gateway/metrics/collector.py). prometheus_client's multiprocess mode costs seventeen times as much per request.
"""

import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from runtimes.wire import ResultFrame

# Seconds: from the fastest small models up to the default request timeout.
DURATION_BUCKETS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
# Durations that are kept before they are added to the histograms. Fewer make each addition less efficient; more make
# it a longer pause for the requests behind it.
_MAX_PENDING = 4096
# Distinct batch sizes with figures of their own. The limit keeps clients that send requests of many sizes from filling
# the memory; sizes beyond it are missing from Triton's batch_stats only.
_MAX_BATCH_SIZES = 1024


class Histogram:
    """Counts per bucket, and the sum of all observed values. The counts are not cumulative; the last is for +Inf."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def observe_all(self, values: np.ndarray) -> None:
        added = np.bincount(np.searchsorted(self.bounds, values), minlength=len(self.counts))
        self.counts = [count + more for count, more in zip(self.counts, added.tolist(), strict=True)]
        self.total += float(values.sum())

    def snapshot(self) -> dict[str, Any]:
        return {"counts": list(self.counts), "total": self.total}


def _durations() -> Histogram:
    return Histogram(DURATION_BUCKETS)


@dataclass(slots=True)
class ModelMetrics:
    """The metrics of one version of a model in this front. Durations are in seconds.

    failed_s   time from arrival to answer, summed over requests with any outcome but success
    last_ms    time of the newest answered batch, in milliseconds since 1970; 0 if there was none
    batches    rows of a batch → number of such batches, and their nanoseconds of input, infer and output
    """

    outcomes: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    executions: int = 0
    execution_s: float = 0.0
    failed_s: float = 0.0
    last_ms: int = 0
    in_flight: int = 0
    queued: int = 0
    batches: dict[int, list[int]] = field(default_factory=dict)
    request: Histogram = field(default_factory=_durations)
    queue: Histogram = field(default_factory=_durations)
    compute_input: Histogram = field(default_factory=_durations)
    compute_infer: Histogram = field(default_factory=_durations)
    compute_output: Histogram = field(default_factory=_durations)
    batch_rows: Histogram = field(default_factory=lambda: Histogram(ROW_BUCKETS))

    # Not in the histograms yet: each request's seconds, and each answered request's nanoseconds of queue, input, infer
    # and output.
    _requests: list[float] = field(default_factory=list)
    _runs: list[Sequence[float]] = field(default_factory=list)

    def count(self, outcome: str, seconds: float) -> None:
        """Count a request that has ended. `outcome` is "success", "cancelled" or the kind of its error."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        self._requests.append(seconds)
        if outcome != "success":
            self.failed_s += seconds
        if len(self._requests) >= _MAX_PENDING:
            self._update_histograms()

    def record_execution(self, frame: ResultFrame) -> None:
        """Count a batch. Only the front that has its first request does so, so that the sum over fronts is right."""
        self.executions += 1
        self.execution_s += frame.compute_infer_ns / 1e9
        self.batch_rows.observe(frame.batch_rows)
        self.last_ms = time.time_ns() // 1_000_000
        figures = self.batches.get(frame.batch_rows)
        if figures is None and len(self.batches) < _MAX_BATCH_SIZES:
            figures = self.batches[frame.batch_rows] = [0, 0, 0, 0]
        if figures is not None:
            figures[0] += 1
            figures[1] += frame.compute_input_ns
            figures[2] += frame.compute_infer_ns
            figures[3] += frame.compute_output_ns

    def record_run(self, frame: ResultFrame, front_queue_s: float, rows: int) -> None:
        """Record the durations and rows of a successful request, just before it is counted."""
        self.rows += rows
        self._runs.append((front_queue_s * 1e9 + frame[0], frame[1], frame[2], frame[3]))

    def _update_histograms(self) -> None:
        requests, self._requests = self._requests, []
        runs, self._runs = self._runs, []
        if requests:
            self.request.observe_all(np.array(requests))
        if runs:
            columns = np.array(runs).T / 1e9
            for histogram, values in zip(
                (self.queue, self.compute_input, self.compute_infer, self.compute_output), columns, strict=True
            ):
                histogram.observe_all(values)

    def snapshot(self) -> dict[str, Any]:
        self._update_histograms()
        return {
            "outcomes": dict(self.outcomes),
            "rows": self.rows,
            "executions": self.executions,
            "execution_s": self.execution_s,
            "failed_s": self.failed_s,
            "last_ms": self.last_ms,
            "batches": {str(rows): list(figures) for rows, figures in self.batches.items()},
            "in_flight": self.in_flight,
            "queued": self.queued,
            **{name: getattr(self, name).snapshot() for name in HISTOGRAMS},
        }


HISTOGRAMS = ("request", "queue", "compute_input", "compute_infer", "compute_output", "batch_rows")


class FrontMetrics:
    """The metrics of all models by name and version; ("", "") counts requests whose model was not found."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, str], ModelMetrics] = {}

    def of(self, model: str, version: str) -> ModelMetrics:
        key = (model, version)
        metrics = self._models.get(key)
        if metrics is None:
            metrics = self._models[key] = ModelMetrics()
        return metrics

    def clear_gauges(self) -> None:
        """Set all gauges to 0. Versions that were removed have no servable that would reset theirs."""
        for metrics in self._models.values():
            metrics.in_flight = metrics.queued = 0

    def snapshot(self) -> list[dict[str, Any]]:
        return [
            {"model": model, "version": version, **metrics.snapshot()}
            for (model, version), metrics in self._models.items()
        ]
