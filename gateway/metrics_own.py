"""What the supervisor sees itself: models, workers, processes, GPUs; and the metrics port."""

import logging
import socket
import socketserver
import sys
from collections.abc import Callable, Iterable, Iterator
from threading import BoundedSemaphore, Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import psutil
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.front_process import FrontProcess
from gateway.gpu import GpuFigures
from gateway.repository.manager import Manager
from gateway.repository.policy import State
from gateway.repository.served import added

log = logging.getLogger("metrics")

# The metrics port looks so often whether it is to end; whoever ends it waits for that.
_TURN_S = 0.1


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


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """Over a socket that is bound and listens already.

    Each connection has a thread and a descriptor of the supervisor's: one beyond `most` is closed at
    once, and so is one that lets `patience_s` pass without a word.
    """

    daemon_threads = True

    def __init__(self, sock: socket.socket, most: int, patience_s: float) -> None:
        super().__init__(("", 0), _Quiet, bind_and_activate=False)
        self.socket.close()
        self.socket = sock
        self.patience_s = patience_s
        self._free = BoundedSemaphore(most)
        self.server_bind()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self._free.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception:
            self.handle_error(request, client_address)
        finally:
            # First, so that who sees the end of a connection can have the next one.
            self._free.release()
            self.shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            log.exception("a scrape failed")

    def server_bind(self) -> None:
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.setup_environ()

    def server_activate(self) -> None:
        pass


class _Quiet(WSGIRequestHandler):
    def setup(self) -> None:
        super().setup()
        assert isinstance(self.server, _Server)
        self.connection.settimeout(self.server.patience_s)

    def log_message(self, format: str, *args: Any) -> None:
        """A line per scrape is no news."""


def serve_metrics(
    sock: socket.socket, registry: CollectorRegistry, most_connections: int = 64, patience_s: float = 10.0
) -> WSGIServer:
    """Serve /metrics on a thread of its own, so that a scrape never waits for the supervisor's loop."""
    server = _Server(sock, most_connections, patience_s)
    server.set_app(make_wsgi_app(registry))
    Thread(target=server.serve_forever, args=(_TURN_S,), name="metrics", daemon=True).start()
    return server
