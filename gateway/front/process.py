"""One front process: bind, run, drain. Started by the supervisor as `python -m gateway.front.process`."""

import asyncio
import gc
import json
import logging
import math
import signal
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from gateway.access.access import PolicyAccess
from gateway.access.policy import Policy, policy_from_json
from gateway.domain.control import (
    ControlHandlers,
    ControlRequest,
    GetMetrics,
    GetOverview,
    GetStatistics,
    SendMetrics,
    to_json,
)
from gateway.domain.deployment import Deployment
from gateway.domain.log_settings import LogSettings
from gateway.domain.request_record import Observer, Observers
from gateway.domain.shared_memory import SharedMemory
from gateway.domain.table import Table, changed_table, table_from_json
from gateway.domain.trace_settings import TraceSampler
from gateway.domain.uploads import Uploads, uploads_folder
from gateway.engine.admission import AdmissionLimits
from gateway.engine.arenas import open_arenas
from gateway.engine.engine import FrontEngine
from gateway.front import box, fast
from gateway.front.base.access import Access
from gateway.front.base.access_log import AccessLog
from gateway.front.base.audit import AuditTrail, OpenAccess
from gateway.front.base.body import App, Receive, Scope, Send
from gateway.front.base.cors import Cors
from gateway.front.base.limits import Limits
from gateway.front.base.request_ids import CURRENT_ID
from gateway.front.grpc.connections import connection_options
from gateway.front.grpc.server import build_server
from gateway.front.http.open_connections import ConnectionLimits
from gateway.front.http.server import HttpServer
from gateway.front.options import FrontOptions
from gateway.process.address import Address
from gateway.process.channel import (
    DRAIN,
    LOG_SETTINGS,
    POLICY,
    REFETCH,
    REOPEN,
    SERVING,
    SNAPSHOT,
    TABLE,
    TABLE_CHANGES,
    TLS,
    TRACE_SETTINGS,
    TRACED,
    UNLOGGED,
    WANTED,
    Channel,
)
from gateway.process.file_limit import max_connections
from gateway.process.file_opener import FileOpener
from gateway.process.line_file import LineFile, open_for_appending
from gateway.process.logs import FrontFormatter
from gateway.process.memory import system_trimmer
from gateway.process.tls import Pem, ServerTls, TlsError
from gateway.process.usage_page import USAGE_FILE
from runtimes import wire
from runtimes.leash import die_with_parent
from runtimes.wire import Frame

if TYPE_CHECKING:
    from gateway.front.tracing.export import SpanExport

log = logging.getLogger("front")

# How often figures are sent to the supervisor: if the front crashes, the counts since then are lost.
_SNAPSHOT_S = 1.0
# The supervisor has checked the certificate, so only a lack of resources prevents its use.
_TLS_RETRY_S = 1.0
# How often freed memory is returned to the system, if there is enough: see process/memory.py.
_TRIM_S = 5.0
# The net number of new containers at which Python collects the youngest generation. A few hundred concurrent requests
# have fewer. With a smaller number, collections cost CPU time and find nothing; with a larger one, rare cycles stay in
# memory for longer.
_GC_THRESHOLD = 10_000
# How often, at most, the supervisor is asked to fetch the keys of tokens: anyone can send tokens with unknown ones.
_REFETCH_S = 1.0
# How long a front that ends waits for the collector of its traces. What was not exported by then is lost.
_EXPORT_S = 0.5
# The minimum time for clients to read their answers, even if the grace period is over.
_MIN_CLOSE_S = 0.5


