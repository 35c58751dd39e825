"""One front's engine: it admits requests, hands them to servables, delivers the answers, and counts them.

Everything runs on one event loop. Nothing here depends on a protocol.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from gateway.domain.control import ControlRequest, ResultT
from gateway.domain.default_limits import CACHE_BYTES, MAX_BODY_BYTES, MAX_RESPONSE_BYTES
from gateway.domain.deployment import Deployment
from gateway.domain.identity import Identity
from gateway.domain.request_record import CURRENT
from gateway.domain.shared_memory import SharedMemory
from gateway.domain.table import Table
from gateway.domain.types import (
    NO_PARAMETERS,
    InferRequest,
    InferResponse,
    ModelStatus,
    NotLoaded,
    unary_call,
    unavailable,
)
from gateway.domain.uploads import Uploads
from gateway.engine.accepted import Accepted, AcceptedRequests
from gateway.engine.admission import AdmissionController, AdmissionLimits, AdmissionReservation
from gateway.engine.admitted import AdmittedRequest
from gateway.engine.arenas import Arenas
from gateway.engine.calls import Calls
from gateway.engine.context import context_of
from gateway.engine.deadlines import Deadlines
from gateway.engine.frames import Frames
from gateway.engine.load_waits import LoadWait, LoadWaits
from gateway.engine.metrics import FrontMetrics
from gateway.engine.protocol import AnswerCallback, RequestHandle
from gateway.engine.routes import Routes
from gateway.engine.sequences import SequenceQueues
from gateway.engine.servable import QueuedRequest, Servable
from gateway.engine.shadow import ShadowRequest, Shadows
from gateway.engine.tally import Tally
from gateway.engine.usage import Usages
from gateway.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelportError,
    NotFound,
    Overloaded,
    Unavailable,
    Unsupported,
)
from runtimes.fair_order import priority_of

log = logging.getLogger(__name__)

# Longer deadlines are shortened to a day, which is also the longest single wait of asyncio's own loop
# (MAXIMUM_SELECT_TIMEOUT). Clients may set deadlines years away, and not every event loop has timers that long.
MAX_WAIT_S = 86_400.0

Control = Callable[[ControlRequest[Any]], Awaitable[Any]]


class FrontEngine:
    """Implements gateway.engine.protocol.Engine.

    `front` is the front's number, which makes request ids unique across fronts. `control` sends a request to the
    supervisor. `usage_page` is the file by which fronts share quotas; whoever makes an Identity gets its usage from
    `usages`. `compiled` is the module front/fast_path.pyx; without it, frames and tallies are Python's. The compiled
    path does what `submit` and `settle` do for its own requests, with `routes`, `admission`, `deadlines` and `last_id`,
    the id given last.
    """

    def __init__(
        self,
        front: int,
        limits: AdmissionLimits,
        control: Control,
        arenas: Arenas | None = None,
        shared_memory: SharedMemory | None = None,
        server_name: str = "modelport",
        compiled: ModuleType | None = None,
        usage_page: Path | None = None,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        deployment: Deployment = Deployment(),  # noqa: B008 - a tuple
        max_body_bytes: int = MAX_BODY_BYTES,
        uploads: Uploads | None = None,
        cache_bytes: int = CACHE_BYTES,
        want: Callable[[str, str], None] = lambda model, version: None,
    ) -> None:
        self.deployment = deployment
        self.uploads = uploads
        self.metrics = FrontMetrics()
        self.shared_memory = shared_memory or SharedMemory()
        self.server_name = server_name
        self.leaving = False
        self.draining = False
        self.drained = asyncio.Event()
        self._arenas = arenas
        self.frames: Frames = Frames() if compiled is None else compiled.Frames()
        make_calls = partial(Calls, self.submit_child, max_body_bytes)
        self.shadows = Shadows(self, limits.timeout_s)
        self.routes = Routes(
            self.metrics,
            arenas,
            front,
            self.frames,
            max_response_bytes,
            self,
            make_calls,
            cache_bytes,
            want,
            self.shadows,
        )
        self.admission = AdmissionController(limits)
        tally = Tally if compiled is None else compiled.Tally
        self.usages = Usages(self.admission, usage_page, front, tally=tally)
        self.deadlines: Deadlines[AdmittedRequest | LoadWait] = Deadlines(self._expire)
        self.expirations: Deadlines[ShadowRequest] = Deadlines(self._expire)
        self._accepted = AcceptedRequests(self.admission)
        self._load_waits = LoadWaits(self.admission, self.deadlines, self.metrics, self.routes.want, self._accepted)
        self._control = control
        self.last_id = front << 40

    @property
    def ready(self) -> bool:
        return self.routes.ready and not (self.leaving or self.draining)

    @property
    def sticky_headers(self) -> Mapping[str, str]:
        return self.routes.choice.sticky_headers

    def choose_version(self, request: InferRequest, identity: Identity | None = None) -> str:
        """See gateway.engine.protocol.Engine."""
        return self.routes.choice.choose(request, identity)

    def models(self) -> Sequence[ModelStatus]:
        return self.routes.models()

    def model(self, name: str, version: str = "") -> ModelStatus:
        """See Routes.model."""
        return self.routes.model(name, version)

    def apply(self, table: Table) -> None:
        """Apply the supervisor's newest table."""
        self.shared_memory.apply(table.regions)
        self.routes.apply(table)
        self._load_waits.apply(self.routes.find)

    async def control(self, request: ControlRequest[ResultT]) -> ResultT:
        """See gateway.engine.protocol.Engine."""
        answer: ResultT = await self._control(request)
        return answer

    def reserve_body(self, model: str, version: str, identity: Identity | None = None) -> AdmissionReservation:
        """See gateway.engine.protocol.Engine."""
        usage = None if identity is None else identity.usage
        return AdmissionReservation(self.admission, self._count_rejected, model, version, usage)

    def accept(self, fail: Callable[[ModelportError], object]) -> Accepted:
        """See gateway.engine.protocol.Engine."""
        self._check_draining()
        return self._accepted.add(fail)

    def buffer(self, size: int, model: str = "") -> memoryview:
        """See gateway.engine.protocol.Engine."""
        block = None
        if self._arenas is not None:
            block = self._arenas.allocate(size, self.routes.reader(model or self.routes.only_model))
        return memoryview(bytearray(size)) if block is None else block

    def _count_rejected(self, model: str, version: str, outcome: str, seconds: float) -> None:
        try:
            status = self.model(model, version)
            key = (status.name, status.version)
        except (NotFound, Unavailable):  # no version with a weight is loaded
            key = ("", "")
        self.metrics.of(*key).count(outcome, seconds)

    def submit(
        self,
        request: InferRequest,
        on_answer: AnswerCallback,
        identity: Identity | None = None,
        takes_many: bool = False,
    ) -> AdmittedRequest:
        """See gateway.engine.protocol.Engine."""
        return self._submit(request, on_answer, identity, takes_many)

    def submit_child(
        self, parent: QueuedRequest, request: InferRequest, on_answer: AnswerCallback, takes_many: bool = False
    ) -> RequestHandle:
        """Submit a request that is made for another one, which is in progress: `submit` for models that need others.

        It has the parent's identity, its priority unless it states one, and its deadline unless its own is earlier. Its
        bytes count as admitted, but limits, quotas and draining never refuse it, because the parent was admitted:
        callers limit how many children, and how many of their bytes, they have in progress. It is cancelled when the
        parent is settled. The trace of the parent shows it.

        Only requests that `submit` or `submit_child` returned can be parents. Those of the compiled path, which knows
        plain models only, cannot.

        Raises ModelportError as `submit` does, and if the model is one of those above it, or more than MAX_DEPTH deep.
        """
        if not isinstance(parent, AdmittedRequest):
            raise Unsupported("a request to this model cannot call other models")
        above = parent.request
        if above is None:
            raise InvalidRequest("the request for which this one is made has ended")
        deadline = parent.deadline if request.deadline is None else min(request.deadline, parent.deadline)
        record = None if above.record is None else above.record.of_child(request.model, request.version, request.id)
        request = request._replace(
            deadline=deadline,
            priority=request.priority or above.priority,
            record=record,
            affinity=request.affinity or above.affinity,
        )
        try:
            return self._submit_or_wait_as_child(parent, request, on_answer, takes_many)
        except ModelportError as error:
            if record is not None:
                record.outcome = error.kind
            raise

    def when_loaded(
        self,
        unloaded: NotLoaded,
        go_on: Callable[[], RequestHandle | None],
        fail: Callable[[Exception], object],
        size: int = 0,
        seconds: float | None = None,
        identity: Identity | None = None,
    ) -> RequestHandle:
        """See gateway.engine.protocol.Engine."""
        self._check_draining()
        has_other_models, usage = not self.routes.only_model, None if identity is None else identity.usage
        return self._load_waits.add(self._new_id(), unloaded, go_on, fail, size, seconds, has_other_models, usage=usage)

    def _submit_or_wait_as_child(
        self, parent: AdmittedRequest, request: InferRequest, on_answer: AnswerCallback, takes_many: bool
    ) -> RequestHandle:
        """Submit a request, or have it wait for its version: again, if another version is chosen then."""
        try:
            return self._submit(request, on_answer, parent.identity, takes_many, parent)
        except NotLoaded as unloaded:
            assert request.deadline is not None
            seconds = request.deadline - time.monotonic()
            go_on = partial(self._go_on_as_child, parent, request, on_answer, takes_many)
            return self._load_waits.add(self._new_id(), unloaded, go_on, on_answer, seconds=seconds, is_child=True)

    def _go_on_as_child(
        self, parent: AdmittedRequest, request: InferRequest, on_answer: AnswerCallback, takes_many: bool
    ) -> RequestHandle | None:
        return None if parent.settled else self._submit_or_wait_as_child(parent, request, on_answer, takes_many)

    def _new_id(self) -> int:
        self.last_id += 1
        return self.last_id

    def _submit(
        self,
        request: InferRequest,
        on_answer: AnswerCallback,
        identity: Identity | None,
        takes_many: bool,
        parent: AdmittedRequest | None = None,
    ) -> AdmittedRequest:
        now = time.monotonic()
        asked_version = request.version
        servable = self.routes.known.get((request.model, asked_version))
        try:
            if servable is None:
                request = self.routes.choice.apply_to(request, identity)
                servable = self.routes.servable(request.model, request.version)
                if servable.status.decoupled and not takes_many:
                    raise unary_call(servable.status)
            return self._admit(request, servable, now, on_answer, identity, parent, asked_version)
        except NotLoaded:  # it waits, and is counted when it ends
            raise
        except Exception as error:
            outcome = error.kind if isinstance(error, ModelportError) else "internal"
            metrics = self.metrics.of("", "") if servable is None else servable.metrics
            metrics.count(outcome, time.monotonic() - now)
            if isinstance(servable, SequenceQueues) and request.sequence is not None and request.sequence.start:
                servable.end_sequence(request.sequence.id)
            raise

    async def infer(self, request: InferRequest, identity: Identity | None = None) -> InferResponse:
        """See gateway.engine.protocol.Engine."""
        record = CURRENT.get()
        if record is not None:
            request = record.attach(request, identity)
        answer: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()
        admitted = self._submit_or_wait(request, partial(_resolve, answer), identity)
        try:
            return await answer
        except asyncio.CancelledError:
            admitted.cancel()
            raise
        finally:
            # The future refers to its exception, whose traceback refers to this frame. Without this, the request's
            # bytes would stay in memory until the garbage collector breaks that cycle.
            del answer, admitted

    def _check_draining(self) -> None:
        """Refuse what comes while the gateway drains, but not what was accepted before."""
        if self.draining and not self._accepted.going_on:
            raise Unavailable("the gateway is shutting down; send the request to another one")

    def _submit_or_wait(
        self, request: InferRequest, on_answer: AnswerCallback, identity: Identity | None
    ) -> RequestHandle:
        """Submit a request, or have it wait for its version: again, if another version is chosen then."""
        try:
            return self.submit(request, on_answer, identity)
        except NotLoaded as unloaded:
            seconds = None if request.deadline is None else request.deadline - time.monotonic()
            go_on = partial(self._submit_or_wait, request, on_answer, identity)
            return self.when_loaded(unloaded, go_on, on_answer, seconds=seconds, identity=identity)

    def _admit(
        self,
        request: InferRequest,
        servable: Servable,
        now: float,
        on_answer: AnswerCallback,
        identity: Identity | None,
        parent: AdmittedRequest | None,
        asked_version: str,
    ) -> AdmittedRequest:
        status = servable.status
        chain = () if parent is None else parent.chain_to(status.name)
        if parent is None:
            self._check_draining()
        if not status.admits or not status.signatures:
            raise unavailable(status)
        rows, size, layout, _ = servable.validator.check(request)
        size += len(request.id)  # of any length, and kept as long as the inputs
        context = b""
        if status.takes_context or status.sequence or status.steps:  # a pipeline passes it on
            context = context_of(request)
            size += len(context)
        elif request.parameters or request.sequence is not None:
            # They would be kept as long as the inputs, and nobody counts their bytes.
            request = request._replace(parameters=NO_PARAMETERS, sequence=None)
        timeout_s, target_s = None, servable.target_s
        if request.deadline is None:
            timeout_s = target_s or self.admission.limits.timeout_s
            deadline = now + timeout_s
        else:
            deadline = min(request.deadline, now + (target_s or MAX_WAIT_S))
            if deadline <= now:
                raise DeadlineExceeded("the deadline had passed when the request arrived")
        if target_s and servable.would_be_late(rows, now, deadline):
            raise Overloaded("the model is too busy to answer in time; try again later")
        if parent is None:
            self.admission.admit(size, servable.under_way, not self.routes.only_model)
        else:
            self.admission.admit_child(size)
        priority = request.priority
        priority = status.priority_level(priority) if priority else status.default_priority_level
        if identity is not None and identity.usage is not None:
            if parent is None:
                try:
                    identity.usage.admit(size)
                except ModelportError:
                    self.admission.release(size)
                    raise
            priority = priority_of(priority, identity.usage.flow)
        number = self.last_id = self.last_id + 1
        admitted = AdmittedRequest(
            number, request, layout, rows, size, deadline, now, priority, identity, self, servable, on_answer,
            timeout_s, parent, chain,
        )  # fmt: skip
        admitted.context, admitted.asked_version = context, asked_version
        if parent is None:
            self.deadlines.add(admitted, timeout_s)
        else:
            if parent.children is None:
                parent.children = {}
            parent.children[number] = admitted
            if deadline < parent.deadline:  # otherwise, it ends with the parent
                self.deadlines.add(admitted, None)
        servable.put(admitted)
        if status.state == "UNLOADED" and servable.queued:  # a kept answer needs no model
            self.routes.want(status)
        return admitted

    def settle(self, admitted: AdmittedRequest) -> float:
        """End an admitted request, and return how many seconds it took. Every admitted request ends here, once."""
        admitted.request = None
        # The queue's heap may refer to the request for long; what it refers to in turn can be freed now.
        admitted.on_answer = _ignore
        if admitted.children:
            admitted.cancel_children()
        parent, identity = admitted.parent, admitted.identity
        if parent is None:
            self.admission.release(admitted.size)
            if identity is not None and identity.usage is not None:
                identity.usage.end(admitted.size)
        else:
            self.admission.end_child(admitted.size)
            if parent.children is not None:
                del parent.children[admitted.id]
        self.deadlines.remove(admitted, admitted.timeout_s)
        return time.monotonic() - admitted.queued_at

    def _expire(self, waiting: QueuedRequest | LoadWait) -> None:
        waiting.fail(DeadlineExceeded("the deadline passed before the model answered"))

    async def drain(self, grace_s: float) -> None:
        """Reject new requests, and wait up to `grace_s` seconds for those in progress; then fail the rest."""
        self.draining = True
        idle = asyncio.Event()
        self.admission.on_idle = idle.set
        try:
            async with asyncio.timeout(grace_s):
                await self._until_idle(idle)
        except TimeoutError:
            log.warning("%d requests were still in progress when the grace period ended", self.admission.requests)
            self._accepted.fail_all(Unavailable("the gateway stopped before the request was read"))
            self._load_waits.fail_all(Unavailable("the gateway stopped before the model was loaded"))
            for servable in list(self.routes.servables()):
                servable.fail_all(Unavailable("the gateway stopped before the model answered"))
            await self._until_idle(idle)
        self.drained.set()

    async def _until_idle(self, idle: asyncio.Event) -> None:
        while self.admission.requests:  # one that has waited for its model ends as a wait, and begins as a request
            idle.clear()
            await idle.wait()

    def snapshot(self) -> list[dict[str, Any]]:
        """Return cumulative metrics for the supervisor."""
        self.metrics.clear_gauges()
        for servable in self.routes.servables():
            metrics = servable.metrics
            metrics.queued = servable.queued
            metrics.in_flight = servable.under_way
        self.shadows.discount()
        self.routes.note_caches()
        for key, count in self._load_waits.counts().items():
            metrics = self.metrics.of(*key)
            metrics.queued += count
            metrics.in_flight += count
        return self.metrics.snapshot()


def _resolve(answer: "asyncio.Future[InferResponse]", outcome: InferResponse | Exception) -> None:
    if answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    elif outcome.final:
        answer.set_result(outcome)


def _ignore(outcome: InferResponse | Exception) -> None:
    pass
