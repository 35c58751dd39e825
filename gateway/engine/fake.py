"""An engine without workers: for tests of the fronts, and for whoever writes a codec."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gateway.domain.control import (
    Answers,
    AnswerT,
    CancelExport,
    ControlRequest,
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
from gateway.domain.shared_memory import Region, Registry, SharedMemory
from gateway.domain.types import InferRequest, InferResponse, ModelStatus, unavailable
from gateway.engine.protocol import Done
from gateway.engine.validate import validate
from gateway.errors import NotFound, Overloaded, Unavailable, unknown_model
from runtimes.tensors import Tensor

Compute = Callable[[InferRequest], Sequence[Tensor]]
# How each model of the fake engine is served, as the supervisor tells it.
CONFIGURATION: Mapping[str, Any] = MappingProxyType(
    {
        "artifact": "model.fake.json",
        "backend": "fake",
        "instances": 1,
        "places": ["cpu"],
        "queue_delay_ms": 0.0,
        "version_policy": {"latest": None, "all": False, "specific": []},
        "labels": {},
        "reshape": {"inputs": {}, "outputs": {}},
        "formats": {},
        "batching": "batching up to 32 rows",
    }
)


class FakeEngine:
    """Answers `infer` with what `compute` makes of the request, after the checks of the real engine.

    `requests` remembers what arrived; while `gate` is cleared, requests wait as if in a queue.
    `max_bytes`, if set, limits the bytes that bodies reserve while they are read; `reserved_bytes` is their sum.
    """

    def __init__(self, models: Iterable[ModelStatus], compute: Compute) -> None:
        self._models = list(models)
        self._compute = compute
        self.requests: list[InferRequest] = []
        self.cancelled = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.ready = True
        self.drained = asyncio.Event()
        self.max_bytes: int | None = None
        self.reserved_bytes = 0
        self.shared_memory = SharedMemory()
        self.server_name = "modelport"
        self._registry = Registry()
        self.exports = FakeExports()
        self.answers = self._answer()

    def models(self) -> Sequence[ModelStatus]:
        return self._models

    def model(self, name: str, version: str = "") -> ModelStatus:
        found = [m for m in self._models if m.name == name and version in ("", m.version, *m.version_labels)]
        if not found:
            if not any(m.name == name for m in self._models):
                raise unknown_model(name)
            raise NotFound(f"there is no model '{name}' with version {version}")
        return found[-1]

    def reserve_body(self, model: str, version: str) -> "_FakeReservation":
        return _FakeReservation(self)

    def buffer(self, size: int) -> memoryview:
        return memoryview(bytearray(size))

    def submit(self, request: InferRequest, done: Done) -> "asyncio.Task[InferResponse]":
        def tell(task: "asyncio.Task[InferResponse]") -> None:
            if task.cancelled():
                return
            error = task.exception()
            done(error if isinstance(error, Exception) else task.result())

        task = asyncio.get_running_loop().create_task(self.infer(request))
        task.add_done_callback(tell)
        return task

    async def infer(self, request: InferRequest) -> InferResponse:
        status = self.model(request.model, request.version)
        if status.state != "READY":
            raise unavailable(status)
        validate(request, status)
        self.requests.append(request)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return InferResponse(status.name, status.version, self._compute(request), request.id)

    async def control(self, request: ControlRequest[AnswerT]) -> AnswerT:
        """As the supervisor does, but nothing is loaded, counted or converted. `answers` may be changed."""
        return await self.answers(request)

    def _answer(self) -> Answers:
        answers = Answers()
        answers.add(GetIndex, lambda _: self._index())
        answers.add(LoadModel, lambda asked: self._check_known(asked.name))
        answers.add(UnloadModel, lambda asked: self._check_known(asked.name))
        answers.add(GetConfiguration, lambda _: CONFIGURATION)
        answers.add(GetMetrics, lambda _: "# no metrics here\n")
        answers.add(GetStatistics, _statistics)
        answers.add(RegisterRegion, self._register)
        answers.add(UnregisterRegion, self._unregister)
        answers.add(StartExport, self.exports.start)
        answers.add(GetExport, self.exports.status)
        answers.add(GetExportArchive, self.exports.result)
        answers.add(CancelExport, self.exports.cancel)
        return answers

    def _index(self) -> list[dict[str, str]]:
        return [{"name": m.name, "version": m.version, "state": m.state, "reason": m.reason} for m in self._models]

    def _check_known(self, name: str) -> None:
        self.model(name)

    def _register(self, asked: RegisterRegion) -> None:
        self._registry.register(Region(asked.name, asked.key, asked.offset, asked.byte_size))
        self.shared_memory.apply(self._registry.regions.values())

    def _unregister(self, asked: UnregisterRegion) -> None:
        self._registry.unregister(asked.name)
        self.shared_memory.apply(self._registry.regions.values())


def _statistics(asked: GetStatistics) -> dict[str, Any]:
    return {"model_stats": [{"name": name, "version": version} for name, version in asked.versions]}


class FakeExports:
    """Each is RUNNING while `archive` is None, then DONE with that file as its result. `started` is what was asked."""

    def __init__(self) -> None:
        self.archive: Path | None = None
        self.started: list[StartExport] = []
        self._live: dict[str, StartExport] = {}

    def start(self, asked: StartExport) -> dict[str, Any]:
        self.started.append(asked)
        export = str(len(self.started))
        self._live[export] = asked
        return self.status(GetExport(asked.name, export))

    def status(self, asked: GetExport | GetExportArchive | CancelExport) -> dict[str, Any]:
        export = self._live.get(asked.export)
        if export is None or export.name != asked.name:
            raise NotFound(f"model '{asked.name}' has no export '{asked.export}'")
        state = "DONE" if self.archive else "RUNNING"
        names = {"id": asked.export, "model_name": export.name, "model_version": export.version}
        return {**names, "state": state, "progress": []}

    def result(self, asked: GetExportArchive) -> str:
        self.status(asked)
        if self.archive is None:
            raise Unavailable(f"export '{asked.export}' is still running; ask again when its state is DONE")
        return str(self.archive)

    def cancel(self, asked: CancelExport) -> None:
        self.status(asked)
        del self._live[asked.export]


class _FakeReservation:
    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self._reserved = 0

    def reserve(self, size: int) -> None:
        engine, limit = self._engine, self._engine.max_bytes
        alone = engine.reserved_bytes == self._reserved
        if limit is not None and not alone and engine.reserved_bytes + size > limit:
            raise Overloaded(f"{engine.reserved_bytes} bytes are being read and the limit is {limit}; try again later")
        engine.reserved_bytes += size
        self._reserved += size

    def close(self, error: BaseException | None = None) -> None:
        self._engine.reserved_bytes -= self._reserved
        self._reserved = 0

    def __enter__(self) -> "_FakeReservation":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.close(error)
