"""The parent process: binds ports, runs fronts and models, replaces fronts that crash, and handles signals."""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Thread
from typing import Any

from prometheus_client import CollectorRegistry

import gateway
from gateway.access.policy import Policy
from gateway.config import Settings, SettingsError, home, parse_address, split_names
from gateway.domain.control import (
    CancelExport,
    ChangeLogSettings,
    ChangeTraceSettings,
    ChangeTraffic,
    ControlHandlers,
    ExplainConfiguration,
    GetArtifact,
    GetConfiguration,
    GetExport,
    GetExportArchive,
    GetIndex,
    GetMetrics,
    GetOverview,
    GetPlaces,
    GetSecurity,
    GetStatistics,
    GetTraffic,
    LoadModel,
    PromoteVersion,
    RegisterRegion,
    RollBackTraffic,
    StartExport,
    UnloadModel,
    UnregisterRegion,
)
from gateway.domain.shared_memory import Region, RegionRegistry
from gateway.domain.table import Table
from gateway.domain.uploads import fetch_upload, uploads_folder
from gateway.environments.builder import Builder
from gateway.environments.runtime import Runtime
from gateway.front.options import FrontOptions
from gateway.lifecycle.manager import Manager, ManagerOptions
from gateway.lifecycle.needs_file import NeedsFile
from gateway.lifecycle.overrides import Override
from gateway.lifecycle.run_dir import new_run_dir
from gateway.lifecycle.sandbox import SandboxPolicy
from gateway.lifecycle.selection import steps_below
from gateway.lifecycle.starter import StarterOptions
from gateway.metrics.collector import GatewayCollector, MetricsAggregator, build_registry
from gateway.metrics.exposition import render
from gateway.metrics.selection import select
from gateway.metrics.server import serve_metrics
from gateway.metrics.triton_statistics import model_statistics
from gateway.process.channel import REOPEN, TRACE_SETTINGS
from gateway.process.tls import Pem, Renewals
from gateway.process.usage_page import USAGE_FILE, clear_front
from gateway.repository.scan import RepositoryError
from gateway.supervisor.explanation import explain
from gateway.supervisor.export_jobs import ExportJobs
from gateway.supervisor.front_process import (
    FrontProcess,
    Message,
    log_message,
    policy_message,
    table_changes_message,
    table_message,
    tls_message,
)
from gateway.supervisor.graph_files import GraphFiles
from gateway.supervisor.identities import Identities
from gateway.supervisor.live_figures import INTERVAL_S, LiveFigures
from gateway.supervisor.log_output import LogOutput
from gateway.supervisor.opened_files import access_log_descriptor, audit_log, server_tls, tls_files
from gateway.supervisor.overview import overview
from gateway.supervisor.ports import listen, reserve
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

# Delay before a front that could not start is replaced. Without it, a front that always fails would use up a core.
_RESPAWN_S = 0.5
# Less than the pages of the console wait between two readings.
_OVERVIEW_S = 1.0
# The part of the grace period that is kept for fronts and workers to exit, after the last request. If it is too short,
# they are killed while they close connections; if it is too long, requests are cut off early.
_EXIT_S = 3.0


