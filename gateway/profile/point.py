"""One point of a sweep."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Point(NamedTuple):
    """What was measured for one batch size, one number of threads and one number of instances.

    instances     processes that ran at the same time. All figures but `rows_per_s` are those of one of them
    rows          of a batch; 0 if rows are not counted, so that a run is one request
    runs          how many were measured
    p50_ms        and p99_ms: quantiles of the duration of a run
    rows_per_s    rows divided by the median duration, of all instances together; requests if rows are not counted
    peak_bytes    the largest resident memory of a process that has run batches of up to this size
    growth_bytes  by how much that exceeds the memory of the loaded model
    failed        why there are no figures, in a sentence; "" if there are
    """

    threads: int
    instances: int
    rows: int
    runs: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    rows_per_s: float = 0.0
    peak_bytes: int = 0
    growth_bytes: int = 0
    failed: str = ""

    @property
    def units(self) -> int:
        """What a run counts as: its rows, or one request."""
        return self.rows or 1


def measured(
    threads: int, instances: int, rows: int, durations: Sequence[float], peak_bytes: int, growth_bytes: int
) -> Point:
    """Return the point of these runs. durations: seconds, at least one."""
    p50, p99 = (float(each) for each in np.percentile(durations, [50, 99]))
    rate = instances * (rows or 1) / p50
    return Point(threads, instances, rows, len(durations), p50 * 1e3, p99 * 1e3, rate, peak_bytes, growth_bytes)
