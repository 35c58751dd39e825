"""The metrics of response caches, under our names and Triton's. They exist for models that have had a cache."""

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

_LABELS = ["model", "version"]
# Name → key, factor, and help.
_COUNTERS = {
    "modelport_cache_hits": ("cache_hits", 1, "Requests answered from the response cache"),
    "modelport_cache_misses": ("cache_misses", 1, "Requests that the response cache could not answer"),
    "modelport_cache_hit_seconds": ("cache_hit_s", 1, "Time spent on finding answers in the response cache"),
    "modelport_cache_miss_seconds": ("cache_miss_s", 1, "Time spent on looking in vain, and on keeping answers"),
    "modelport_cache_evictions": ("cache_evictions", 1, "Answers that were removed to make room for others"),
}
_GAUGES = {
    "modelport_cache_bytes": ("cache_bytes", "Bytes that the response cache holds, summed over the fronts"),
    "modelport_cache_entries": ("cache_entries", "Answers that the response cache holds, summed over the fronts"),
}
_TRITON = {
    "nv_cache_num_hits_per_model": ("cache_hits", 1, "Number of cache hits per model"),
    "nv_cache_num_misses_per_model": ("cache_misses", 1, "Number of cache misses per model"),
    "nv_cache_hit_duration_per_model": ("cache_hit_s", 1e6, "Total cache hit duration per model, in microseconds"),
    "nv_cache_miss_duration_per_model": ("cache_miss_s", 1e6, "Total cache miss duration per model, in microseconds"),
}


def cache_families(totals: Mapping[tuple[str, str], Mapping[str, Any]]) -> Iterator[Metric]:
    used = {key: total for key, total in totals.items() if total["cache_hits"] or total["cache_misses"]}
    for name, (field, _, text) in _COUNTERS.items():
        counter = CounterMetricFamily(name, text, labels=_LABELS)
        for key, total in used.items():
            counter.add_metric(key, total[field])
        yield counter
    for name, (field, text) in _GAUGES.items():
        gauge = GaugeMetricFamily(name, text, labels=_LABELS)
        for key, total in used.items():
            gauge.add_metric(key, total[field])
        yield gauge
    for name, (field, factor, text) in _TRITON.items():
        # Untyped, like Triton's other names: see _nv in collector.py.
        family = Metric(name, text, "unknown")
        for (model, version), total in used.items():
            family.add_sample(name, {"model": model, "version": version}, total[field] * factor)
        yield family
