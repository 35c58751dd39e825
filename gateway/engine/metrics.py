"""One front's metrics, as plain accumulators.

Each request appends its durations to a list, and numpy adds many of them to the histograms at a time. A front sends
cumulative snapshots to the supervisor, which sums them over all fronts, including those that have ended
(gateway/metrics/collector.py). prometheus_client's multiprocess mode costs seventeen times as much per request.
"""

import time
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runtimes.result_frames import ResultGroup

if TYPE_CHECKING:
    import numpy as np  # not imported by the supervisor, which only sums snapshots

    from gateway.engine.shadow_metrics import ShadowMetrics

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


_NONE = (0, 0)


class Histogram:
    """Counts per bucket, and the sum of all observed values. The counts are not cumulative; the last is for +Inf.

    exemplars  for each bucket that has one, the value of a traced request, the id of its trace, and when it was
               observed, in seconds since 1970
    """

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.exemplars: dict[int, tuple[float, str, float]] = {}
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def observe_all(self, values: "np.ndarray", times: "np.ndarray | None" = None) -> None:
        """Observe each value as often as `times` says, or once."""
        import numpy as np

        buckets = np.searchsorted(self.bounds, values)
        added = np.bincount(buckets, times, minlength=len(self.counts)).tolist()
        self.counts = [count + int(more) for count, more in zip(self.counts, added, strict=True)]
        self.total += float(values.sum() if times is None else values @ times)

    def exemplify(self, value: float, trace_id: str) -> None:
        """Note the trace of a request whose value is observed as well."""
        self.exemplars[bisect_left(self.bounds, value)] = value, trace_id, time.time()

    def snapshot(self) -> dict[str, Any]:
        found: dict[str, Any] = {"counts": list(self.counts), "total": self.total}
        if self.exemplars:
            found["exemplars"] = {str(bucket): list(each) for bucket, each in self.exemplars.items()}
        return found


def _durations() -> Histogram:
    return Histogram(DURATION_BUCKETS)


