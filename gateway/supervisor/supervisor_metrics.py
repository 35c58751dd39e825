"""The metrics of the supervisor itself: models, environments, fronts, files that are read again."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

import gateway
from gateway.environments.builder import Builder, BuildState
from gateway.lifecycle.manager import Manager
from gateway.lifecycle.policy import State
from gateway.lifecycle.version import WorkerCounts
from gateway.metrics.gpu import GpuCollector
from gateway.remote.mirror import Mirror
from gateway.remote.mirrors import Mirrors
from gateway.supervisor.fronts import Fronts
from gateway.supervisor.memory_metrics import on_demand_families
from gateway.supervisor.process_metrics import MachineMetrics, Process, process_families

_VERSION = ["model", "version"]


class SupervisorCollector:
    """Collects metrics on the metrics port's thread. It only reads, and copies each collection before it iterates.

    reloads      returns {what is read again: whether it could be used after its last change}
    log_dropped  returns {log: lines that could not be kept}
    mirrors      the remote repositories
    """

    def __init__(
        self,
        manager: Manager,
        builder: Builder,
        fronts: Fronts,
        reloads: Callable[[], Mapping[str, bool]],
        log_dropped: Callable[[], Mapping[str, int]],
        mirrors: Mirrors,
    ) -> None:
        self._manager = manager
        self._builder = builder
        self._fronts = fronts
        self._reloads = reloads
        self._log_dropped = log_dropped
        self._mirrors = mirrors
        self._machine = MachineMetrics()
        self._gpu = GpuCollector()

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("modelport_build_info", "1; the version of the gateway", labels=["version"])
        build.add_metric([gateway.__version__], 1)
        yield build
        yield from self._states()
        yield from self._workers()
        yield from on_demand_families(self._manager.on_demand)
        yield from environment_families(self._builder)
        yield CounterMetricFamily(
            "modelport_front_restarts", "Front processes that were replaced", value=self._fronts.restarts
        )
        yield from self._files()
        yield from repository_families(self._mirrors)
        yield from process_families(self._processes())
        yield from self._machine.collect()
        yield from self._gpu.collect()

    def _states(self) -> Iterator[Metric]:
        models = GaugeMetricFamily("modelport_models", "Model versions by state", labels=["state"])
        states = GaugeMetricFamily(
            "modelport_model_state", "1 if the version is in this state, 0 if not", labels=[*_VERSION, "state"]
        )
        versions = list(self._manager.versions.values())
        # Several entries may have the same model and version, while new files replace old ones.
        current: dict[tuple[str, str], set[State]] = {}
        for version in versions:
            current.setdefault(version.key[:2], set()).add(version.state)
        for state in State:
            models.add_metric([state.value], sum(version.state is state for version in versions))
            for key, found in current.items():
                states.add_metric([*key, state.value], state in found)
        yield from (models, states)

    def _workers(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("modelport_workers_up", "Workers that are ready", labels=_VERSION)
        off = GaugeMetricFamily(
            "modelport_batching_off", "1 if requests run alone, and why", labels=[*_VERSION, "reason"]
        )
        load = GaugeMetricFamily(
            "modelport_model_load_duration_seconds", "Time that a worker took to become ready", labels=_VERSION
        )
        triton_load = GaugeMetricFamily("nv_model_load_duration_secs", "Model load time in seconds", labels=_VERSION)
        workers_up: dict[tuple[str, str], int] = {}
        for version in list(self._manager.versions.values()):
            if version.config.steps:
                continue  # no worker of a pipeline is missing
            key = version.key[:2]
            workers_up[key] = workers_up.get(key, 0) + sum(each.ready is not None for each in list(version.workers))
        for key, version in self._manager.versions.numbered().items():
            if version.batching_off_reason:
                off.add_metric([*key, version.batching_off_reason], 1)
            if version.load_s is not None:
                load.add_metric(key, version.load_s)
                triton_load.add_metric(key, version.load_s)
        for key, count in workers_up.items():
            up.add_metric(key, count)
        yield from (up, off, load, triton_load)
        yield from _counters(self._manager.versions.counts())

    def _files(self) -> Iterator[Metric]:
        successful = GaugeMetricFamily(
            "modelport_last_reload_successful", "1 if the newest content is in use, 0 if it is invalid", labels=["file"]
        )
        for name, success in self._reloads().items():
            successful.add_metric([name], success)
        dropped = CounterMetricFamily("modelport_log_dropped", "Lines that a log could not keep", labels=["log"])
        for log, lines in self._log_dropped().items():
            dropped.add_metric([log], lines)
        yield from (successful, dropped)

    def _processes(self) -> Iterator[Process]:
        yield Process("supervisor", None)
        for front in self._fronts:
            if front.pid:
                yield Process(f"front-{front.number}", front.pid)
        if self._manager.zygotes is not None:
            yield from (Process(name, pid) for name, pid in self._manager.zygotes.named().items())
        for version in list(self._manager.versions.values()):
            for worker in list(version.workers):
                if worker.pid:
                    name = f"worker-{version.key.model}-{version.key.version}"
                    yield Process(name, worker.pid, worker.launch.memory_limit)


def repository_families(mirrors: Mirrors) -> Iterator[Metric]:
    followed = mirrors.all()
    if not followed:
        return
    last = GaugeMetricFamily(
        "modelport_repository_last_sync_timestamp_seconds",
        "Time at which a remote repository was last read, with everything in the cache; 0 if never",
        labels=["repository"],
    )
    failures = CounterMetricFamily(
        "modelport_repository_sync_failures",
        "Attempts to read a remote repository that failed, or left files out",
        labels=["repository"],
    )
    by_location: dict[str, list[Mirror]] = {}  # two may look the same: a base_path of two models, or other signatures
    for mirror in followed:
        by_location.setdefault(str(mirror.location), []).append(mirror)
    for location, each in by_location.items():
        last.add_metric([location], min(mirror.last_sync_s for mirror in each))
        failures.add_metric([location], sum(mirror.failures for mirror in each))
    cache = GaugeMetricFamily("modelport_model_cache_bytes", "Size of the files of remote repositories on disk")
    cache.add_metric([], mirrors.cached_bytes())
    yield from (last, failures, cache)


def environment_families(builder: Builder) -> Iterator[Metric]:
    states = GaugeMetricFamily(
        "modelport_environment_state",
        "1 if the environment is in this state, 0 if not",
        labels=["runtime", "state"],
    )
    duration = GaugeMetricFamily(
        "modelport_environment_build_duration_seconds", "Time that the last build took", labels=["runtime"]
    )
    for runtime, current in dict(builder.states).items():
        for state in BuildState:
            states.add_metric([runtime, state.value], state is current)
    for runtime, seconds in dict(builder.build_s).items():
        duration.add_metric([runtime], seconds)
    yield from (states, duration)


def _counters(counts: Mapping[tuple[str, str], WorkerCounts]) -> Iterator[Metric]:
    starts = CounterMetricFamily("modelport_worker_starts", "Workers that were started", labels=_VERSION)
    restarts = CounterMetricFamily(
        "modelport_worker_restarts", "Workers that crashed and were restarted", labels=_VERSION
    )
    audits = CounterMetricFamily("modelport_audits", "Batched requests that ran again alone", labels=_VERSION)
    differences = CounterMetricFamily(
        "modelport_audit_differences", "Audited requests that got a different answer", labels=_VERSION
    )
    for key, count in counts.items():
        starts.add_metric(key, count.starts)
        restarts.add_metric(key, count.restarts)
        audits.add_metric(key, count.audits)
        differences.add_metric(key, count.differences)
    yield from (starts, restarts, audits, differences)
