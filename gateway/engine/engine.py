"""One front's engine: admit a request, queue it, answer it, record it.

Everything runs on one event loop; nothing here knows a protocol.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from gateway.domain.control import AnswerT, ControlRequest
from gateway.domain.shared_memory import SharedMemory
from gateway.domain.table import Table
from gateway.domain.types import InferRequest, InferResponse, ModelStatus, unavailable
from gateway.engine.admission import Admission, AdmissionReservation, Room
from gateway.engine.arena import LARGE, Arena
from gateway.engine.deadlines import Deadlines
from gateway.engine.metrics import FrontMetrics
from gateway.engine.protocol import Done
from gateway.engine.routes import Routes
from gateway.engine.servable import Answer, Servable, Waiting
from gateway.errors import DeadlineExceeded, ModelportError, NotFound, Overloaded, Unavailable
from runtimes import wire

log = logging.getLogger(__name__)

# No timer takes the years that a client may write into its deadline.
_MAX_WAIT_S = 86_400.0

Control = Callable[[ControlRequest[Any]], Awaitable[Any]]


@dataclass(slots=True, eq=False)
class Ticket(Waiting):
    """One admitted request, as whoever submitted it holds it.

    size      bytes of input
    patience  seconds that it waits, as all do that bring no deadline; None for one of its own
    """

    engine: "Engine"
    servable: Servable
    done: Done
    size: int
    patience: float | None

    def add_answer(self, answer: Answer) -> None:
        request, status = self.request, self.servable.status
        if request is not None:
            outputs = answer.frame.outputs
            _hand_over(self.done, InferResponse(status.name, status.version, outputs, request.id, final=False))

    def settle(self, outcome: Answer | ModelportError) -> None:
        if self.request is not None:
            self.engine.settle(self, outcome)

    def cancel(self) -> None:
        if self.request is not None:
            self.engine.settle(self, None)


class Engine:
    """`front` makes request ids unique over all fronts; `control` asks the supervisor."""

    def __init__(
        self,
        front: int,
        admission: Admission,
        control: Control,
        arena: Arena | None = None,
        shared_memory: SharedMemory | None = None,
        server_name: str = "modelport",
    ) -> None:
        self.metrics = FrontMetrics()
        self.shared_memory = shared_memory or SharedMemory()
        self.server_name = server_name
        self.draining = False
        self.drained = asyncio.Event()
        self._arena = arena
        self._routes = Routes(self.metrics, arena, front)
        self._room = Room(admission)
        self._deadlines: Deadlines[Ticket] = Deadlines(self._expire)
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
        self.shared_memory.apply(table.regions)
        self._routes.apply(table)

    async def control(self, request: ControlRequest[AnswerT]) -> AnswerT:
        """Ask the supervisor. Raises ModelportError with its reason."""
        answer: AnswerT = await self._control(request)
        return answer

    def reserve_body(self, model: str, version: str) -> AdmissionReservation:
        """See gateway.engine.protocol.Engine."""
        return AdmissionReservation(self._room, self._count_refused, model, version)

    def buffer(self, size: int) -> memoryview:
        """Where a body of this size is received: if it is large, where workers can read it as it lies."""
        block = self._arena.take(size) if self._arena is not None and size >= LARGE else None
        return memoryview(bytearray(size)) if block is None else block

    def _count_refused(self, model: str, version: str, outcome: str, seconds: float) -> None:
        try:
            status = self.model(model, version)
            key = (status.name, status.version)
        except NotFound:
            key = ("", "")
        self.metrics.of(*key).count(outcome, seconds)

    def submit(self, request: InferRequest, done: Done) -> "Ticket":
        """See gateway.engine.protocol.Engine."""
        now = time.monotonic()
        metrics = None
        try:
            servable = self._routes.servable(request.model, request.version)
            metrics = servable.metrics
            return self._admit(request, servable, now, done)
        except Exception as error:
            outcome = error.kind if isinstance(error, ModelportError) else "internal"
            (metrics or self.metrics.of("", "")).count(outcome, time.monotonic() - now)
            raise

    async def infer(self, request: InferRequest) -> InferResponse:
        """See gateway.engine.protocol.Engine."""
        answer: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()
        ticket = self.submit(request, partial(_resolve, answer))
        try:
            return await answer
        except asyncio.CancelledError:
            ticket.cancel()
            raise
        finally:
            # It refers to its error, which refers to this frame: the request shall not wait for the collector.
            del answer, ticket

    def _admit(self, request: InferRequest, servable: Servable, now: float, done: Done) -> "Ticket":
        status = servable.status
        if self.draining:
            raise Unavailable("the gateway is shutting down; send the request to another one")
        if not status.admits:
            raise unavailable(status)
        form = wire.form_of(request.signature or status.default_signature, request.outputs, request.inputs)
        rows, size = servable.forms.check(request, form)
        patience = None
        if request.deadline is None:
            patience = servable.target_s or self._room.limits.timeout_s
            deadline = now + patience
        else:
            deadline = min(request.deadline, now + (servable.target_s or _MAX_WAIT_S))
        if deadline <= now:
            raise DeadlineExceeded("the deadline had passed when the request arrived")
        if servable.target_s and servable.would_be_late(rows, now, deadline):
            raise Overloaded("the model has too much to do to answer in time; try again later")
        self._room.check(size, servable.under_way, self._routes.has_several_models)
        self._next_id += 1
        number = self._next_id
        order = (status.priority_level(request.priority), number)
        ticket = Ticket(number, request, form, rows, deadline, now, order, self, servable, done, size, patience)
        self._room.take(size)
        self._deadlines.add(ticket, patience)
        servable.put(ticket)
        return ticket

    def settle(self, ticket: Ticket, outcome: Answer | ModelportError | None) -> None:
        """The end of each admitted request, whichever it is; None: nobody waits for it any more."""
        request, ticket.request = ticket.request, None
        done, ticket.done = ticket.done, _nobody  # the queue may note the ticket for long
        assert request is not None
        servable = ticket.servable
        metrics = servable.metrics
        self._room.give_back(ticket.size)
        self._deadlines.remove(ticket, ticket.patience)
        servable.release(ticket)
        seconds = time.monotonic() - ticket.queued_at
        if outcome is None:
            metrics.count("cancelled", seconds)
        elif isinstance(outcome, ModelportError):
            metrics.count(outcome.kind, seconds)
            _hand_over(done, outcome)
        else:
            metrics.record_run(outcome.frame, outcome.queued_s, ticket.rows)
            metrics.count("success", seconds)
            status = servable.status
            _hand_over(done, InferResponse(status.name, status.version, outcome.frame.outputs, request.id))

    def _expire(self, ticket: Ticket) -> None:
        ticket.settle(DeadlineExceeded("the deadline passed before the model answered"))

    async def drain(self, grace_s: float) -> None:
        """Refuse what is new, wait for what is under way."""
        self.draining = True
        try:
            async with asyncio.timeout(grace_s):
                await self._room.idle.wait()
        except TimeoutError:
            log.warning("%d requests were still under way when the grace period ended", self._room.requests)
            for servable in list(self._routes.servables()):
                servable.fail_all(Unavailable("the gateway stopped before the model answered"))
            await self._room.idle.wait()
        self.drained.set()

    def snapshot(self) -> list[dict[str, Any]]:
        """Cumulative figures for the supervisor."""
        self.metrics.clear_gauges()
        for servable in self._routes.servables():
            metrics = servable.metrics
            metrics.queued = servable.queued
            metrics.in_flight = servable.under_way
        return self.metrics.snapshot()


def _hand_over(done: Done, outcome: InferResponse | Exception) -> None:
    try:
        done(outcome)
    except Exception:  # whoever asked has a bug; the answers behind this one shall get to theirs
        log.exception("an answer could not be handed over")


def _resolve(answer: "asyncio.Future[InferResponse]", outcome: InferResponse | Exception) -> None:
    if answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    elif outcome.final:
        answer.set_result(outcome)


def _nobody(outcome: InferResponse | Exception) -> None:
    pass
