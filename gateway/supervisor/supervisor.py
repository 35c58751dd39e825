"""The parent of all: starts fronts and workers, replaces what dies, handles signals, owns the metrics."""

import asyncio
import contextlib
import fcntl
import logging
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from prometheus_client import CollectorRegistry, generate_latest

from gateway.config import Settings, SettingsError, home, listed, parse_address
from gateway.domain.control import (
    Answers,
    CancelExport,
    GetConfiguration,
    GetExport,
    GetExportArchive,
    GetIndex,
    GetMetrics,
    GetStatistics,
    LoadModel,
    RegisterRegion,
    StartExport,
    UnloadModel,
    UnregisterRegion,
)
from gateway.domain.shared_memory import Region, Registry
from gateway.domain.table import Table
from gateway.environments.builder import Builder
from gateway.environments.runtime import Runtime
from gateway.front.options import FrontOptions
from gateway.lifecycle.manager import Manager, ManagerOptions
from gateway.metrics.collector import FrontFigures, GatewayCollector, registry
from gateway.metrics.server import serve_metrics
from gateway.metrics.triton_statistics import model_statistics
from gateway.repository.scan import Scan, scan
from gateway.supervisor.export_jobs import Exports
from gateway.supervisor.front_process import FrontProcess
from gateway.supervisor.own_metrics import OwnFigures
from gateway.supervisor.ports import listen, reserve

log = logging.getLogger("gateway")

_RESPAWN_S = 0.5
# What fronts and workers get of the grace period, when the last request has been answered, to end.
_LEAVE_S = 3.0
_MAX_TEMP_LENGTH = 46