class Supervisor:
    """Runs the gateway. The ports are bound when it is created; `ports` returns their numbers.

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
        self._log_output = log_output or LogOutput(settings.log)
        self._trace_endpoint = trace_endpoint(settings, os.environ)
        self._traces = trace_table(settings, self._trace_endpoint)
        if settings.tensorboard and not events.available():
            raise SettingsError(f"tensorboard needs the package tensorboardX: {events.EXTRA}")
        environments = home()
        self._tls_files = tls_files(settings)
        self._tls = server_tls(self._tls_files)
        self._renewals: Renewals | None = None
        if self._tls_files is not None and self._tls is not None:
            self._renewals = Renewals(self._tls_files, self._tls.pem, self._publish_tls, log)
        self._metrics_socket: socket.socket | None = None
        with contextlib.ExitStack() as bound:  # releases the ports if a later step fails
            self.http = bound.enter_context(listen(parse_address(settings.http), "http"))
            self.grpc = bound.enter_context(reserve(parse_address(settings.grpc), "grpc"))
            if settings.metrics:
                self._metrics_socket = bound.enter_context(listen(parse_address(settings.metrics), "metrics"))
            self._access_log_descriptor = access_log_descriptor(settings)
            bound.callback(self._close_access_log)
            self._audit_log = audit_log(settings)
            if self._audit_log is not None:
                bound.callback(self._audit_log.close)
            record = (lambda event: None) if self._audit_log is None else self._audit_log.record
            self.identities = Identities(settings, [self.http, self.grpc], record, log)
            self._run_dir, self._run_lock = new_run_dir()
            bound.pop_all()
        self._metrics = MetricsAggregator()
        self._fronts: dict[int, FrontProcess] = {}
        self._front_restarts = 0
        self._unlogged = 0
        self._started = time.time()
        self._overview_read: asyncio.Task[dict[str, Any]] | None = None
        self._overview_until = 0.0
        self._draining = False
        self._stop = asyncio.Event()
        self._table = Table()
        self._shared_memory = RegionRegistry()
        memory_groups, no_memory_groups = delegated_memory_groups()
        self._security = SecurityStatus(
            {**worker_protections(settings, no_memory_groups), **front_protections(settings)},
            server_protections(settings, self.identities.note),
        )
        external = {name: each.python for name, each in settings.runtimes.items() if each.python}
        self._runtimes = runtimes
        self._served = served = one_folder(served) if isinstance(served, Path) else served
        self._exports = ExportJobs(
            served.folder_of, self._run_dir, external, settings.allow_export, settings.require_locks
        )
        self.builder = Builder(
            environments, settings.accelerator, external, only, self._on_progress, settings.require_locks
        )
        self._graph_files = GraphFiles(self._run_dir / "graphs", self.builder)
        workers = StarterOptions(
            run_dir=self._run_dir,
            accelerator=settings.accelerator,
            max_response_bytes=settings.max_response_bytes,
            max_body_bytes=settings.max_body_bytes,
            audit_share=settings.audit_share,
            sandbox=SandboxPolicy(settings.sandbox, settings.allow_sandbox_exceptions, settings.allow_python),
            memory_groups=memory_groups,
            fork_workers=settings.fork_workers,
        )
        options = ManagerOptions(
            repository=served.path,
            workers=workers,
            poll_s=settings.poll_s,
            grace_s=settings.grace_s,
            strict_readiness=settings.strict_readiness,
            control=settings.repository_control,
            load_model=tuple(split_names(settings.load_model)),
            load=settings.load,
            memory_limit=settings.memory_limit,
            needs=NeedsFile(environments / "needs.json"),
            scan=served.scan,
            is_complete=served.mirrors.is_complete,
            prepare=served.mirrors.prepare,
            finished=served.mirrors.finished,
        )
        self.manager = Manager(options, runtimes, self.builder, self._publish)
        self.traffic = TrafficBook(self.manager)
        self.handlers = self._control_handlers()
        own = SupervisorCollector(
            self.manager,
            self.builder,
            lambda: self._fronts.values(),
            lambda: self._front_restarts,
            self._reloads,
            self._dropped,
            served.mirrors,
        )
        self._registry: CollectorRegistry = build_registry(
            GatewayCollector(
                self._metrics, lambda: chain(own.collect(), self._security.collect(), self.traffic.collect())
            )
        )

    def ports(self) -> dict[str, int]:
        bound = {"http": self.http, "grpc": self.grpc}
        if self._metrics_socket is not None:
            bound["metrics"] = self._metrics_socket
        return {name: sock.getsockname()[1] for name, sock in bound.items()}

    async def run(self, on_serving: Callable[[], None] = lambda: None) -> None:
        """Run until a signal (see `handle_signals`); a second signal ends it immediately.

        `on_serving` is called when a front accepts requests.
        """
        self._security.log()
        manager = asyncio.create_task(self._run_manager())
        fronts = [asyncio.create_task(self._run_front(on_serving)) for _ in range(self.settings.fronts)]
        watches = [
            asyncio.create_task(self._renew_tls()),
            asyncio.create_task(self.identities.run(self._publish_policy)),
        ]
        if self.settings.tensorboard:
            watches.append(asyncio.create_task(self._write_figures(Path(self.settings.tensorboard))))
        metrics = None
        if self._metrics_socket is not None:
            tls = None if self._tls is None else self._tls.context("http/1.1")
            metrics = serve_metrics(self._metrics_socket, self._registry, tls=tls, check=self.identities.check_metrics)
        try:
            stopping = asyncio.create_task(self._stop.wait())
            done, _ = await asyncio.wait([stopping, manager], return_when=asyncio.FIRST_COMPLETED)
            if manager in done:
                manager.result()
            await self._drain(fronts)
        finally:
            self._served.mirrors.stop()
            for task in (manager, *watches, *fronts):
                task.cancel()
            await asyncio.gather(manager, *watches, *fronts, return_exceptions=True)
            await self._exports.close()
            await self._graph_files.close()
            await self.builder.close()
            await self.manager.close()
            if metrics is not None:
                metrics.shutdown()
            self.close()

    async def _run_manager(self) -> None:
        """Follow the repositories. Unless they are polled, they are scanned once, after all have been read."""
        served, loop = self._served, asyncio.get_running_loop()

        def on_change() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self.manager.rescan)

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

    def close(self) -> None:
        """Release the ports and delete the run directory."""
        for sock in (self.http, self.grpc, self._metrics_socket):
            if sock is not None:
                sock.close()
        shutil.rmtree(self._run_dir, ignore_errors=True)
        self._run_lock.close()
        self._close_access_log()
        if self._audit_log is not None:
            self._audit_log.close()

    def _close_access_log(self) -> None:
        if self._access_log_descriptor >= 0:
            os.close(self._access_log_descriptor)
            self._access_log_descriptor = -1

    def handle_signals(self) -> None:
        """Stop in order on SIGTERM and SIGINT; on SIGHUP, have the access log opened again.

        Call this before announcing that the gateway has started.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        if self.settings.access_log:
            loop.add_signal_handler(signal.SIGHUP, self._send_all, Message(REOPEN, {}))

    def _on_signal(self) -> None:
        if self._stop.is_set():
            log.warning("stopping immediately")
            for front in self._fronts.values():
                front.kill()
            self.manager.kill()
        self._stop.set()

    async def _drain(self, fronts: list["asyncio.Task[None]"]) -> None:
        grace = self.settings.grace_s
        log.info("stopping: requests in progress have up to %g s to finish", grace)
        self._draining = True
        # Fronts and workers must exit within the grace period too: after it, a service manager may kill the gateway.
        exit_s = min(_EXIT_S, grace / 3)
        for front in self._fronts.values():
            front.drain(min(self.settings.drain_s, grace - exit_s), grace - exit_s)
        _, late = await asyncio.wait(fronts, timeout=grace - exit_s / 2)
        if late:
            log.warning("a front did not exit in time; killing it")

    async def _run_front(self, on_serving: Callable[[], None]) -> None:
        """Run a front, and replace it whenever it ends."""
        while not self._draining:
            front = FrontProcess(
                self._front_options,
                self.http,
                self._metrics.update,
                self.handlers.on_call,
                self._on_audit,
                self.identities.refetch,
                self._traces.on_traced,
                self._on_unlogged,
                self.manager.want,
            )
            self._fronts[front.number] = front
            serving = asyncio.create_task(self._when_serving(front, on_serving))
            try:
                code = await front.run(partial(self._current, front))
            except OSError as error:
                log.error("front %d could not be started: %s", front.number, error.strerror or error)
                code = 1
            finally:
                serving.cancel()
                del self._fronts[front.number]
                self._traces.on_front_ended(front.number)
                self._metrics.retire(front.number)
                clear_front(self._run_dir / USAGE_FILE, front.number)
                shutil.rmtree(uploads_folder(self._run_dir, front.number), ignore_errors=True)
            if not self._draining:
                self._front_restarts += 1
                log.error("front %d exited with code %d; replacing it", front.number, code)
                if not front.serving.is_set():
                    await asyncio.sleep(_RESPAWN_S)  # it did not even start

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
            cache_bytes=settings.cache_bytes,
            max_requests=max(1, settings.max_requests // settings.fronts),
            max_admitted_bytes=max(1, settings.max_admitted_bytes // settings.fronts),
            request_timeout_s=settings.request_timeout_s,
            header_timeout_s=settings.header_timeout_s,
            min_body_rate=settings.min_body_rate,
            max_connections=settings.max_connections,
            max_connections_per_peer=settings.max_connections_per_peer,
            shared_memory=settings.shared_memory,
            server_name=settings.server_name,
            invocations_model=settings.invocations_model,
            predict_route=settings.predict_route,
            health_route=settings.health_route,
            sagemaker_models=settings.sagemaker_models if settings.sagemaker_multi_model else "",
            max_upload_bytes=settings.max_upload_bytes if settings.allow_uploads else 0,
            fast_path=settings.fast_path,
            sandbox=settings.sandbox,
            tls=self._tls is not None,
            access=self.identities.policy is not None,
            access_log="" if settings.access_log in ("", "-") else str(Path(settings.access_log).absolute()),
            access_log_opener=-1,  # FrontProcess has it
            access_log_descriptor=self._access_log_descriptor,
            audit=self._audit_log is not None,
            otlp_endpoint=self._trace_endpoint,
            console=settings.console,
            cors_origins=split_names(settings.cors_origin),
            allowed_hosts=[name.lower() for name in split_names(settings.allowed_hosts)],
        )

    def _current(self, front: FrontProcess) -> Iterator[Message]:
        """Yield what a front must know, in this order, before it serves."""
        yield log_message(self._log_output.settings)
        yield self._trace_message(front)
        if (policy := self.identities.policy) is not None:
            yield policy_message(policy)
        if self._tls is not None:
            yield tls_message(self._tls.pem)
        yield table_message(self._table)

    def _send_all(self, message: Message) -> None:
        for front in self._fronts.values():
            front.send(message)

    def _on_audit(self, events: list[list[Any]], dropped: int) -> None:
        if self._audit_log is not None:
            self._audit_log.add(events, dropped)

    def _on_unlogged(self, lines: int) -> None:
        self._unlogged += lines

    def _dropped(self) -> dict[str, int]:
        """Return the lines that each log could not keep."""
        dropped = {} if self._audit_log is None else {"audit": self._audit_log.dropped}
        return {**dropped, "access": self._unlogged} if self.settings.access_log else dropped

    def _publish(self, table: Table) -> None:
        traffic = self.traffic.apply([entry.status for entry in table.entries])
        regions = tuple(self._shared_memory.regions.values())
        before, self._table = self._table, replace(table, regions=regions, traffic=traffic)
        self._overview_read = None
        self._send_all(table_changes_message(before, self._table))

    def _publish_policy(self, policy: Policy) -> None:
        self._send_all(policy_message(policy))

    async def _renew_tls(self) -> None:
        if self._renewals is not None:
            await self._renewals.run()

    def _reloads(self) -> dict[str, bool]:
        """Return whether the files of each kind could be used after their last change."""
        tls = {} if self._renewals is None else {"tls": self._renewals.succeeds}
        return {**tls, **self.identities.reloads()}

    def _publish_tls(self, pem: Pem) -> None:
        """Raises TlsError, before a front gets what cannot be used."""
        assert self._tls is not None
        self._tls.renew(pem)
        self._send_all(tls_message(pem))

    async def _write_figures(self, folder: Path) -> None:
        figures = LiveFigures(folder, self._started)
        # Each point is written by a thread of its own, which a disk that hangs can delay, but not the supervisor's end.
        writing: Thread | None = None
        while True:
            if writing is None or not writing.is_alive():
                found = overview(self.manager, self.builder, self._metrics.totals())
                writing = Thread(target=figures.write, args=(found, time.time()), name="tensorboard", daemon=True)
                writing.start()
            await asyncio.sleep(INTERVAL_S)

    def _on_progress(self) -> None:
        self.manager.refresh()

    def _control_handlers(self) -> ControlHandlers:
        """Return the handlers of the control requests that fronts send on behalf of clients."""
        manager, exports, handlers = self.manager, self._exports, ControlHandlers()
        handlers.add(GetIndex, lambda _: manager.index())
        handlers.add(LoadModel, self._load)
        handlers.add(GetPlaces, lambda _: manager.places())
        handlers.add(UnloadModel, self._unload)
        handlers.add(GetConfiguration, lambda request: manager.configuration(request.name, request.version))
        handlers.add(ExplainConfiguration, self._explain)
        handlers.add(GetArtifact, self._artifact)
        handlers.add(GetMetrics, lambda request: render(select(self._registry, request.patterns), request.accept))
        handlers.add(GetOverview, self._overview)
        handlers.add(GetSecurity, lambda _: self._security.to_json())
        handlers.add(GetStatistics, self._statistics)
        handlers.add(ChangeLogSettings, self._change_log_settings)
        handlers.add(ChangeTraceSettings, self._change_trace_settings)
        traffic = self.traffic
        handlers.add(GetTraffic, lambda request: traffic.get(request.name))
        handlers.add(ChangeTraffic, self._changing(lambda request: traffic.change(request.name, request.changes)))
        handlers.add(PromoteVersion, self._changing(lambda request: traffic.promote(request.name, request.version)))
        handlers.add(RollBackTraffic, self._changing(lambda request: traffic.roll_back(request.name)))
        handlers.add(RegisterRegion, self._register)
        handlers.add(UnregisterRegion, self._unregister)
        handlers.add(StartExport, lambda request: exports.start(request.name, request.version, request.options))
        handlers.add(GetExport, lambda request: exports.status(request.name, request.export))
        handlers.add(GetExportArchive, lambda request: exports.result(request.name, request.export))
        handlers.add(CancelExport, lambda request: exports.cancel(request.name, request.export))
        return handlers

    async def _load(self, request: LoadModel) -> None:
        override = None
        if request.place:
            override = Override(folder=Path(request.place))
        elif request.upload:
            override = Override(request.configuration, fetch_upload(self._run_dir, request.upload), is_temporary=True)
        elif request.configuration is not None:
            override = Override(request.configuration)
        await self.manager.load(request.name, override)
        await self._until_fronts_know()

    async def _unload(self, request: UnloadModel) -> None:
        await self.manager.unload(request.name)
        await self._until_fronts_know()

    async def _request_metrics(self) -> None:
        await asyncio.gather(*[front.request_metrics() for front in self._fronts.values()])

    async def _overview(self, _: GetOverview) -> dict[str, Any]:
        """With many models this takes a while. Browsers share what was read, for a second or until a model changes."""
        now = time.monotonic()
        if self._overview_read is None or now > self._overview_until:
            self._overview_read = asyncio.create_task(self._read_overview())
            self._overview_until = now + _OVERVIEW_S
        return await asyncio.shield(self._overview_read)

    async def _read_overview(self) -> dict[str, Any]:
        await self._request_metrics()
        at_s = time.monotonic()  # rates are computed with it: a browser's clock includes the way of the answer
        server = {
            "name": self.settings.server_name,
            "version": gateway.__version__,
            "fronts": len(self._fronts),
            "front_restarts": self._front_restarts,
            "started": self._started,
            "at_s": at_s,
            "notes": [*filter(None, [self.identities.note]), *self._served.mirrors.troubles()],
            "exports": self.settings.allow_export,
            "repository_control": self.settings.repository_control,
        }
        return {"server": server, **overview(self.manager, self.builder, self._metrics.totals())}

    async def _artifact(self, request: GetArtifact) -> dict[str, Any]:
        version = request.version or self.manager.newest(request.name)
        return await self._graph_files.of(self.manager.find(request.name, version))

    def _explain(self, request: ExplainConfiguration) -> list[dict[str, Any]]:
        version = self.manager.find(request.name, request.version)
        return explain(version, self.manager.status(version), self.settings)

    async def _statistics(self, request: GetStatistics) -> dict[str, Any]:
        await self._request_metrics()
        return model_statistics(self._metrics.totals(), [(name, version) for name, version in request.versions])

    def _change_log_settings(self, request: ChangeLogSettings) -> dict[str, Any]:
        settings = self._log_output.settings
        if request.changes:
            settings = self._log_output.change(request.changes)
            self._send_all(log_message(settings))
        return settings.to_json()

    async def _change_trace_settings(self, request: ChangeTraceSettings) -> dict[str, Any]:
        await self._request_metrics()  # they say what was traced
        if request.changes:
            self._traces.change(request.name, request.changes)
            for front in self._fronts.values():
                front.send(self._trace_message(front))
        return self._traces.settings(request.name).to_json()

    def _changing(self, change: Callable[[Any], None]) -> Callable[[Any], Awaitable[dict[str, Any]]]:
        """Return a handler that changes the traffic of a model, and answers when all fronts have applied it."""

        async def handle(request: Any) -> dict[str, Any]:
            change(request)
            await self._publish_to_all()
            return self.traffic.get(request.name)

        return handle

    def _trace_message(self, front: FrontProcess) -> Message:
        return Message(TRACE_SETTINGS, self._traces.to_front(front.number, self.settings.fronts))

    async def _publish_to_all(self) -> None:
        """Have all fronts apply the table."""
        self._publish(self._table)
        await self._until_fronts_know()

    async def _until_fronts_know(self) -> None:
        """Wait until all fronts have applied what they were sent: any of them may get the client's next request.

        A front that is stopped is not waited for.
        """
        await self._request_metrics()  # their answers come after they have read what was sent before

    async def _register(self, request: RegisterRegion) -> None:
        self._shared_memory.register(Region(request.name, request.key, request.offset, request.byte_size))
        await self._publish_to_all()

    async def _unregister(self, request: UnregisterRegion) -> None:
        self._shared_memory.unregister(request.name)
        await self._publish_to_all()
