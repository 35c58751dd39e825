"""What the console shows of the whole gateway: models with their cumulative figures, and environments being built."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import gateway
from gateway.config import Settings
from gateway.engine.metrics import DURATION_BUCKETS, ROW_BUCKETS, ModelMetrics
from gateway.environments.builder import Builder
from gateway.lifecycle.manager import Manager
from gateway.lifecycle.version import Version
from gateway.metrics.collector import Key, MetricsAggregator, MetricsSnapshot
from gateway.process.resident import private_bytes
from gateway.remote.mirrors import Mirrors
from gateway.supervisor.fronts import Fronts
from gateway.supervisor.identities import Identities

# Less than the pages of the console wait between two readings.
_KEEP_S = 1.0
# Of the figures of a model, those that the console reads. Histograms have a count per bucket, not cumulative.
_FIGURES = (
    "outcomes", "rows", "executions", "execution_s", "in_flight", "queued", "request", "queue", "compute_infer",
    "batch_rows",
)  # fmt: skip


class OverviewReader:
    """Reads the overview when browsers ask for it. With many models this takes a while.

    started  when the gateway started, in seconds since 1970
    """

    def __init__(
        self,
        settings: Settings,
        fronts: Fronts,
        manager: Manager,
        builder: Builder,
        metrics: MetricsAggregator,
        identities: Identities,
        mirrors: Mirrors,
    ) -> None:
        self.started = time.time()
        self._settings = settings
        self._fronts = fronts
        self._manager = manager
        self._builder = builder
        self._metrics = metrics
        self._identities = identities
        self._mirrors = mirrors
        self._reading: asyncio.Task[dict[str, Any]] | None = None
        self._until = 0.0

    def expire(self) -> None:
        """Read again when a browser asks next, because a model has changed."""
        self._reading = None

    async def read(self) -> dict[str, Any]:
        """Return what GetOverview does. Browsers share what was read, for a second or until `expire`."""
        now = time.monotonic()
        if self._reading is None or now > self._until:
            self._reading = asyncio.create_task(self._read())
            self._until = now + _KEEP_S
        return await asyncio.shield(self._reading)

    def models(self) -> dict[str, Any]:
        """Return what `overview` does, with the figures that fronts have sent already."""
        return overview(self._manager, self._builder, self._metrics.totals())

    async def _read(self) -> dict[str, Any]:
        await self._fronts.request_metrics()
        at_s = time.monotonic()  # rates are computed with it: a browser's clock includes the way of the answer
        server = {
            "name": self._settings.server_name,
            "version": gateway.__version__,
            "fronts": len(self._fronts),
            "front_restarts": self._fronts.restarts,
            "started": self.started,
            "at_s": at_s,
            "notes": [*filter(None, [self._identities.note]), *self._mirrors.troubles()],
            "exports": self._settings.allow_export,
            "repository_control": self._settings.repository_control,
        }
        return {"server": server, **self.models()}


def overview(manager: Manager, builder: Builder, totals: Mapping[Key, MetricsSnapshot]) -> dict[str, Any]:
    """Return the state of the gateway as JSON values.

    models        the entries of the repository index, each with {runtime, platform, devices, workers, instances,
                  restarts, memory_bytes, max_batch_size, version_labels, steps, figures}. Figures are cumulative since
                  the gateway started. While new files of a version replace old ones, it has one entry: of those that
                  answer
    environments  being built or waited for: {runtime, step, elapsed_s}
    buckets       the upper bounds of the histograms' buckets: {"seconds", "rows"}; the last count is for what is above
    """
    versions, counts = manager.versions.numbered(), manager.versions.counts()
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
