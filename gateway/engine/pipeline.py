"""Answers for a pipeline: a graph of models, whose tensors are the edges."""

import time
from collections.abc import Callable
from typing import Protocol

from gateway.domain.types import ModelStatus
from gateway.engine.admission import AdmissionController
from gateway.engine.admitted import AdmittedRequest
from gateway.engine.fair_queue import FairQueue
from gateway.engine.metrics import ModelMetrics
from gateway.engine.pipeline_compiled import BeginSteps, CompiledRun, Progress, Represented, answer_compiled, asked
from gateway.engine.pipeline_outcome import result_of, step_error
from gateway.engine.pipeline_plan import KnowsModels, Plan
from gateway.engine.pipeline_run import Run, SubmitsChildren
from gateway.engine.servable import QueuedRequest
from gateway.engine.validate import LayoutValidator
from gateway.errors import ModelportError, Unavailable
from runtimes.tensor_bytes import Tensor

# Until one request has shown how many bytes its steps make, only so many run at a time. More of them could fill the
# memory; fewer would make the first burst of a new pipeline wait longer.
_FIRST_RUNS = 16


class Models(KnowsModels, SubmitsChildren, Protocol):
    """The engine, as pipelines see it."""

    @property
    def admission(self) -> AdmissionController:
        """The limits, and what is counted against them."""
        ...

    @property
    def begin_steps(self) -> BeginSteps:
        """See gateway.engine.pipeline_compiled."""
        ...


