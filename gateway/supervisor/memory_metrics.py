"""The metrics of models that are loaded on demand, and of the gateway's memory limit."""

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from gateway.engine.metrics import DURATION_BUCKETS
from gateway.lifecycle.on_demand import OnDemand
from gateway.lifecycle.room import Room


def on_demand_families(on_demand: OnDemand) -> Iterator[Metric]:
    """Called on the thread of a scrape, so it copies each collection before it iterates."""
    counts = on_demand.counts
    yield CounterMetricFamily("modelport_on_demand_loads", "Models that were loaded on demand", value=counts.loads)
    yield CounterMetricFamily(
        "modelport_on_demand_failures", "Loads on demand that did not succeed", value=counts.failures
    )
    yield CounterMetricFamily(
        "modelport_evictions",
        "Models that were unloaded because others needed the memory",
        value=on_demand.room.evictions,
    )
    yield GaugeMetricFamily(
        "modelport_loads_waiting", "Models that wait for their turn to be loaded", value=on_demand.waiting
    )
    cold = HistogramMetricFamily(
        "modelport_cold_start_duration_seconds", "From the first request that waits for a model until it was READY"
    )
    edges = [str(float(bound)) for bound in DURATION_BUCKETS] + ["+Inf"]
    observed = accumulate(list(counts.cold_start_s.counts))
    cold.add_metric([], list(zip(edges, observed, strict=True)), counts.cold_start_s.total)
    yield cold
    if on_demand.room.limit:
        yield from _memory(on_demand.room)


def _memory(room: Room) -> Iterator[Metric]:
    memory = room.memory
    yield GaugeMetricFamily("modelport_memory_limit_bytes", "memory_limit of the gateway", value=room.limit)
    yield GaugeMetricFamily(
        "modelport_memory_bytes", "What all processes take, and what loads will need, by the limit", value=memory.total
    )
    models = GaugeMetricFamily(
        "modelport_model_memory_bytes",
        "What the workers of a model on demand take for themselves",
        labels=["model", "version"],
    )
    for key, size in dict(memory.measured).items():
        models.add_metric(key[:2], size)
    yield models
