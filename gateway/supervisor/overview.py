"""What the console shows of the whole gateway: models with their cumulative figures, and environments being built."""

from collections.abc import Mapping
from typing import Any

from gateway.engine.metrics import DURATION_BUCKETS, ROW_BUCKETS, ModelMetrics
from gateway.environments.builder import Builder
from gateway.lifecycle.manager import Manager
from gateway.lifecycle.version import Version
from gateway.metrics.collector import Key, MetricsSnapshot
from gateway.process.resident import private_bytes

# Of the figures of a model, those that the console reads. Histograms have a count per bucket, not cumulative.
_FIGURES = (
    "outcomes", "rows", "executions", "execution_s", "in_flight", "queued", "request", "queue", "compute_infer",
    "batch_rows",
)  # fmt: skip


def overview(manager: Manager, builder: Builder, totals: Mapping[Key, MetricsSnapshot]) -> dict[str, Any]:
    """Return the state of the gateway as JSON values.

    models        the entries of the repository index, each with {runtime, platform, devices, workers, instances,
                  restarts, memory_bytes, max_batch_size, version_labels, steps, figures}. Figures are cumulative since
                  the gateway started. While new files of a version replace old ones, it has one entry: of those that
                  answer
    environments  being built or waited for: {runtime, step, elapsed_s}
    buckets       the upper bounds of the histograms' buckets: {"seconds", "rows"}; the last count is for what is above
    """
    versions, counts = manager.numbered(), manager.counts()
    models = {}
    for entry in manager.index():
        key = entry["name"], entry["version"]
        version = versions.get(key)
        if version is not None:
            status = manager.status(version)
            entry.update(state=status.state, reason=status.reason)
        details = _version(manager, version, counts[key].restarts) if version and not version.unloading else {}
        models[key] = {**entry, **details, "figures": _figures(totals.get(key))}
    return {
        "models": list(models.values()),
        "environments": builder.builds(),
        "buckets": {"seconds": DURATION_BUCKETS, "rows": ROW_BUCKETS},
    }


def _version(manager: Manager, version: Version, restarts: int) -> dict[str, Any]:
    artifact = version.config.artifact
    workers, status = list(version.workers), manager.status(version)
    return {
        "runtime": artifact.runtime.name if artifact else "",
        "platform": artifact.platform if artifact else "",
        "devices": list(version.devices),
        "instances": len(version.devices) * version.config.toml.instances,
        "workers": sum(worker.ready is not None for worker in workers),
        "restarts": restarts,
        "memory_bytes": sum(private_bytes(worker.pid) for worker in workers if worker.pid),
        "max_batch_size": status.max_batch_size,
        "version_labels": list(status.version_labels),
        "steps": manager.steps(version),
    }


def _figures(total: MetricsSnapshot | None) -> dict[str, Any]:
    total = total or ModelMetrics().snapshot()
    return {name: total[name] for name in _FIGURES}