class Supervisor:
    """`run` is the gateway's life. `http`, `grpc` and `metrics` tell the real ports once it is bound."""

    def __init__(
        self,
        repository: Path,
        settings: Settings,
        runtimes: Mapping[str, Runtime],
        only: frozenset[str] = frozenset(),
        scan: Scan = scan,
    ) -> None:
        self.settings = settings
        environments = home()
        self._metrics_socket: socket.socket | None = None
        with contextlib.ExitStack() as taken:  # what follows may fail, and leaves no port taken then
            self.http = taken.enter_context(listen(parse_address(settings.http), "http"))
            self.grpc = taken.enter_context(reserve(parse_address(settings.grpc), "grpc"))
            if settings.metrics:
                self._metrics_socket = taken.enter_context(listen(parse_address(settings.metrics), "metrics"))
            self._run_dir, self._run_lock = _run_dir()
            taken.pop_all()
        self._figures = FrontFigures()
        self._fronts: dict[int, FrontProcess] = {}
        self._front_restarts = 0
        self._draining = False
        self._stop = asyncio.Event()
        self._table = Table()
        self._shared_memory = Registry()
        external = {name: each.python for name, each in settings.runtimes.items() if each.python}
        self._exports = Exports(_of_models(repository), self._run_dir, external, settings.allow_export)
        self.builder = Builder(environments, settings.accelerator, external, only, self._on_progress)
        options = ManagerOptions(
            repository=repository,
            run_dir=self._run_dir,
            accelerator=settings.accelerator,
            poll_s=settings.poll_s,
            grace_s=settings.grace_s,
            strict_readiness=settings.strict_readiness,
            max_response_bytes=settings.max_response_bytes,
            audit_share=settings.audit_share,
            control=settings.repository_control,
            load_model=tuple(listed(settings.load_model)),
            scan=scan,
        )
        self.manager = Manager(options, runtimes, self.builder, self._publish)
        self.answers = self._answer_fronts()
        own = OwnFigures(self.manager, lambda: self._fronts.values(), lambda: self._front_restarts)
        self._registry: CollectorRegistry = registry(GatewayCollector(self._figures, own.collect))

    def ports(self) -> dict[str, int]:
        bound = {"http": self.http, "grpc": self.grpc}
        if self._metrics_socket is not None:
            bound["metrics"] = self._metrics_socket
        return {name: sock.getsockname()[1] for name, sock in bound.items()}

    async def run(self, on_serving: Callable[[], None] = lambda: None) -> None:
        """Until a signal (see `handle_signals`); a second ends it at once. `on_serving`: a front takes requests."""
        manager = asyncio.create_task(self.manager.run())
        fronts = [asyncio.create_task(self._keep_front(on_serving)) for _ in range(self.settings.fronts)]
        metrics = serve_metrics(self._metrics_socket, self._registry) if self._metrics_socket else None
        try:
            stopping = asyncio.create_task(self._stop.wait())
            done, _ = await asyncio.wait([stopping, manager], return_when=asyncio.FIRST_COMPLETED)
            if manager in done:
                manager.result()
            await self._drain(fronts)
        finally:
            for task in (manager, *fronts):
                task.cancel()
            await asyncio.gather(manager, *fronts, return_exceptions=True)
            await self._exports.close()
            await self.builder.close()
            await self.manager.close()
            if metrics is not None:
                metrics.shutdown()
            self.close()

    def close(self) -> None:
        """Let go of ports and of the run directory."""
        for sock in (self.http, self.grpc, self._metrics_socket):
            if sock is not None:
                sock.close()
        shutil.rmtree(self._run_dir, ignore_errors=True)
        self._run_lock.close()

    def handle_signals(self) -> None:
        """From now on a signal is an orderly stop: to be called before anybody is told that the gateway is there."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        if self._stop.is_set():
            log.warning("stopping at once")
            for front in self._fronts.values():
                front.kill()
            self.manager.kill()
        self._stop.set()

    async def _drain(self, fronts: list["asyncio.Task[None]"]) -> None:
        grace = self.settings.grace_s
        log.info("stopping: requests under way are answered, for at most %g s", grace)
        self._draining = True
        # Fronts and workers take their leave within the grace period too, or whoever counts it kills us.
        leave = min(_LEAVE_S, grace / 3)
        for front in self._fronts.values():
            front.drain(grace - leave)
        _, late = await asyncio.wait(fronts, timeout=grace - leave / 2)
        if late:
            log.warning("a front did not leave in time and is killed")

    async def _keep_front(self, on_serving: Callable[[], None]) -> None:
        """A front, and another when it dies."""
        while not self._draining:
            front = FrontProcess(self._front_options, self.http, self._figures.update, self.answers.on_call)
            self._fronts[front.number] = front
            serving = asyncio.create_task(self._when_serving(front, on_serving))
            try:
                code = await front.run(lambda: self._table)
            except OSError as error:
                log.error("front %d could not be started: %s", front.number, error.strerror or error)
                code = 1
            finally:
                serving.cancel()
                del self._fronts[front.number]
                self._figures.fold(front.number)
            if not self._draining:
                self._front_restarts += 1
                log.error("front %d ended with code %d and is replaced", front.number, code)
                if not front.serving.is_set():
                    await asyncio.sleep(_RESPAWN_S)  # it cannot even start: do not spin

    @staticmethod
    async def _when_serving(front: FrontProcess, on_serving: Callable[[], None]) -> None:
        await front.serving.wait()
        on_serving()

    def _front_options(self, number: int) -> FrontOptions:
        settings = self.settings
        return FrontOptions(
            number=number,
            run_dir=str(self._run_dir),
            grpc_host=parse_address(settings.grpc).host,
            grpc_port=self.grpc.getsockname()[1],
            grpc_server=settings.grpc_server,
            grpc_keepalive_s=settings.grpc_keepalive_s,
            grpc_max_connection_age_s=settings.grpc_max_connection_age_s,
            grace_s=settings.grace_s,
            max_json_bytes=settings.max_json_bytes,
            max_body_bytes=settings.max_body_bytes,
            max_response_bytes=settings.max_response_bytes,
            max_requests=max(1, settings.max_requests // settings.fronts),
            max_admitted_bytes=max(1, settings.max_admitted_bytes // settings.fronts),
            request_timeout_s=settings.request_timeout_s,
            header_timeout_s=settings.header_timeout_s,
            min_body_rate=settings.min_body_rate,
            shared_memory=settings.shared_memory,
            server_name=settings.server_name,
            allowed_hosts=[name.lower() for name in listed(settings.allowed_hosts)],
        )

    def _publish(self, table: Table) -> None:
        self._table = replace(table, regions=tuple(self._shared_memory.regions.values()))
        for front in self._fronts.values():
            front.tell(self._table)

    def _on_progress(self) -> None:
        self.manager.refresh()

    def _answer_fronts(self) -> Answers:
        """What fronts ask for on behalf of clients."""
        manager, exports, answers = self.manager, self._exports, Answers()
        answers.add(GetIndex, lambda _: manager.index())
        answers.add(LoadModel, lambda asked: manager.load(asked.name))
        answers.add(UnloadModel, lambda asked: manager.unload(asked.name))
        answers.add(GetConfiguration, lambda asked: manager.configuration(asked.name, asked.version))
        answers.add(GetMetrics, lambda _: generate_latest(self._registry).decode())
        answers.add(GetStatistics, self._statistics)
        answers.add(RegisterRegion, self._register)
        answers.add(UnregisterRegion, self._unregister)
        answers.add(StartExport, lambda asked: exports.start(asked.name, asked.version, asked.options))
        answers.add(GetExport, lambda asked: exports.status(asked.name, asked.export))
        answers.add(GetExportArchive, lambda asked: exports.result(asked.name, asked.export))
        answers.add(CancelExport, lambda asked: exports.cancel(asked.name, asked.export))
        return answers

    async def _statistics(self, asked: GetStatistics) -> dict[str, Any]:
        await asyncio.gather(*[front.report() for front in self._fronts.values()])
        return model_statistics(self._figures.totals(), [(name, version) for name, version in asked.versions])

    def _register(self, asked: RegisterRegion) -> None:
        self._shared_memory.register(Region(asked.name, asked.key, asked.offset, asked.byte_size))
        self._publish(self._table)

    def _unregister(self, asked: UnregisterRegion) -> None:
        self._shared_memory.unregister(asked.name)
        self._publish(self._table)


def _of_models(repository: Path) -> Path | None:
    """The repository, if it is one: a single artifact and TensorFlow Serving's models.config are not."""
    return repository.absolute() if repository.is_dir() else None


def _run_dir() -> tuple[Path, IO[str]]:
    """A private folder for the workers' and fronts' sockets, whose paths must stay under 104 bytes on every system.

    Raises SettingsError, OSError.
    """
    try:
        chosen = Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise SettingsError(
            "no folder for temporary files can be written to; mount a writable /tmp, or name one in TMPDIR"
        ) from None
    if len(str(chosen)) > _MAX_TEMP_LENGTH:
        chosen = Path("/tmp")  # noqa: S108 - mkdtemp makes it private
    for left in chosen.glob("modelport-*/lock"):
        # A gateway that was killed could not tidy up. Whoever still lives holds the lock, in other containers too.
        with contextlib.suppress(OSError), left.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent)
    made = Path(tempfile.mkdtemp(prefix="modelport-", dir=chosen))
    lock = (made / "lock").open("w")  # open, and so locked, until this process ends
    fcntl.flock(lock, fcntl.LOCK_EX)
    return made, lock
