"""The metrics of processes, by name and pid, and of the machine."""

from collections.abc import Iterable, Iterator
from threading import Lock
from typing import NamedTuple

import psutil
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.process.resident import private_bytes


class Process(NamedTuple):
    """pid: None for this one. memory_limit: in bytes; 0: none."""

    name: str
    pid: int | None
    memory_limit: int = 0


def process_families(processes: Iterable[Process]) -> Iterator[Metric]:
    """Leaves out processes that have ended."""
    labels = ["process", "pid"]
    resident = GaugeMetricFamily(
        "modelport_process_resident_memory_bytes", "Resident memory, by process", labels=labels
    )
    private = GaugeMetricFamily(
        "modelport_process_private_memory_bytes",
        "Memory that only this process has, without files",
        labels=labels,
    )
    limit = GaugeMetricFamily(
        "modelport_process_memory_limit_bytes", "The limit of private memory, by process", labels=labels
    )
    cpu = CounterMetricFamily("modelport_process_cpu_seconds", "CPU time, by process", labels=labels)
    files = GaugeMetricFamily("modelport_process_open_fds", "Open file descriptors", labels=labels)
    for name, pid, memory_limit in processes:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times, memory, open_files = process.cpu_times(), process.memory_info(), process.num_fds()
        except (psutil.Error, OSError):
            continue
        values = [name, str(process.pid)]
        resident.add_metric(values, memory.rss)
        private.add_metric(values, private_bytes(process.pid))
        cpu.add_metric(values, times.user + times.system)
        files.add_metric(values, open_files)
        if memory_limit:
            limit.add_metric(values, memory_limit)
    yield from (resident, private, limit, cpu, files)


class MachineMetrics:
    """The metrics of the machine, by Triton's names. Scrapes are on several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._times = _cpu_times()
        self._utilization = 0.0

    def collect(self) -> Iterator[Metric]:
        memory = psutil.virtual_memory()
        yield GaugeMetricFamily("nv_cpu_utilization", "CPU utilization, 0 to 1", value=self._cpu_utilization())
        yield GaugeMetricFamily("nv_cpu_memory_total_bytes", "Memory of the machine", value=memory.total)
        yield GaugeMetricFamily(
            "nv_cpu_memory_used_bytes", "Memory of the machine in use", value=memory.total - memory.available
        )

    def _cpu_utilization(self) -> float:
        """Return the utilization since the last call. psutil's own function compares with the last of its thread."""
        with self._lock:
            times = _cpu_times()
            busy, total = (now - before for now, before in zip(times, self._times, strict=True))
            if total > 0:  # otherwise the clock has not ticked
                self._utilization = min(max(busy / total, 0.0), 1.0)
                self._times = times
            return self._utilization


def _cpu_times() -> tuple[float, float]:
    """Return the seconds in which cores were busy, and all seconds."""
    times = psutil.cpu_times()._asdict()
    # Linux counts the time of guests as user time too.
    total = sum(times.values()) - times.get("guest", 0.0) - times.get("guest_nice", 0.0)
    return total - times["idle"] - times.get("iowait", 0.0), total
