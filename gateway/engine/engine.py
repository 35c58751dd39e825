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
    InferRequest,
    InferResponse,
    ModelStatus,
    NotLoaded,
    unary_call,
)
from gateway.domain.uploads import Uploads
from gateway.engine.accepted import Accepted, AcceptedRequests
from gateway.engine.admission import AdmissionController, AdmissionLimits, AdmissionReservation
from gateway.engine.admitted import AdmittedRequest
from gateway.engine.admitted_requests import AdmittedRequests
from gateway.engine.arenas import Arenas
from gateway.engine.calls import Calls
from gateway.engine.child_requests import ChildRequests
from gateway.engine.frames import Frames
from gateway.engine.load_waits import LoadWaits
from gateway.engine.metrics import FrontMetrics
from gateway.engine.pipeline_compiled import BeginSteps, begin_nothing
from gateway.engine.protocol import Acceptance, AnswerCallback, RequestHandle
from gateway.engine.routes import Routes
from gateway.engine.sequences import SequenceQueues
from gateway.engine.servable import QueuedRequest
from gateway.engine.shadow import Shadows
from gateway.engine.tally import Tally
from gateway.engine.usage import Usages
from gateway.errors import ModelportError, NotFound, Unavailable

log = logging.getLogger(__name__)

Control = Callable[[ControlRequest[Any]], Awaitable[Any]]


class FrontEngine:
    """Implements gateway.engine.protocol.Engine.

    `front` is the front's number, which makes request ids unique across fronts. `control` sends a request to the
    supervisor. `usage_page` is the file by which fronts share quotas; whoever makes an Identity gets its usage from
    `usages`. `compiled` is the module front/fast_path.pyx; without it, frames and tallies are Python's. The compiled
    path does what `submit` and AdmittedRequests do for its own requests, with `routes`, `admission` and `requests`, and
    sets `begin_steps`.
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
        self.admission = AdmissionController(limits)
        self.requests = AdmittedRequests(front, self.admission)
        self.shadows = Shadows(self.requests.new_id, limits.timeout_s)
        make_calls = partial(Calls, self.submit_child, max_body_bytes)
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
        tally = Tally if compiled is None else compiled.Tally
        self.usages = Usages(self.admission, usage_page, front, tally=tally)
        self._accepted = AcceptedRequests(self.admission)
        deadlines = self.requests.deadlines
        self._load_waits = LoadWaits(self.admission, deadlines, self.metrics, self.routes.want, self._accepted)
        self._children = ChildRequests(self.submit, self._load_waits, self.requests.new_id)
        self._control = control
        self.begin_steps: BeginSteps = begin_nothing

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

    def submit_child(
        self, parent: QueuedRequest, request: InferRequest, on_answer: AnswerCallback, takes_many: bool = False
    ) -> RequestHandle:
        """See ChildRequests.submit_child."""
        return self._children.submit_child(parent, request, on_answer, takes_many)

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
        number = self.requests.new_id()
        return self._load_waits.add(number, unloaded, go_on, fail, size, seconds, has_other_models, usage=usage)

    def submit(
        self,
        request: InferRequest,
        on_answer: AnswerCallback,
        identity: Identity | None = None,
        takes_many: bool = False,
        parent: AdmittedRequest | None = None,
    ) -> AdmittedRequest:
        """See gateway.engine.protocol.Engine. `parent`: what ChildRequests submits it for."""
        now = time.monotonic()
        asked_version = request.version
        servable = self.routes.known.get((request.model, asked_version))
        try:
            if servable is None:
                request = self.routes.choice.apply_to(request, identity)
                servable = self.routes.servable(request.model, request.version)
                if servable.status.decoupled and not takes_many:
                    raise unary_call(servable.status)
            if parent is None:
                self._check_draining()
            others = not self.routes.only_model
            admitted = self.requests.admit(request, servable, now, on_answer, identity, parent, asked_version, others)
        except NotLoaded:  # it waits, and is counted when it ends
            raise
        except Exception as error:
            outcome = error.kind if isinstance(error, ModelportError) else "internal"
            metrics = self.metrics.of("", "") if servable is None else servable.metrics
            metrics.count(outcome, time.monotonic() - now)
            if isinstance(servable, SequenceQueues) and request.sequence is not None and request.sequence.start:
                servable.end_sequence(request.sequence.id)
            raise
        if servable.status.state == "UNLOADED" and servable.queued:  # a kept answer needs no model
            self.routes.want(servable.status)
        return admitted

    async def infer(
        self, request: InferRequest, identity: Identity | None = None, accepted: Acceptance | None = None
    ) -> InferResponse:
        """See gateway.engine.protocol.Engine."""
        record = CURRENT.get()
        if record is not None:
            request = record.attach(request, identity)
        answer: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()
        submit = partial(self._submit_or_wait, request, partial(_resolve, answer), identity)
        admitted = submit() if accepted is None else accepted.go_on(submit)
        try:
            return await answer
        except asyncio.CancelledError:
            admitted.cancel()
            raise
        finally:
            # The future refers to its exception, whose traceback refers to this frame. Without this, the request's
            # bytes would stay in memory until the garbage collector breaks that cycle.
            del answer, submit, admitted

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

    async def drain(self, grace_s: float) -> None:
        """Reject new requests, and wait up to `grace_s` seconds for those in progress; then fail the rest."""
        self.draining = True
        try:
            async with asyncio.timeout(grace_s):
                await self.admission.until_idle()
        except TimeoutError:
            left = self.admission.requests + self.admission.accepted
            log.warning("%d requests were still in progress when the grace period ended", left)
            self._accepted.fail_all(Unavailable("the gateway stopped before the request was read"))
            self._load_waits.fail_all(Unavailable("the gateway stopped before the model was loaded"))
            for servable in list(self.routes.servables()):
                servable.fail_all(Unavailable("the gateway stopped before the model answered"))
            await self.admission.until_idle()
        self.drained.set()

    def snapshot(self) -> list[dict[str, Any]]:
        """Return cumulative metrics for the supervisor."""
        self.metrics.clear_gauges()
        for servable in self.routes.servables():
            servable.metrics.queued, servable.metrics.in_flight = servable.queued, servable.under_way
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
