"""The metrics of the supervisor itself: models, workers, processes, GPUs."""

from collections.abc import Callable, Iterable, Iterator

import psutil
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.lifecycle.manager import Manager
from gateway.lifecycle.model_version import add_counts
from gateway.lifecycle.policy import State
from gateway.metrics.gpu import GpuCollector
from gateway.supervisor.front_process import FrontProcess


class SupervisorCollector:
    """Collects metrics on the metrics port's thread. It only reads, and copies each collection before it iterates."""

    def __init__(
        self, manager: Manager, fronts: Callable[[], Iterable[FrontProcess]], front_restarts: Callable[[], int]
    ) -> None:
        self._manager = manager
        self._fronts = fronts
        self._front_restarts = front_restarts
        self._gpu = GpuCollector()

    def collect(self) -> Iterator[Metric]:
        yield from self._models()
        yield CounterMetricFamily(
            "modelport_front_restarts", "Front processes that were replaced", value=self._front_restarts()
        )
        yield from self._processes()
        yield from self._gpu.collect()

    def _models(self) -> Iterator[Metric]:
        models = GaugeMetricFamily("modelport_models", "Model versions by state", labels=["state"])
        workers = GaugeMetricFamily("modelport_workers_up", "Workers that are ready", labels=["model", "version"])
        restarts = CounterMetricFamily(
            "modelport_worker_restarts", "Workers that crashed and were restarted", labels=["model", "version"]
        )
        audits = CounterMetricFamily(
            "modelport_audits", "Batched requests that ran again alone", labels=["model", "version"]
        )
        differences = CounterMetricFamily(
            "modelport_audit_differences",
            "Audited requests that got a different answer",
            labels=["model", "version"],
        )
        off = GaugeMetricFamily(
            "modelport_batching_off", "1 if requests run alone, and why", labels=["model", "version", "reason"]
        )
        versions = list(self._manager.versions.values())
        for version in versions:
            if version.batching_off_reason:
                off.add_metric([*version.key[:2], version.batching_off_reason], 1)
        for state in State:
            models.add_metric([state.value], sum(version.state is state for version in versions))
        # Several entries may have the same model and version, while new files replace old ones.
        workers_up: dict[tuple[str, str], int] = {}
        restart_counts = dict(self._manager.restarts)
        audit_counts = dict(self._manager.audits)
        for version in versions:
            key = version.key[:2]
            workers_up[key] = workers_up.get(key, 0) + sum(each.ready is not None for each in list(version.workers))
            restart_counts[key] = restart_counts.get(key, 0) + version.restarts
            audit_counts[key] = add_counts(audit_counts.get(key, (0, 0)), version.audits)
        for key, count in workers_up.items():
            workers.add_metric(key, count)
        for key, count in restart_counts.items():
            restarts.add_metric(key, count)
        for key, (runs, different) in audit_counts.items():
            audits.add_metric(key, runs)
            differences.add_metric(key, different)
        yield from (models, workers, restarts, off, audits, differences)

    def _processes(self) -> Iterator[Metric]:
        memory = GaugeMetricFamily(
            "modelport_process_resident_memory_bytes", "Resident memory, by process", labels=["process", "pid"]
        )
        cpu = CounterMetricFamily("modelport_process_cpu_seconds", "CPU time, by process", labels=["process", "pid"])
        files = GaugeMetricFamily("modelport_process_open_fds", "Open file descriptors", labels=["process", "pid"])
        for name, pid in self._pids():
            try:
                process = psutil.Process(pid)
                with process.oneshot():
                    times = process.cpu_times()
                    labels = [name, str(process.pid)]
                    memory.add_metric(labels, process.memory_info().rss)
                    cpu.add_metric(labels, times.user + times.system)
                    files.add_metric(labels, process.num_fds())
            except (psutil.Error, OSError):
                continue  # the process has ended
        yield from (memory, cpu, files)

    def _pids(self) -> Iterator[tuple[str, int | None]]:
        yield "supervisor", None
        for front in list(self._fronts()):
            if front.pid:
                yield f"front-{front.number}", front.pid
        for version in list(self._manager.versions.values()):
            for worker in list(version.workers):
                if worker.pid:
                    yield f"worker-{version.key.model}-{version.key.version}", worker.pid
