"""One front's engine: admit a request, queue it, answer it, record it.

Everything runs on one event loop; nothing here knows a protocol.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from gateway.engine.admission import Admission, BodyReading, Room
from gateway.engine.metrics import FrontMetrics
from gateway.engine.queue import Answer, Waiting
from gateway.engine.routes import Routes, unavailable
from gateway.engine.table import Table
from gateway.engine.types import InferRequest, InferResponse, ModelStatus
from gateway.engine.validate import validate
from gateway.errors import DeadlineExceeded, ModelportError, NotFound, Unavailable

log = logging.getLogger(__name__)

# No timer takes the years that a client may write into its deadline.
_LONGEST_WAIT_S = 86_400.0

Control = Callable[..., Awaitable[Any]]


class Engine:
    """`front` makes request ids unique over all fronts; `control` asks the supervisor."""

    def __init__(self, front: int, admission: Admission, control: Control) -> None:
        self.metrics = FrontMetrics()
        self.draining = False
        self._routes = Routes(self.metrics)
        self._room = Room(admission)
        self._control = control
        self._next_id = front << 40

    @property
    def ready(self) -> bool:
        return self._routes.ready and not self.draining

    def models(self) -> Sequence[ModelStatus]:
        return self._routes.models()

    def model(self, name: str, version: str = "") -> ModelStatus:
        """The version asked for; without one, the newest that takes requests, else the newest. Raises NotFound."""
        return self._routes.model(name, version)

    def apply(self, table: Table) -> None:
        """Take over the supervisor's newest table."""
        self._routes.apply(table)

    async def control(self, verb: str, **arguments: Any) -> Any:
        """Ask the supervisor. Raises ModelportError with its reason."""
        return await self._control(verb, **arguments)

    def reading(self, model: str, version: str) -> BodyReading:
        """Wraps what happens before there is an InferRequest: see gateway.engine.protocol.Reading."""
        return BodyReading(self._room, partial(self._count_refused, model, version))

    def _count_refused(self, model: str, version: str, outcome: str, seconds: float) -> None:
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
            raise unavailable(status)
        validate(request, status)
        wished = now + self._room.limits.timeout_s if request.deadline is None else request.deadline
        deadline = min(wished, now + _LONGEST_WAIT_S)
        if deadline <= now:
            raise DeadlineExceeded("the deadline had passed when the request arrived")
        size = sum(len(tensor.data) for tensor in request.inputs)
        queue = self._routes.queue(status)
        self._room.check(size, queue.under_way, self._routes.has_several_models)
        loop = asyncio.get_running_loop()
        self._next_id += 1
        rows = _rows(request, status)
        order = (request.priority, self._next_id)
        waiting = Waiting(self._next_id, request, rows, deadline, now, loop.create_future(), order)
        late = DeadlineExceeded("the deadline passed before the model answered")
        with self._room.taken(size):
            timer = loop.call_at(deadline, queue.fail, waiting, late)
            try:
                queue.put(waiting)
                return await waiting.answer, rows
            finally:
                timer.cancel()
                queue.release(waiting)
                self._routes.tidy(queue)

    async def drain(self, grace_s: float) -> None:
        """Refuse what is new, wait for what is under way."""
        self.draining = True
        try:
            async with asyncio.timeout(grace_s):
                await self._room.idle.wait()
        except TimeoutError:
            log.warning("%d requests were still under way when the grace period ended", self._room.requests)
            for queue in self._routes.queues():
                queue.fail_all(Unavailable("the gateway stopped before the model answered"))
            await self._room.idle.wait()

    def snapshot(self) -> list[dict[str, Any]]:
        """Cumulative figures for the supervisor."""
        self.metrics.clear_gauges()
        for queue in self._routes.queues():
            metrics = queue.metrics
            metrics.queued = queue.queued
            metrics.in_flight = queue.under_way
        return self.metrics.snapshot()


def _rows(request: InferRequest, status: ModelStatus) -> int:
    """How much of a worker's window the request takes."""
    if not status.max_batch_size or not request.inputs:
        return 1
    shape = request.inputs[0].shape
    return max(shape[status.batch_dim], 1) if len(shape) > status.batch_dim else 1
