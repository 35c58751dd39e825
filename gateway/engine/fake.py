"""An engine without workers, for tests of fronts and for writing a codec."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from gateway.domain.control import (
    CancelExport,
    ChangeLogSettings,
    ChangeTraceSettings,
    ChangeTraffic,
    ControlHandlers,
    ControlRequest,
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
    ResultT,
    RollBackTraffic,
    StartExport,
    UnloadModel,
    UnregisterRegion,
)
from gateway.domain.deployment import Deployment
from gateway.domain.identity import Identity
from gateway.domain.log_settings import DEFAULT_FORMAT, ISO8601, LogSettings
from gateway.domain.request_record import CURRENT
from gateway.domain.shared_memory import Region, RegionRegistry, SharedMemory
from gateway.domain.trace_settings import TraceSettings, TraceTable
from gateway.domain.types import InferRequest, InferResponse, ModelStatus, NotLoaded, unary_call, unavailable
from gateway.domain.uploads import Uploads
from gateway.engine.protocol import Acceptance, AnswerCallback, RequestHandle
from gateway.engine.validate import validate
from gateway.errors import ModelportError, NotFound, Overloaded, Unavailable, unknown_model
from runtimes.tensors import Tensor
from runtimes.wire import MAX_UNREAD_ANSWERS

Compute = Callable[[InferRequest], Sequence[Tensor]]
_T = TypeVar("_T")
# The answer to GetConfiguration for every model of the fake engine.
CONFIGURATION: Mapping[str, Any] = MappingProxyType(
    {
        "artifact": "model.fake.json",
        "backend": "fake",
        "instances": 1,
        "devices": ["cpu"],
        "queue_delay_ms": 0.0,
        "version_policy": {"latest": None, "all": False, "specific": []},
        "labels": {},
        "reshape": {"inputs": {}, "outputs": {}},
        "formats": {},
        "memory_limit": 0,
        "sequence": None,
        "batching": "batching up to 32 rows",
        "execution": "",
    }
)


class FakeEngine:
    """Implements gateway.engine.protocol.Engine: checks a request as FrontEngine does, and answers with `compute`.

    requests        all requests that passed the checks
    identities      who sent each of them; of their usage, `admit` was called before, and `end` never is
    stream          what a decoupled model answers to a request, answer by answer
    unread          the number of answers that were not the final one, and were not acknowledged
    gate            while it is cleared, requests wait as if in a queue
    max_bytes       limits the bytes of bodies that are being received, unless it is None
    reserved_bytes  the bytes of bodies that are being received
    accepted        the requests that were received whole and are being read
    loaded          the requests to load models
    """

    def __init__(self, models: Iterable[ModelStatus], compute: Compute) -> None:
        self._models = list(models)
        self._compute = compute
        self.requests: list[InferRequest] = []
        self.identities: list[Identity | None] = []
        self.cancelled = 0
        self.stream: Callable[[InferRequest], Iterable[Sequence[Tensor]]] = lambda request: [compute(request)]
        self.unread = 0
        self.acknowledged = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.ready = True
        self.drained = asyncio.Event()
        self.max_bytes: int | None = None
        self.reserved_bytes = 0
        self.accepted: list[_FakeAcceptance] = []
        self.shared_memory = SharedMemory()
        self.server_name = "modelport"
        self.deployment = Deployment()
        self.sticky_headers: Mapping[str, str] = {}
        self.uploads: Uploads | None = None
        self.loaded: list[LoadModel] = []
        self._registry = RegionRegistry()
        self._log_settings = LogSettings()
        self.traces = TraceTable(TraceSettings())
        self.exports = FakeExports()
        self.handlers = self._control_handlers()

    def choose_version(self, request: InferRequest, identity: Identity | None = None) -> str:
        return ""

    def models(self) -> Sequence[ModelStatus]:
        return self._models

    def model(self, name: str, version: str = "") -> ModelStatus:
        matching = [m for m in self._models if m.name == name and version in ("", m.version, *m.version_labels)]
        if not matching:
            if not any(m.name == name for m in self._models):
                raise unknown_model(name)
            raise NotFound(f"there is no model '{name}' with version {version}")
        return matching[-1]

    def reserve_body(self, model: str, version: str, identity: Identity | None = None) -> "_FakeReservation":
        return _FakeReservation(self, identity)

    def accept(self, fail: Callable[[ModelportError], object]) -> "_FakeAcceptance":
        acceptance = _FakeAcceptance(self.accepted, fail)
        self.accepted.append(acceptance)
        return acceptance

    def buffer(self, size: int, model: str = "") -> memoryview:
        return memoryview(bytearray(size))

    def submit(
        self,
        request: InferRequest,
        on_answer: AnswerCallback,
        identity: Identity | None = None,
        takes_many: bool = False,
    ) -> "_FakeHandle":
        if self._is_decoupled(request) and not takes_many:
            raise unary_call(self.model(request.model, request.version))

        def on_done(task: "asyncio.Task[InferResponse]") -> None:
            if task.cancelled():
                return
            error = task.exception()
            on_answer(error if isinstance(error, Exception) else task.result())

        if identity is not None and identity.usage is not None:
            identity.usage.admit(0)
        task = asyncio.get_running_loop().create_task(self._infer(request, identity, on_answer))
        task.add_done_callback(on_done)
        return _FakeHandle(self, task)

    def _is_decoupled(self, request: InferRequest) -> bool:
        return any(each.decoupled for each in self._models if each.name == request.model)

    async def infer(
        self, request: InferRequest, identity: Identity | None = None, accepted: Acceptance | None = None
    ) -> InferResponse:
        record = CURRENT.get()
        if record is not None:
            request = record.attach(request, identity)
        if identity is not None and identity.usage is not None:
            identity.usage.admit(0)
        if self._is_decoupled(request):
            raise unary_call(self.model(request.model, request.version))
        return await self._infer(request, identity)

    async def _infer(
        self, request: InferRequest, identity: Identity | None, on_answer: AnswerCallback | None = None
    ) -> InferResponse:
        status = self.model(request.model, request.version)
        if status.state != "READY":
            raise unavailable(status)
        validate(request, status)
        self.requests.append(request)
        self.identities.append(identity)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if status.decoupled and on_answer is not None:
            for outputs in self.stream(request):
                self.unread += 1
                on_answer(InferResponse(status.name, status.version, outputs, request.id, False))
                await asyncio.sleep(0)
                while self.unread >= MAX_UNREAD_ANSWERS:
                    self.acknowledged.clear()
                    await self.acknowledged.wait()
            return InferResponse(status.name, status.version, (), request.id)
        return InferResponse(status.name, status.version, self._compute(request), request.id)

    def when_loaded(
        self,
        unloaded: NotLoaded,
        go_on: Callable[[], RequestHandle | None],
        fail: Callable[[Exception], object],
        size: int = 0,
        seconds: float | None = None,
        identity: Identity | None = None,
    ) -> RequestHandle:
        """Refuse: no model of the fake engine can be loaded on demand, unless a test replaces this."""
        raise unloaded

    async def control(self, request: ControlRequest[ResultT]) -> ResultT:
        """Answer like the supervisor, but load, count and convert nothing. Tests may change `handlers`."""
        return await self.handlers(request)

    def _load(self, request: LoadModel) -> None:
        """Record what was loaded; a model from a place of its own need not be known."""
        if not request.place and not request.upload:
            self._check_known(request.name)
        self.loaded.append(request)

    def _control_handlers(self) -> ControlHandlers:
        handlers = ControlHandlers()
        handlers.add(GetIndex, lambda _: self._index())
        handlers.add(LoadModel, self._load)
        handlers.add(GetPlaces, lambda _: {each.name: each.place for each in self.loaded if each.place})
        handlers.add(UnloadModel, lambda request: self._check_known(request.name))
        handlers.add(GetConfiguration, lambda _: CONFIGURATION)
        handlers.add(ExplainConfiguration, lambda _: [])
        handlers.add(GetArtifact, self._artifact)
        handlers.add(GetMetrics, _metrics)
        handlers.add(GetOverview, lambda _: {"server": {}, "models": self._index(), "environments": []})
        handlers.add(GetSecurity, lambda _: {"sandbox_files": {"enforced": True, "reason": ""}})
        handlers.add(GetStatistics, _statistics)
        handlers.add(ChangeLogSettings, self._change_log_settings)
        handlers.add(ChangeTraceSettings, self._change_trace_settings)
        handlers.add(GetTraffic, lambda request: self._traffic(request.name))
        handlers.add(ChangeTraffic, lambda request: self._traffic(request.name, **request.changes))
        handlers.add(PromoteVersion, lambda request: self._traffic(request.name, weights={request.version: 100}))
        handlers.add(RollBackTraffic, lambda request: self._traffic(request.name))
        handlers.add(RegisterRegion, self._register)
        handlers.add(UnregisterRegion, self._unregister)
        handlers.add(StartExport, self.exports.start)
        handlers.add(GetExport, self.exports.status)
        handlers.add(GetExportArchive, self.exports.result)
        handlers.add(CancelExport, self.exports.cancel)
        return handlers

    def _index(self) -> list[dict[str, str]]:
        return [{"name": m.name, "version": m.version, "state": m.state, "reason": m.reason} for m in self._models]

    def _artifact(self, request: GetArtifact) -> dict[str, Any]:
        status = self.model(request.name, request.version)
        return {"name": status.name, "version": status.version, "platform": "fake", "main": "", "files": {}}

    def _traffic(self, name: str, **changes: Any) -> dict[str, Any]:
        self.model(name)
        return {"model": name, "weights": {}, "shadow": None, **changes}

    def _check_known(self, name: str) -> None:
        self.model(name)

    def _change_log_settings(self, request: ChangeLogSettings) -> dict[str, Any]:
        self._log_settings = self._log_settings.changed(request.changes, (DEFAULT_FORMAT, ISO8601))
        return self._log_settings.to_json()

    def _change_trace_settings(self, request: ChangeTraceSettings) -> dict[str, Any]:
        self.traces.change(request.name, request.changes)
        return self.traces.settings(request.name).to_json()

    def _register(self, request: RegisterRegion) -> None:
        self._registry.register(Region(request.name, request.key, request.offset, request.byte_size))
        self.shared_memory.apply(self._registry.regions.values())

    def _unregister(self, request: UnregisterRegion) -> None:
        self._registry.unregister(request.name)
        self.shared_memory.apply(self._registry.regions.values())


def _metrics(request: GetMetrics) -> tuple[str, str]:
    openmetrics = "application/openmetrics-text" in request.accept
    return "application/openmetrics-text" if openmetrics else "text/plain; version=0.0.4", "# no metrics here\n"


def _statistics(request: GetStatistics) -> dict[str, Any]:
    return {"model_stats": [{"name": name, "version": version} for name, version in request.versions]}


class FakeExports:
    """Exports that are RUNNING while `archive` is None, and DONE with that file as their result afterwards.

    `started` has every StartExport request.
    """

    def __init__(self) -> None:
        self.archive: Path | None = None
        self.started: list[StartExport] = []
        self._live: dict[str, StartExport] = {}

    def start(self, request: StartExport) -> dict[str, Any]:
        self.started.append(request)
        export = str(len(self.started))
        self._live[export] = request
        return self.status(GetExport(request.name, export))

    def status(self, request: GetExport | GetExportArchive | CancelExport) -> dict[str, Any]:
        export = self._live.get(request.export)
        if export is None or export.name != request.name:
            raise NotFound(f"model '{request.name}' has no export '{request.export}'")
        state = "DONE" if self.archive else "RUNNING"
        names = {"id": request.export, "model_name": export.name, "model_version": export.version}
        return {**names, "state": state, "progress": []}

    def result(self, request: GetExportArchive) -> str:
        self.status(request)
        if self.archive is None:
            raise Unavailable(f"export '{request.export}' is still running; try again when its state is DONE")
        return str(self.archive)

    def cancel(self, request: CancelExport) -> None:
        self.status(request)
        del self._live[request.export]


class _FakeHandle:
    def __init__(self, engine: FakeEngine, task: "asyncio.Task[InferResponse]") -> None:
        self._engine, self._task = engine, task

    def cancel(self) -> None:
        self._task.cancel()

    def acknowledge(self) -> None:
        self._engine.unread -= 1
        self._engine.acknowledged.set()


class _FakeAcceptance:
    def __init__(self, accepted: "list[_FakeAcceptance]", fail: Callable[[ModelportError], object]) -> None:
        self._accepted, self._fail = accepted, fail

    def go_on(self, go_on: Callable[[], _T]) -> _T:
        return go_on()

    def proceed(self, go_on: Callable[[], _T]) -> _T:
        self.end()
        return go_on()

    def end(self) -> None:
        if self in self._accepted:
            self._accepted.remove(self)

    def fail(self, error: ModelportError) -> None:
        """End the request as the engine does when the gateway stops."""
        self.end()
        self._fail(error)


class _FakeReservation:
    def __init__(self, engine: FakeEngine, identity: Identity | None) -> None:
        self._engine = engine
        self._usage = None if identity is None else identity.usage
        self._reserved = 0

    def reserve(self, size: int, is_input: bool = True) -> None:
        if self._usage is not None:
            self._usage.reserve(size, self._reserved, is_input)
        engine, limit = self._engine, self._engine.max_bytes
        is_only_body = engine.reserved_bytes == self._reserved
        if limit is not None and not is_only_body and engine.reserved_bytes + size > limit:
            raise Overloaded(f"{engine.reserved_bytes} bytes are being read and the limit is {limit}; try again later")
        engine.reserved_bytes += size
        self._reserved += size

    def release(self, size: int) -> None:
        self._engine.reserved_bytes -= size
        self._reserved -= size
        if self._usage is not None:
            self._usage.unreserve(size)

    def suspend(self) -> None:
        self._engine.reserved_bytes -= self._reserved

    def resume(self) -> None:
        self._engine.reserved_bytes += self._reserved

    def close(self, error: BaseException | None = None) -> None:
        self._engine.reserved_bytes -= self._reserved
        if self._usage is not None:
            self._usage.unreserve(self._reserved)
        self._reserved = 0

    def __enter__(self) -> "_FakeReservation":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.close(error)
