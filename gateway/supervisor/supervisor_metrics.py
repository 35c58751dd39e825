"""The metrics of the supervisor itself: models, workers, processes, GPUs."""

import os
from collections.abc import Callable, Iterable, Iterator

from gateway.lifecycle.manager import Manager
from gateway.lifecycle.model_version import add_counts
from gateway.lifecycle.policy import State
from gateway.metrics.exposition import Family
from gateway.metrics.gpu import GpuCollector
from gateway.process.usage import usage
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

    def collect(self) -> Iterator[Family]:
        yield from self._models()
        fronts = Family("modelport_front_restarts", "Front processes that were replaced", "counter")
        fronts.add((), self._front_restarts())
        yield fronts
        yield from self._processes()
        yield from self._gpu.collect()

    def _models(self) -> Iterator[Family]:
        models = Family("modelport_models", "Model versions by state", "gauge", ["state"])
        workers = Family("modelport_workers_up", "Workers that are ready", "gauge", ["model", "version"])
        restarts = Family(
            "modelport_worker_restarts", "Workers that crashed and were restarted", "counter", ["model", "version"]
        )
        audits = Family("modelport_audits", "Batched requests that ran again alone", "counter", ["model", "version"])
        differences = Family(
            "modelport_audit_differences",
            "Audited requests that got a different answer",
            "counter",
            ["model", "version"],
        )
        off = Family(
            "modelport_batching_off", "1 if requests run alone, and why", "gauge", ["model", "version", "reason"]
        )
        versions = list(self._manager.versions.values())
        for version in versions:
            if version.batching_off_reason:
                off.add([*version.key[:2], version.batching_off_reason], 1)
        for state in State:
            models.add([state.value], sum(version.state is state for version in versions))
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
            workers.add(key, count)
        for key, count in restart_counts.items():
            restarts.add(key, count)
        for key, (runs, different) in audit_counts.items():
            audits.add(key, runs)
            differences.add(key, different)
        yield from (models, workers, restarts, off, audits, differences)

    def _processes(self) -> Iterator[Family]:
        memory = Family(
            "modelport_process_resident_memory_bytes", "Resident memory, by process", "gauge", ["process", "pid"]
        )
        cpu = Family("modelport_process_cpu_seconds", "CPU time, by process", "counter", ["process", "pid"])
        files = Family("modelport_process_open_fds", "Open file descriptors", "gauge", ["process", "pid"])
        for name, pid in self._pids():
            try:
                used = usage(pid)
            except OSError:
                continue  # the process has ended
            labels = [name, str(pid)]
            memory.add(labels, used.resident_bytes)
            cpu.add(labels, used.cpu_s)
            files.add(labels, used.descriptors)
        yield from (memory, cpu, files)

    def _pids(self) -> Iterator[tuple[str, int]]:
        yield "supervisor", os.getpid()
        for front in list(self._fronts()):
            if front.pid:
                yield f"front-{front.number}", front.pid
        for version in list(self._manager.versions.values()):
            for worker in list(version.workers):
                if worker.pid:
                    yield f"worker-{version.key.model}-{version.key.version}", worker.pid
