"""What the supervisor sees itself: models, workers, processes, GPUs."""

from collections.abc import Callable, Iterable, Iterator

import psutil
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.lifecycle.manager import Manager
from gateway.lifecycle.policy import State
from gateway.lifecycle.served import added
from gateway.metrics.gpu import GpuFigures
from gateway.supervisor.front_process import FrontProcess


class OwnFigures:
    """`collect` runs on the metrics port's thread: it only reads, and copies what it walks over."""

    def __init__(
        self, manager: Manager, fronts: Callable[[], Iterable[FrontProcess]], front_restarts: Callable[[], int]
    ) -> None:
        self._manager = manager
        self._fronts = fronts
        self._front_restarts = front_restarts
        self._gpu = GpuFigures()

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
            "modelport_worker_restarts", "Workers that died and were restarted", labels=["model", "version"]
        )
        audits = CounterMetricFamily(
            "modelport_audits", "Batched requests that ran again by themselves", labels=["model", "version"]
        )
        differences = CounterMetricFamily(
            "modelport_audit_differences", "Those that got another answer by themselves", labels=["model", "version"]
        )
        off = GaugeMetricFamily(
            "modelport_batching_off", "1 where requests run by themselves", labels=["model", "version", "reason"]
        )
        served = list(self._manager.served.values())
        for each in served:
            if each.why_not_batched:
                off.add_metric([*each.unit[:2], each.why_not_batched], 1)
        for state in State:
            models.add_metric([state.value], sum(each.state is state for each in served))
        up: dict[tuple[str, str], int] = {}
        died = dict(self._manager.restarts)
        audited = dict(self._manager.audits)
        for each in served:
            key = each.unit[:2]
            up[key] = up.get(key, 0) + sum(worker.ready is not None for worker in list(each.workers))
            died[key] = died.get(key, 0) + each.restarts
            audited[key] = added(audited.get(key, (0, 0)), each.audits)
        for key, count in up.items():
            workers.add_metric(key, count)
        for key, count in died.items():
            restarts.add_metric(key, count)
        for key, (runs, found) in audited.items():
            audits.add_metric(key, runs)
            differences.add_metric(key, found)
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
                continue  # it has ended since
        yield from (memory, cpu, files)

    def _pids(self) -> Iterator[tuple[str, int | None]]:
        yield "supervisor", None
        for front in list(self._fronts()):
            if front.pid:
                yield f"front-{front.number}", front.pid
        for served in list(self._manager.served.values()):
            for worker in list(served.workers):
                if worker.pid:
                    yield f"worker-{served.unit.model}-{served.unit.version}", worker.pid
