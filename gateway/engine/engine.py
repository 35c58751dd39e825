"""One front's engine: admit a request, queue it, answer it, record it.

Everything runs on one event loop; nothing here knows a protocol.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.engine.client import WorkerClient
from gateway.engine.metrics import FrontMetrics
from gateway.engine.protocol import Gone
from gateway.engine.queue import Answer, ModelQueue, Waiting
from gateway.engine.table import Table, WorkerAddress
from gateway.engine.types import InferRequest, InferResponse, ModelStatus
from gateway.engine.validate import validate
from gateway.errors import DeadlineExceeded, ModelportError, NotFound, Overloaded, Unavailable

log = logging.getLogger(__name__)

# No timer takes the years that a client may write into its deadline.
_LONGEST_WAIT_S = 86_400.0

Control = Callable[..., Awaitable[Any]]


@dataclass(frozen=True)
class Admission:
    """What one front takes at a time, and how long a request waits that brings no deadline."""

    max_requests: int = 4096
    max_bytes: int = 1 << 30
    timeout_s: float = 60.0


class Engine:
    """`front` makes request ids unique over all fronts; `control` asks the supervisor."""

    def __init__(self, front: int, admission: Admission, control: Control) -> None:
        self.metrics = FrontMetrics()
        self.draining = False
        self._admission = admission
        self._control = control
        self._table = Table()
        self._by_model: dict[str, list[ModelStatus]] = {}
        self._queues: dict[tuple[str, str], ModelQueue] = {}
        self._clients: dict[int, tuple[WorkerClient, ModelQueue]] = {}
        self._next_id = front << 40
        self._requests = 0
        self._bytes = 0
        self._reading_bytes = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> bool:
        return self._table.ready and not self.draining

    def models(self) -> Sequence[ModelStatus]:
        return [entry.status for entry in self._table.entries]

    def model(self, name: str, version: str = "") -> ModelStatus:
        """The version asked for; without one, the newest that takes requests, else the newest. Raises NotFound."""
        versions = self._by_model.get(name)
        if not versions:
            raise NotFound(f"there is no model '{_short(name)}'; the repository index lists what is served")
        if version:
            for status in versions:
                if status.version == version.lstrip("0"):
                    return status
            known = ", ".join(status.version for status in versions if status.version)
            raise NotFound(f"model '{name}' has no version '{_short(version)}'; it has {known or 'none'}")
        return next((status for status in versions if status.admits), versions[0])

    async def control(self, verb: str, **arguments: Any) -> Any:
        """Ask the supervisor. Raises ModelportError with its reason."""
        return await self._control(verb, **arguments)

    def reading(self, model: str, version: str) -> "_Reading":
        """Wraps what happens before there is an InferRequest: see gateway.engine.protocol.Reading."""
        return _Reading(self, model, version)

    def count_refused(self, model: str, version: str, outcome: str, seconds: float) -> None:
        try:
            status = self.model(model, version)
            key = (status.name, status.version)
        except NotFound:
            key = ("", "")
        self.metrics.of(*key).count(outcome, seconds)

    async def infer(self, request: InferRequest) -> InferResponse:
        """Raises ModelportError; cancel it when the client has gone."""
        started = time.monotonic()
        key, outcome = ("", ""), "internal"
        try:
            status = self.model(request.model, request.version)
            key = (status.name, status.version)
            answer, rows = await self._admit(request, status, started)
            self.metrics.of(*key).record_run(answer.frame, answer.queued_s, rows)
            outcome = "success"
            return InferResponse(status.name, status.version, answer.frame.outputs, request.id)
        except ModelportError as error:
            outcome = error.kind
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self.metrics.of(*key).count(outcome, time.monotonic() - started)

    async def _admit(self, request: InferRequest, status: ModelStatus, now: float) -> tuple[Answer, int]:
        if self.draining:
            raise Unavailable("the gateway is shutting down; send the request to another one")
        if not status.admits:
            raise _unavailable(status)
        validate(request, status)
        wished = now + self._admission.timeout_s if request.deadline is None else request.deadline
        deadline = min(wished, now + _LONGEST_WAIT_S)
        if deadline <= now:
            raise DeadlineExceeded("the deadline had passed when the request arrived")
        size = sum(len(tensor.data) for tensor in request.inputs)
        queue = self._queues[status.name, status.version]
        self._check_admission(size, queue)
        loop = asyncio.get_running_loop()
        self._next_id += 1
        rows = _rows(request, status)
        order = (request.priority, self._next_id)
        waiting = Waiting(self._next_id, request, rows, deadline, now, loop.create_future(), order)
        self._requests += 1
        self._bytes += size
        self._idle.clear()
        late = DeadlineExceeded("the deadline passed before the model answered")
        timer = loop.call_at(deadline, queue.fail, waiting, late)
        try:
            queue.put(waiting)
            return await waiting.answer, rows
        finally:
            timer.cancel()
            queue.release(waiting)
            self._requests -= 1
            self._bytes -= size
            if not self._requests:
                self._idle.set()
            self._tidy(queue)

    def _check_admission(self, size: int, queue: ModelQueue) -> None:
        limit = self._admission
        share = max(1, limit.max_requests // 2)
        if len(self._by_model) > 1 and queue.under_way >= share:
            # Or one model that hangs would leave nothing for the others.
            raise Overloaded(f"{share} requests are under way for this model, which is its limit; try again later")
        if self._requests >= limit.max_requests:
            raise Overloaded(f"{limit.max_requests} requests are under way, which is the limit; try again later")
        self._check_bytes(size)

    def _check_bytes(self, size: int) -> None:
        """Bodies that are still coming take as much memory as requests that are admitted."""
        limit, under_way = self._admission.max_bytes, self._bytes + self._reading_bytes
        if under_way + size > limit:
            raise Overloaded(f"{under_way} bytes of input are under way and the limit is {limit}; try again later")

    def apply(self, table: Table) -> None:
        """Take over the supervisor's newest table: connect to new workers, let go of those that left."""
        self._table = table
        self._by_model = {}
        for entry in table.entries:
            self._by_model.setdefault(entry.status.name, []).append(entry.status)
        for versions in self._by_model.values():
            versions.sort(key=lambda status: int(status.version or 0), reverse=True)
        wanted = {(entry.status.name, entry.status.version): entry for entry in table.entries}
        for key, entry in wanted.items():
            queue = self._queues.setdefault(key, ModelQueue(entry.status, self.metrics.of(*key)))
            queue.status, queue.closing = entry.status, False
            for worker in entry.workers:
                if worker.id not in self._clients:
                    self._connect(queue, worker)
            keep = {worker.id for worker in entry.workers}
            for client in list(queue.clients):
                # One that was being replaced may be wanted again: its files were put back.
                client.retiring = client.address.id not in keep
                queue.close_if_done(client)
            queue.pump()
            self._tidy(queue)
        for key, queue in list(self._queues.items()):
            if key not in wanted:
                queue.closing = True
                for client in list(queue.clients):
                    queue.close_if_done(client)
                self._tidy(queue)

    def _connect_if_listed(self, queue: ModelQueue, worker: WorkerAddress) -> None:
        """A worker that was let go of just before the table asked for it again."""
        if any(worker in entry.workers for entry in self._table.entries):
            self._connect(queue, worker)

    def _connect(self, queue: ModelQueue, worker: WorkerAddress) -> None:
        try:
            client = WorkerClient(worker, queue.on_frame, self._on_lost)
        except OSError:
            return  # it has ended already; the next table says so
        self._clients[worker.id] = (client, queue)
        task = asyncio.get_running_loop().create_task(self._finish_connecting(client, queue))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish_connecting(self, client: WorkerClient, queue: ModelQueue) -> None:
        try:
            await client.connect()
        except OSError:
            self._clients.pop(client.address.id, None)
            return
        if client.address.id not in self._clients:
            return  # it was lost in the same turn of the loop
        if client.address.id not in {worker.id for entry in self._table.entries for worker in entry.workers}:
            client.close()
            return
        queue.clients.append(client)
        queue.pump()

    def _on_lost(self, client: WorkerClient, running: frozenset[int]) -> None:
        _, queue = self._clients.pop(client.address.id, (client, None))
        if queue is None:
            return
        queue.on_lost(client, running)
        if client.closed:
            self._connect_if_listed(queue, client.address)
        self._tidy(queue)

    def _tidy(self, queue: ModelQueue) -> None:
        """Answer what no worker will come for; forget a version that has left and has nothing more to answer."""
        status = queue.status
        if not queue.clients and not status.admits:
            queue.fail_queued(_unavailable(status))
        if not queue.closing:
            return
        if not queue.clients:
            queue.fail_queued(Unavailable(f"model '{status.name}' version {status.version} was unloaded"))
        if not queue.under_way:
            for client in list(queue.clients):
                client.close()
            if self._queues.get((status.name, status.version)) is queue:
                del self._queues[status.name, status.version]

    async def drain(self, grace_s: float) -> None:
        """Refuse what is new, wait for what is under way."""
        self.draining = True
        try:
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("%d requests were still under way when the grace period ended", self._requests)
            for queue in self._queues.values():
                queue.fail_all(Unavailable("the gateway stopped before the model answered"))
            await self._idle.wait()

    def snapshot(self) -> list[dict[str, Any]]:
        """Cumulative figures for the supervisor."""
        self.metrics.clear_gauges()
        for (model, version), queue in self._queues.items():
            metrics = self.metrics.of(model, version)
            metrics.queued = queue.queued
            metrics.in_flight = queue.under_way
        return self.metrics.snapshot()