class Front:
    def __init__(self, options: FrontOptions) -> None:
        self._options = options
        # For how long requests are still accepted, and how long all of it may take.
        self._draining: asyncio.Future[tuple[float, float]] = asyncio.get_running_loop().create_future()
        self._channel: Channel | None = None
        self._table = Table()
        self._pem: Pem | None = None
        self._tls: asyncio.Future[ServerTls] = asyncio.get_running_loop().create_future()
        self._audit: AuditTrail | None = None
        self._policy: Policy | None = None
        self._policy_arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._policy_access: PolicyAccess | None = None
        self._refetched = -math.inf
        self._trace_sampler = TraceSampler()
        self._spans: SpanExport | None = None
        self._access_log: AccessLog | None = None
        self._unlogged = 0  # lines that it could not keep, as far as the supervisor knows
        self._access: Access | None = None  # everything is allowed
        self._fast_path = fast.load(options.fast_path)
        admission_limits = AdmissionLimits(options.max_requests, options.max_admitted_bytes, options.request_timeout_s)
        shared = SharedMemory(options.shared_memory, options.max_body_bytes)
        self._engine = FrontEngine(
            options.number,
            admission_limits,
            self._control,
            open_arenas(options.max_admitted_bytes),
            shared,
            options.server_name,
            self._fast_path,
            Path(options.run_dir, USAGE_FILE),
            options.max_response_bytes,
            Deployment(
                options.invocations_model, options.predict_route, options.health_route, options.sagemaker_models
            ),
            max_body_bytes=options.max_body_bytes,
            uploads=_uploads(options),
            cache_bytes=options.cache_bytes,
            want=self._on_wanted,
        )

    async def run(self, control: socket.socket, http: socket.socket) -> None:
        """Serve until told to drain, or until the supervisor has ended."""
        options = self._options
        limits = Limits(
            options.max_json_bytes,
            options.max_body_bytes,
            options.max_response_bytes,
            options.header_timeout_s,
            options.min_body_rate,
        )
        handlers = ControlHandlers()
        handlers.add(SendMetrics, lambda _: self._send_metrics())  # sent before the reply, on the same channel
        self._channel = await Channel.open(control, self._on_frame, handlers.on_call)
        if options.audit:
            self._audit = AuditTrail(self._channel)
            self._access = OpenAccess(self._audit)
        # No client is served before what it needs has arrived.
        if options.access and not await self._wait_for(self._policy_arrived):
            return
        if self._policy is not None:
            record = (lambda event: None) if self._audit is None else self._audit.record
            self._access = self._policy_access = PolicyAccess(
                self._policy, record, self._engine.usages.of, self._refetch_keys
            )
            self._policy_access.prepare()
        if options.tls and not await self._wait_for(self._tls):
            return
        tls = self._tls.result() if options.tls else None
        admin = LazyApp(partial(_build_admin, self._engine, limits, options, self._access))
        admin.built.add_done_callback(_freeze_startup_objects)
        observer = self._observer()
        fast_path = None if self._fast_path is None else self._fast_path.FastPath(self._engine, limits, observer)
        connection_limits = ConnectionLimits(
            min(options.max_connections or sys.maxsize, max_connections()),
            options.max_connections_per_peer,
            options.max_admitted_bytes,
        )
        cors = _cors(options)
        rest = HttpServer(self._engine, limits, admin, self._access, fast_path, tls, connection_limits, observer, cors)
        serving = asyncio.create_task(rest.serve([http]))
        grpc_options = connection_options(options.grpc_keepalive_s, options.grpc_max_connection_age_s, options.grace_s)
        grpc_options.append(("grpc.so_reuseport", 1))
        grpc = build_server(
            self._engine,
            limits,
            options.grpc_server,
            grpc_options,
            access=self._access,
            fast_path=fast_path,
            tls=tls,
            observer=observer,
        )
        grpc.add_port(str(Address(options.grpc_host, options.grpc_port)))
        await grpc.start()
        report = asyncio.create_task(self._report())
        trim = asyncio.create_task(_keep_trimmed())
        self._channel.send(SERVING, {})
        log.info("serving")
        unreachable = asyncio.create_task(grpc.wait_unreachable())
        ends: list[asyncio.Future[Any]] = [self._draining, self._channel.closed, unreachable]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        accept_s, grace = self._draining.result() if self._draining.done() else (0.0, 0.0)
        grpc_failed = unreachable.done()
        if grpc_failed:
            log.error("the gRPC server has failed, and accepts no connections; this front ends and is replaced")
        unreachable.cancel()
        rest.disable_keep_alive()
        ends_at = time.monotonic() + grace
        # Once for the clients that are connected, and once for those that were sent here a moment later.
        for _ in range(2 if accept_s else 0):
            grpc.go_away()
            await asyncio.wait([self._channel.closed], timeout=accept_s / 2)
        await self._engine.drain(max(0.0, ends_at - time.monotonic()))
        # Slow clients may still be reading their answers.
        seconds = max(ends_at - time.monotonic(), _MIN_CLOSE_S)
        rest.config.timeout_graceful_shutdown = math.ceil(seconds)
        rest.stop()
        if not grpc_failed:
            await grpc.stop(seconds)
        await serving
        report.cancel()
        trim.cancel()
        if self._access_log is not None:
            self._access_log.file.close()
        self._send_metrics()
        if self._audit is not None:
            self._audit.flush()
        if self._spans is not None:
            await asyncio.to_thread(self._spans.close, _EXPORT_S)
        self._channel.close()

    def _observer(self) -> Observer | None:
        """Return who gets the records of requests, if anyone does."""
        options, observers = self._options, list[Observer]()
        if options.access_log or options.access_log_descriptor >= 0:
            path = Path(options.access_log) if options.access_log else None
            opener = options.access_log_opener
            open_file = FileOpener(socket.socket(fileno=opener)) if opener >= 0 else open_for_appending
            self._access_log = AccessLog(LineFile(path, "access log", log, options.access_log_descriptor, open_file))
            observers.append(self._access_log)
        if options.otlp_endpoint is not None:
            from gateway.front.tracing.export import otlp_export  # the SDK takes memory
            from gateway.front.tracing.tracer import Tracer

            self._spans = otlp_export(options.otlp_endpoint, options.server_name, "https" if options.tls else "http")
            observers.append(Tracer(self._trace_sampler, self._spans.put, self._engine.metrics))
        return Observers(*observers) if len(observers) > 1 else next(iter(observers), None)

    async def _wait_for(self, arrived: asyncio.Future[Any]) -> bool:
        """Wait for what the supervisor sends. Returns False if the supervisor ends first."""
        assert self._channel is not None
        await asyncio.wait([arrived, self._channel.closed], return_when=asyncio.FIRST_COMPLETED)
        return arrived.done()

    def _on_frame(self, frame: Frame) -> None:
        body = wire.unpack_json(frame.body)
        if frame.kind == TABLE:
            self._apply(table_from_json(body))
        elif frame.kind == TABLE_CHANGES:
            self._apply(changed_table(self._table, body))
        elif frame.kind == TLS:
            self._pem = Pem(**body)
            self._use_certificate()
        elif frame.kind == POLICY:
            self._policy = policy_from_json(body)
            if self._policy_access is not None:
                self._policy_access.apply(self._policy)
            elif not self._policy_arrived.done():
                self._policy_arrived.set_result(None)
        elif frame.kind == LOG_SETTINGS:
            _use_log_settings(LogSettings(**body))
        elif frame.kind == REOPEN and self._access_log is not None:
            self._access_log.file.reopen()
        elif frame.kind == TRACE_SETTINGS:
            self._trace_sampler.apply(body)
        elif frame.kind == DRAIN and not self._draining.done():
            accept_s, grace_s = body["accept_s"], body["grace_s"]
            if accept_s:
                self._engine.leaving = True
                log.info("draining: not ready any more; requests are accepted for another %g s", accept_s)
            else:
                self._engine.draining = True
                log.info("draining: new requests are rejected")
            self._draining.set_result((accept_s, grace_s))

    def _apply(self, table: Table) -> None:
        self._table = table
        self._engine.apply(table)

    def _on_wanted(self, model: str, version: str) -> None:
        """Have the supervisor load a version on demand."""
        if self._channel is not None:
            self._channel.send(WANTED, {"model": model, "version": version})

    def _use_certificate(self) -> None:
        """Use the newest certificate for new connections, or try again if the system has no memory or files for it."""
        assert self._pem is not None
        try:
            if self._tls.done():
                self._tls.result().renew(self._pem)
            else:
                self._tls.set_result(ServerTls(self._pem))
        except TlsError as error:
            log.warning("%s; this is tried again", error)
            asyncio.get_running_loop().call_later(_TLS_RETRY_S, self._use_certificate)

    async def _control(self, request: ControlRequest[Any]) -> Any:
        assert self._channel is not None
        if isinstance(request, GetMetrics | GetStatistics | GetOverview):
            self._send_metrics()  # they arrive before the call
        verb, arguments = to_json(request)
        return await self._channel.call(verb, **arguments)

    def _refetch_keys(self) -> None:
        """Have the supervisor fetch the keys of the tokens' issuer, because a token has another one."""
        now = time.monotonic()
        if self._channel is not None and now - self._refetched >= _REFETCH_S:
            self._refetched = now
            self._channel.send(REFETCH, {})

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(_SNAPSHOT_S)
            self._send_metrics()

    def _send_metrics(self) -> None:
        if self._channel is not None:
            identities = self._engine.usages.snapshot()
            if traced := self._trace_sampler.take_traced():
                self._channel.send(TRACED, traced)
            dropped = 0 if self._access_log is None else self._access_log.file.dropped
            if dropped > self._unlogged:
                self._channel.send(UNLOGGED, {"lines": dropped - self._unlogged})
                self._unlogged = dropped
            self._channel.send(SNAPSHOT, {"metrics": self._engine.snapshot(), "identities": identities})