class Pipeline:
    """The Servable of a version that has steps.

    Each step of a request is a child request to the step's model, so that it waits, runs in batches and is retried
    there as any request of a client. Steps whose inputs are ready run side by side. A step whose `when` does not hold
    is skipped; its outputs do not exist, and steps that need them are skipped too. With a decoupled step, the pipeline
    is decoupled (see Run).

    A small request may have its steps make large tensors, which admission counts only when it is too late. So only as
    many requests run at a time as fit half of the limit of admitted bytes, by what others have made; the rest waits.
    """

    def __init__(
        self,
        status: ModelStatus,
        metrics: ModelMetrics,
        models: Models,
        tidy: "Callable[[Pipeline], None]",
        max_response_bytes: int,
    ) -> None:
        """`tidy` is called when a request has ended and the pipeline is closing."""
        self.metrics = metrics
        self.models = models
        self.closing = False  # as in ModelQueue
        self.max_response_bytes = max_response_bytes
        self._tidy = tidy
        self._runs: dict[int, Run | CompiledRun] = {}
        self._waiting = FairQueue()
        self._max_bytes = models.admission.limits.max_bytes // 2
        self._run_bytes: int | None = None  # what the steps of one request make; None if that is not known yet
        self._plan: Plan | None = None
        self._set_status(status)

    def update_status(self, status: ModelStatus) -> None:
        """Apply the supervisor's newest status of the version."""
        if status != self.status:
            was_decoupled = self.status.decoupled
            self._set_status(status)
            self._check_waiting(status.decoupled != was_decoupled)
        self._plan = None  # another table may describe other models

    def _set_status(self, status: ModelStatus) -> None:
        self.status = status
        self.validator = LayoutValidator(status)
        self.target_s = status.latency_target_ms / 1000
        self._plan = None

    def _check_waiting(self, is_other_kind: bool) -> None:
        """Fail waiting requests that fitted other steps. Run by these, they would seem to lack optional inputs.

        is_other_kind  whether the pipeline has become decoupled, or has ceased to be: clients expect something else
        """
        for queued in list(self._waiting.items.values()):
            try:
                self.validator.check(asked(self.status.name, queued))
            except ModelportError:
                fits = False
            else:
                fits = not is_other_kind
            if not fits:
                queued.fail(Unavailable(f"model '{self.status.name}' was loaded again; send the request again"))

    @property
    def queued(self) -> int:
        return len(self._waiting.items)

    @property
    def under_way(self) -> int:
        return len(self._runs) + len(self._waiting.items)

    def would_be_late(self, rows: int, now: float, deadline: float) -> bool:
        return False  # nobody knows how long the steps will wait; each of them may refuse its request

    def put(self, queued: QueuedRequest) -> None:
        if self._waiting.items or not self._has_room():
            self._waiting.add(queued, 0)
        else:
            self._start(queued, queued.queued_at)

    def _has_room(self) -> bool:
        runs = len(self._runs)
        if not runs:
            return True  # and when one ends, the next may start
        if self.models.admission.child_bytes > self._max_bytes:
            return False  # of several pipelines; the other half is for clients of other models
        if self._run_bytes is None:
            return runs < _FIRST_RUNS
        return runs * self._run_bytes < self._max_bytes

    @property
    def plan(self) -> Plan:
        if self._plan is None:
            self._plan = Plan(self.status, self.models)
        return self._plan

    def _start(self, queued: QueuedRequest, now: float) -> None:
        plan = self.plan
        queued.sent_at = now
        run = self.models.begin_steps(self, plan, queued) or Run(self, plan, self._represent(queued))
        self._runs[queued.id] = run
        run.start()

    def _represent(self, queued: QueuedRequest) -> AdmittedRequest:
        return queued if isinstance(queued, AdmittedRequest) else Represented.of(queued, self)

    def take_over(self, run: CompiledRun, plan: Plan, progress: Progress) -> Run:
        """Go on with what compiled code has begun, and cannot go on with."""
        later = self._runs[run.queued.id] = Run(self, plan, self._represent(run.queued), run)
        later.resume(progress)
        return later

    def fail_step(self, queued: QueuedRequest, plan: Plan, number: int, error: Exception) -> None:
        """Fail a request of compiled code, of which a step has failed."""
        queued.fail(step_error(f"pipeline '{self.status.name}', ", plan, number, error))

    def finish(self, queued: QueuedRequest, outputs: list[Tensor], compute_ns: tuple[int, int, int]) -> None:
        """Answer a request whose steps ran in compiled code."""
        results = result_of(queued.rows, compute_ns)
        self.release(queued)
        if isinstance(queued, AdmittedRequest):
            queued.deliver(outputs, results, 0)
        else:
            answer_compiled(queued, outputs, results)
        self.metrics.count_results(results, 1, queued.rows)

    def start_waiting(self) -> None:
        """Start the requests that there is room for."""
        while self._has_room() and (queued := self._waiting.first()) is not None:
            self._waiting.take(queued)
            self._start(queued, time.monotonic())

    def note_bytes(self, made: int, is_known: bool) -> None:
        """The steps of a request have made so many bytes, at most at a time. Larger ones are forgotten slowly.

        is_known  whether it has ended, or has sent an answer, so that others will not make much more
        """
        known = self._run_bytes
        if is_known:
            self._run_bytes = max(made, 0 if known is None else known - (known >> 6))
        elif known is not None and made > known:
            self._run_bytes = made

    def acknowledge(self, queued: QueuedRequest) -> None:
        if (run := self._runs.get(queued.id)) is not None:
            run.acknowledge()

    def release(self, queued: QueuedRequest) -> None:
        run = self._runs.pop(queued.id, None)
        if run is None:
            self._waiting.remove(queued)
        else:
            run.forget()
            if self._waiting.items:
                self.start_waiting()
        if self.closing:
            self._tidy(self)

    def fail_all(self, error: ModelportError) -> None:
        for queued in list(self._waiting.items.values()):  # first, so that they do not start in place of the others
            queued.fail(error)
        for run in list(self._runs.values()):
            run.queued.fail(error)


def reader_of(status: ModelStatus) -> str:
    """Return the model of a step that gets all inputs of a pipeline, so that its workers may see the whole body.

    "" if there is none, or if the version is no pipeline.
    """
    signature = status.signature()
    inputs = {spec.name for spec in signature.inputs} if signature else set()
    return next((step.model for step in status.steps if inputs and inputs <= set(step.inputs.values())), "")
