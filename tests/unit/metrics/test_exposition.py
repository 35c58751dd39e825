"""Prometheus' text format, compared with that of prometheus_client."""

import math

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics.exposition import Family, text

NAMES = ["plain", 'quote " and \\ and\nline', 'ünï {a="b"} 1', ""]


class _Theirs:
    def collect(self) -> list[Metric]:
        counter = CounterMetricFamily("requests", "Requests\nand \\", labels=["model", "a_first"])
        gauge = GaugeMetricFamily("free", "No labels")
        histogram = HistogramMetricFamily("seconds", "Times", labels=["model"])
        untyped = Metric("nv_count", "Triton's", "unknown")
        for number, name in enumerate(NAMES):
            counter.add_metric([name, "x"], number * 1.5)
            histogram.add_metric([name], [("0.1", 1), ("2.5", 2), ("+Inf", 4)], 7.25)
            untyped.add_sample("nv_count", {"model": name}, number)
        for value in (0, -1, 1e-9, 123456.5, math.inf, -math.inf):
            gauge.add_metric([], value)
        return [counter, gauge, histogram, untyped, CounterMetricFamily("empty", "Nothing yet", labels=["model"])]


def _ours() -> list[Family]:
    counter = Family("requests", "Requests\nand \\", "counter", ["model", "a_first"])
    gauge = Family("free", "No labels", "gauge")
    histogram = Family("seconds", "Times", "histogram", ["model"])
    untyped = Family("nv_count", "Triton's", "untyped", ["model"])
    for number, name in enumerate(NAMES):
        counter.add([name, "x"], number * 1.5)
        histogram.add_histogram([name], [("0.1", 1), ("2.5", 2), ("+Inf", 4)], 7.25)
        untyped.add([name], number)
    for value in (0, -1, 1e-9, 123456.5, math.inf, -math.inf):
        gauge.add((), value)
    return [counter, gauge, histogram, untyped, Family("empty", "Nothing yet", "counter", ["model"])]


def test_the_text_is_the_same() -> None:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Theirs())  # type: ignore[arg-type]
    assert text(_ours()) == generate_latest(registry).decode()


def test_large_numbers_and_nan_are_read_back() -> None:
    family = Family("a", "b", "gauge")
    values = (1e15, 2.0**60, 1e300, 12345678.9)
    for value in (*values, math.nan):
        family.add((), value)
    (read,) = text_string_to_metric_families(text([family]))
    assert [sample.value for sample in read.samples[:-1]] == list(values)
    assert math.isnan(read.samples[-1].value)