class _Reading:
    """A plain class and no generator: it is entered for every request."""

    __slots__ = ("_engine", "_model", "_reserved", "_started", "_version")

    def __init__(self, engine: Engine, model: str, version: str) -> None:
        self._engine, self._model, self._version = engine, model, version
        self._started = time.monotonic()
        self._reserved = 0

    def __enter__(self) -> "_Reading":
        return self

    def reserve(self, size: int) -> None:
        engine = self._engine
        if engine._bytes + engine._reading_bytes > self._reserved:
            # A body alone is read whatever it takes: as JSON, its tensors may yet be within the limit.
            engine._check_bytes(size)
        engine._reading_bytes += size
        self._reserved += size

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._engine._reading_bytes -= self._reserved
        if error is None:
            return
        outcome = "cancelled"
        if isinstance(error, ModelportError):
            outcome = error.kind
        elif isinstance(error, Exception) and not isinstance(error, Gone):
            outcome = "internal"
        self._engine.count_refused(self._model, self._version, outcome, time.monotonic() - self._started)


def _rows(request: InferRequest, status: ModelStatus) -> int:
    """How much of a worker's window the request takes."""
    if not status.max_batch_size or not request.inputs:
        return 1
    shape = request.inputs[0].shape
    return max(shape[status.batch_dim], 1) if len(shape) > status.batch_dim else 1


def _unavailable(status: ModelStatus) -> Unavailable:
    return Unavailable(f"model '{status.name}' is {status.state}: {status.reason}")


def _short(text: str) -> str:
    """A client's own word in an answer, but not a megabyte of it."""
    return text if len(text) <= 80 else text[:77] + "..."
