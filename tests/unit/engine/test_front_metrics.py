"""Durations that are added to histograms many at a time give the same result as one at a time."""

import numpy as np

from gateway.engine.metrics import DURATION_BUCKETS, Histogram, ModelMetrics
from runtimes.layouts import TensorGroup, layout_of
from runtimes.result_frames import ResultGroup


def test_observing_many_equals_observing_each() -> None:
    values = [*DURATION_BUCKETS, 0.0, 1e-5, 0.0003, 59.9, 61.0]
    single, together = Histogram(DURATION_BUCKETS), Histogram(DURATION_BUCKETS)
    for value in values:
        single.observe(value)
    together.observe_all(np.array(values))
    assert single.counts == together.counts
    assert single.total == together.total


def test_a_snapshot_includes_pending_durations() -> None:
    metrics = ModelMetrics()
    empty = TensorGroup(layout_of("", (), []), [1], memoryview(b""), 0)
    results = ResultGroup((1,), (1_000_000,), 2_000_000, 3_000_000, 4_000_000, 8, empty)
    for count in (0, 3, 5000):
        for _ in range(count):
            metrics.finished.append(0.02)
            metrics.waited.append(0.002)
        if count:
            metrics.count_results(results, count, 2 * count)
        metrics.snapshot()
    found = metrics.snapshot()
    assert found["outcomes"] == {"success": 5003}
    assert found["rows"] == 2 * 5003
    expected = {
        "request": 0.02,
        "queue": 0.002,
        "compute_input": 0.002,
        "compute_infer": 0.003,
        "compute_output": 0.004,
    }
    for name, seconds in expected.items():
        assert sum(found[name]["counts"]) == 5003
        assert np.isclose(found[name]["total"], 5003 * seconds)