@dataclass(slots=True)
class ModelMetrics:
    """The metrics of one version of a model in this front. Durations are in seconds.

    failed_s     time from arrival to answer, summed over requests with any outcome but success
    succeeded_s  the same for those that succeeded. It never decreases, as a difference of two sums might by rounding
    last_ms      time of the newest answered batch, in milliseconds since 1970; 0 if there was none
    batches      rows of a batch → number of such batches, and their nanoseconds of input, infer and output
    cache_*      of the response cache: requests that were answered from it, and that were not; the time of looking,
                 and of keeping answers; what it holds
    shadow       of the copies that the version got as a shadow; None if it never was one
    """

    outcomes: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    executions: int = 0
    execution_s: float = 0.0
    failed_s: float = 0.0
    succeeded_s: float = 0.0
    last_ms: int = 0
    in_flight: int = 0
    queued: int = 0
    batches: dict[int, list[int]] = field(default_factory=dict)
    cache_hits: int = 0
    cache_hit_s: float = 0.0
    cache_misses: int = 0
    cache_miss_s: float = 0.0
    cache_evictions: int = 0
    cache_bytes: int = 0
    cache_entries: int = 0
    shadow: "ShadowMetrics | None" = None
    request: Histogram = field(default_factory=_durations)
    queue: Histogram = field(default_factory=_durations)
    compute_input: Histogram = field(default_factory=_durations)
    compute_infer: Histogram = field(default_factory=_durations)
    compute_output: Histogram = field(default_factory=_durations)
    batch_rows: Histogram = field(default_factory=lambda: Histogram(ROW_BUCKETS))

    # Not in the histograms yet: each request's seconds, each successful request's seconds in the queues of front and
    # worker, and of each frame of results, the nanoseconds of input, infer and output, how many requests it answered,
    # and the rows of the batch if it is the first of its batch. Whoever answers a request appends to the first two.
    finished: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    _runs: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    _left_out: tuple[int, int] = _NONE  # answers and rows that the next results must not count
    _failed_before: float = 0.0  # failed_s of what is in the histograms

    def count(self, outcome: str, seconds: float) -> None:
        """Count a request that has ended without success. `outcome` is "cancelled" or the kind of its error."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        self.failed_s += seconds
        self.finished.append(seconds)
        if len(self.finished) >= _MAX_PENDING:
            self._update_histograms()

    def count_results(self, results: ResultGroup, answered: int, rows: int) -> None:
        """Count the results of one frame, and the requests and their rows that they have answered successfully.

        The durations of these requests are in `finished` and `waited` already. A batch is counted only with its first
        frame, so that the sum over fronts is right.
        """
        if self._left_out is not _NONE:
            answered, rows = answered - self._left_out[0], rows - self._left_out[1]
            self._left_out = _NONE
        if answered:
            self.outcomes["success"] = self.outcomes.get("success", 0) + answered
            self.rows += rows
        batch_rows = 0
        if results.first_of_batch:
            batch_rows, self.last_ms = results.batch_rows, time.time_ns() // 1_000_000
        self._runs.append(
            (results.compute_input_ns, results.compute_infer_ns, results.compute_output_ns, answered, batch_rows)
        )
        if len(self.finished) >= _MAX_PENDING or len(self._runs) >= _MAX_PENDING:
            self._update_histograms()

    def discount(self, rows: int) -> None:
        """Have the next `count_results` leave out an answer with so many rows: no client has asked for it.

        Its batch is counted, because the model has run it.
        """
        self._left_out = self._left_out[0] + 1, self._left_out[1] + rows

    def count_cached(self) -> None:
        """Count a request that was answered without the model. Its durations are in `finished` and `waited` already, or
        will be before the next snapshot. As in Triton, its rows are not counted, since nothing has computed them.
        """
        self.outcomes["success"] = self.outcomes.get("success", 0) + 1
        if len(self.finished) >= _MAX_PENDING:
            self._update_histograms()

    def _update_histograms(self) -> None:
        import numpy as np

        runs, self._runs = self._runs, []
        finished = np.array(self.finished)
        self.request.observe_all(finished)
        self.succeeded_s += max(0.0, float(finished.sum()) - (self.failed_s - self._failed_before))
        self._failed_before = self.failed_s
        self.queue.observe_all(np.array(self.waited))
        self.finished.clear()  # not replaced, because the fast path refers to them
        self.waited.clear()
        if not runs:
            return
        *columns, answered, _ = np.array(runs).T
        for histogram, nanoseconds in zip(
            (self.compute_input, self.compute_infer, self.compute_output), columns, strict=True
        ):
            histogram.observe_all(nanoseconds / 1e9, answered)
        for *times, _, batch_rows in runs:
            if batch_rows:
                self._count_batch(batch_rows, *times)

    def _count_batch(self, rows: int, input_ns: int, infer_ns: int, output_ns: int) -> None:
        self.executions += 1
        self.execution_s += infer_ns / 1e9
        self.batch_rows.observe(rows)
        figures = self.batches.get(rows)
        if figures is None and len(self.batches) < _MAX_BATCH_SIZES:
            figures = self.batches[rows] = [0, 0, 0, 0]
        if figures is not None:
            figures[0] += 1
            figures[1] += input_ns
            figures[2] += infer_ns
            figures[3] += output_ns

    def snapshot(self) -> dict[str, Any]:
        self._update_histograms()
        return {
            "outcomes": dict(self.outcomes),
            "rows": self.rows,
            "executions": self.executions,
            "execution_s": self.execution_s,
            "failed_s": self.failed_s,
            "succeeded_s": self.succeeded_s,
            "last_ms": self.last_ms,
            "batches": {str(rows): list(figures) for rows, figures in self.batches.items()},
            "in_flight": self.in_flight,
            "queued": self.queued,
            **{name: getattr(self, name) for name in (*CACHE_COUNTERS, *CACHE_GAUGES)},
            **({} if self.shadow is None else {"shadow": self.shadow.snapshot()}),
            **{name: getattr(self, name).snapshot() for name in HISTOGRAMS},
        }


CACHE_COUNTERS = ("cache_hits", "cache_hit_s", "cache_misses", "cache_miss_s", "cache_evictions")
CACHE_GAUGES = ("cache_bytes", "cache_entries")
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
            metrics.in_flight = metrics.queued = metrics.cache_bytes = metrics.cache_entries = 0

    def snapshot(self) -> list[dict[str, Any]]:
        return [
            {"model": model, "version": version, **metrics.snapshot()}
            for (model, version), metrics in self._models.items()
        ]