async def _keep_trimmed() -> None:
    trimmer = system_trimmer()
    while trimmer is not None:
        await asyncio.sleep(_TRIM_S)
        await asyncio.to_thread(trimmer.check)


def _uploads(options: FrontOptions) -> Uploads | None:
    if not options.max_upload_bytes:
        return None
    return Uploads(uploads_folder(Path(options.run_dir), options.number), options.max_upload_bytes)


def _build_admin(engine: FrontEngine, limits: Limits, options: FrontOptions, access: Access | None) -> App:
    # Imported in the thread, because inference does not wait for Starlette.
    from gateway.front.admin.app import build_admin

    return build_admin(engine, limits, options.allowed_hosts, access, options.console, _cors(options))


def _cors(options: FrontOptions) -> Cors | None:
    return Cors(options.cors_origins) if options.cors_origins else None


class LazyApp:
    """An app that is built in a thread. Its requests wait until it is built."""

    def __init__(self, build: Callable[[], App]) -> None:
        self.built = asyncio.get_running_loop().run_in_executor(None, build)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = await asyncio.shield(self.built)
        await app(scope, receive, send)


def _freeze_startup_objects(built: "asyncio.Future[App]") -> None:
    """Exclude the objects of all imported libraries from garbage collections: they stay for the life of the process."""
    gc.collect()
    gc.freeze()
    # Requests leave no reference cycles, so collections are rarely needed.
    gc.set_threshold(_GC_THRESHOLD, *gc.get_threshold()[1:])


def _use_log_settings(settings: LogSettings) -> None:
    root = logging.getLogger()
    root.setLevel(settings.level)
    for handler in root.handlers:
        handler.filters = [settings.shows]
    log.debug("the log has these settings now: %s", settings)


async def _main(control: int, http: int, options: FrontOptions) -> None:
    # The gRPC server creates a folder with sockets, which it removes only when it is stopped.
    tempfile.tempdir = options.run_dir
    await Front(options).run(socket.socket(fileno=control), socket.socket(fileno=http))


def main() -> None:
    parent, control, http, options = sys.argv[1:5]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    handler = logging.StreamHandler()
    handler.setFormatter(FrontFormatter(CURRENT_ID.get))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # this module logs the start and the end itself
    # Oddities of clients' forms and images do not belong in the log.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="PIL")
    front_options = FrontOptions(**json.loads(options))
    die_with_parent(int(parent))
    box.enter(front_options)  # before there are threads
    uvloop.run(_main(int(control), int(http), front_options))


if __name__ == "__main__":
    main()
