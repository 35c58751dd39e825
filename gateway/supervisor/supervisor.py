"""The parent process: binds ports, runs fronts and models, follows what they depend on, and handles signals."""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
from collections.abc import Callable, Collection, Mapping
from functools import partial
from itertools import chain
from pathlib import Path

from prometheus_client import CollectorRegistry

from gateway.config import Settings, SettingsError, home, split_names
from gateway.domain.table import Table
from gateway.domain.uploads import uploads_folder
from gateway.environments.builder import Builder
from gateway.environments.runtime import Runtime
from gateway.lifecycle.load_requests import LoadRequests
from gateway.lifecycle.manager import Manager
from gateway.lifecycle.run_dir import new_run_dir
from gateway.lifecycle.selection import steps_below
from gateway.metrics.collector import GatewayCollector, MetricsAggregator, build_registry
from gateway.metrics.server import serve_metrics
from gateway.process.channel import REOPEN
from gateway.process.tls import Pem
from gateway.process.usage_page import USAGE_FILE, clear_front
from gateway.repository.errors import RepositoryError
from gateway.supervisor.certificates import Certificates
from gateway.supervisor.control_requests import ControlRequests
from gateway.supervisor.export_jobs import ExportJobs
from gateway.supervisor.front_process import FrontCallbacks, Message
from gateway.supervisor.front_state import FrontState
from gateway.supervisor.fronts import Fronts
from gateway.supervisor.graph_files import GraphFiles
from gateway.supervisor.identities import Identities
from gateway.supervisor.live_figures import write_figures
from gateway.supervisor.log_output import LogOutput
from gateway.supervisor.options import front_options, manager_options
from gateway.supervisor.overview import OverviewReader
from gateway.supervisor.ports import Ports
from gateway.supervisor.request_logs import RequestLogs
from gateway.supervisor.security import (
    SecurityStatus,
    delegated_memory_groups,
    front_protections,
    server_protections,
    worker_protections,
)
from gateway.supervisor.served import Served, one_folder
from gateway.supervisor.supervisor_metrics import SupervisorCollector
from gateway.supervisor.tracing import trace_endpoint, trace_table
from gateway.supervisor.traffic import TrafficBook
from gateway.tensorboard import events

log = logging.getLogger("gateway")


class Supervisor:
    """Runs the gateway. The ports are bound when it is created.

    Raises SettingsError if a port cannot be bound, or TLS files or the audit log cannot be used.
    """

    def __init__(
        self,
        served: Served | Path,
        settings: Settings,
        runtimes: Mapping[str, Runtime],
        only: frozenset[str] = frozenset(),
        log_output: LogOutput | None = None,
    ) -> None:
        """served: what is served, or the path of one repository. log_output: what the settings of the log apply to."""
        self.settings = settings
        self._runtimes = runtimes
        self._served = served = one_folder(served) if isinstance(served, Path) else served
        environments = home()
        endpoint = trace_endpoint(settings, os.environ)
        self._traces = trace_table(settings, endpoint)
        if settings.tensorboard and not events.available():
            raise SettingsError(f"tensorboard needs the package tensorboardX: {events.EXTRA}")
        self.certificates = Certificates(settings, self._publish_certificate)
        with contextlib.ExitStack() as opened:  # is closed if a later step fails
            self.ports = opened.enter_context(contextlib.closing(Ports(settings)))
            self._logs = opened.enter_context(contextlib.closing(RequestLogs(settings)))
            self.identities = Identities(settings, [self.ports.http, self.ports.grpc], self._logs.record, log)
            self._run_dir, self._run_lock = new_run_dir()
            opened.pop_all()
        self._stop = asyncio.Event()
        memory_groups, no_memory_groups = delegated_memory_groups()
        self._security = SecurityStatus(
            {**worker_protections(settings, no_memory_groups), **front_protections(settings)},
            server_protections(settings, self.identities.note),
        )

        pythons = {name: each.python for name, each in settings.runtimes.items() if each.python}
        self.builder = Builder(
            environments, settings.accelerator, pythons, only, lambda: self.manager.refresh(), settings.require_locks
        )
        self.manager = Manager(
            manager_options(settings, served, self._run_dir, environments, memory_groups),
            runtimes,
            self.builder,
            self._publish_table,
        )
        self.loads = LoadRequests(self.manager, served.mirrors.prepare, served.mirrors.finished)
        self._exports = ExportJobs(
            served.folder_of, self._run_dir, pythons, settings.allow_export, settings.require_locks
        )
        self._graph_files = GraphFiles(self._run_dir / "graphs", self.builder)

        has_policy = self.identities.policy is not None
        grpc_port, descriptor = self.ports.numbers()["grpc"], self._logs.access_descriptor
        self.fronts = Fronts(
            settings.fronts,
            self.ports.http,
            partial(front_options, settings, self._run_dir, grpc_port, has_policy, descriptor, endpoint),
        )
        log_output = log_output or LogOutput(settings.log)
        traffic = TrafficBook(self.manager)
        self.state = FrontState(self.fronts, traffic, log_output, self._traces, self.identities, self.certificates)

        self._metrics = MetricsAggregator()
        own = SupervisorCollector(
            self.manager, self.builder, self.fronts, self._reloads, self._logs.dropped, served.mirrors
        )
        self._registry: CollectorRegistry = build_registry(
            GatewayCollector(self._metrics, lambda: chain(own.collect(), self._security.collect(), traffic.collect()))
        )
        self._overview = OverviewReader(
            settings, self.fronts, self.manager, self.builder, self._metrics, self.identities, served.mirrors
        )
        self.handlers = ControlRequests(
            settings=settings,
            run_dir=self._run_dir,
            manager=self.manager,
            loads=self.loads,
            fronts=self.fronts,
            state=self.state,
            exports=self._exports,
            graph_files=self._graph_files,
            overview=self._overview,
            security=self._security,
            metrics=self._metrics,
            registry=self._registry,
        ).handlers()

    async def run(self, on_serving: Callable[[], None] = lambda: None) -> None:
        """Run until a signal (see `handle_signals`); a second signal ends it immediately.

        `on_serving` is called when a front accepts requests. Raises NoFrontStarted.
        """
        self._security.log()
        manager = asyncio.create_task(self._run_manager())
        self.fronts.start(self._front_callbacks(), on_serving)
        watches = [
            asyncio.create_task(self.certificates.run()),
            asyncio.create_task(self.identities.run(self.state.publish_policy)),
        ]
        if self.settings.tensorboard:
            folder, overview = Path(self.settings.tensorboard), self._overview
            watches.append(asyncio.create_task(write_figures(folder, overview.started, overview.models)))
        metrics = None
        if self.ports.metrics is not None:
            tls = None if self.certificates.tls is None else self.certificates.tls.context("http/1.1")
            metrics = serve_metrics(self.ports.metrics, self._registry, tls=tls, check=self.identities.check_metrics)
        try:
            stopping = asyncio.create_task(self._stop.wait())
            failing = asyncio.create_task(self.fronts.until_failed())
            watches.append(failing)
            done, _ = await asyncio.wait([stopping, manager, failing], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
            log.info("stopping: requests in progress have up to %g s to finish", self.settings.grace_s)
            self.loads.stop()
            await self.fronts.drain(self.settings.drain_s, self.settings.grace_s)
        finally:
            self._served.mirrors.stop()
            for task in (manager, *watches):
                task.cancel()
            await asyncio.gather(manager, *watches, self.fronts.close(), return_exceptions=True)
            await self._exports.close()
            await self._graph_files.close()
            await self.builder.close()
            await self.manager.close()
            if metrics is not None:
                metrics.shutdown()
            self.close()

    def close(self) -> None:
        """Release the ports and delete the run directory."""
        self.ports.close()
        shutil.rmtree(self._run_dir, ignore_errors=True)
        self._run_lock.close()
        self._logs.close()

    def handle_signals(self) -> None:
        """Stop in order on SIGTERM and SIGINT; on SIGHUP, have the access log opened again.

        Call this before announcing that the gateway has started.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        if self.settings.access_log:
            loop.add_signal_handler(signal.SIGHUP, self.fronts.send, Message(REOPEN, {}))

    def _on_signal(self) -> None:
        if self._stop.is_set():
            log.warning("stopping immediately")
            self.fronts.kill()
            self.manager.kill()
        self._stop.set()

    async def _run_manager(self) -> None:
        """Follow the repositories. Unless they are polled, they are scanned once, after all have been read."""
        served, loop = self._served, asyncio.get_running_loop()

        def on_change() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self.manager.scan_soon)

        served.mirrors.start(on_change, lambda: {key[:2] for key in list(self.manager.versions)})
        if self.settings.repository_control != "poll":
            await served.mirrors.first_sync()
            named = set(split_names(self.settings.load_model))
            await served.mirrors.prepare(named)
            await served.mirrors.prepare(named | await asyncio.to_thread(self._steps_of, named))
        await self.manager.run()

    def _steps_of(self, models: Collection[str]) -> set[str]:
        """Return the models that pipelines run; none if the repositories cannot be scanned, which the manager logs."""
        try:
            configs = self._served.scan(self._served.path, self._runtimes)
        except RepositoryError:
            return set()
        return steps_below(models, {config.name: {step.model for step in config.steps} for config in configs})

    def _front_callbacks(self) -> FrontCallbacks:
        return FrontCallbacks(
            current=self.state.current,
            on_call=self.handlers.on_call,
            on_snapshot=self._metrics.update,
            on_audit=self._logs.on_audit,
            on_refetch=self.identities.refetch,
            on_traced=self._traces.on_traced,
            on_unlogged=self._logs.on_unlogged,
            on_wanted=self.manager.want,
            on_end=self._on_front_end,
        )

    def _on_front_end(self, front: int) -> None:
        """Clean up after a front, which may have been killed."""
        self._traces.on_front_ended(front)
        self._metrics.retire(front)
        clear_front(self._run_dir / USAGE_FILE, front)
        shutil.rmtree(uploads_folder(self._run_dir, front), ignore_errors=True)

    def _publish_table(self, table: Table) -> None:
        self._overview.expire()
        self.state.publish_table(table)

    def _publish_certificate(self, pem: Pem) -> None:
        self.state.publish_certificate(pem)

    def _reloads(self) -> dict[str, bool]:
        """Return whether the files of each kind could be used after their last change."""
        return {**self.certificates.reloads(), **self.identities.reloads()}
