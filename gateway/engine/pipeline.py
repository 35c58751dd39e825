"""Answers for a pipeline: a graph of models, whose tensors are the edges."""

import asyncio
import logging
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol

from gateway.domain.pipeline import Step
from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.engine.admission import AdmissionController
from gateway.engine.admitted import AdmittedRequest
from gateway.engine.fair_queue import FairQueue
from gateway.engine.metrics import ModelMetrics
from gateway.engine.protocol import AnswerCallback, RequestHandle
from gateway.engine.servable import QueuedRequest
from gateway.engine.validate import LayoutValidator
from gateway.errors import Internal, InvalidRequest, ModelportError, NotFound, TooLarge, Unavailable, prefixed
from runtimes.contract import TensorSpec
from runtimes.layouts import TensorGroup
from runtimes.tensor_bytes import Tensor
from runtimes.wire import ResultGroup

log = logging.getLogger(__name__)

# Until one request has shown how many bytes its steps make, only so many run at a time. More of them could fill the
# memory; fewer would make the first burst of a new pipeline wait longer.
_FIRST_RUNS = 16
_NO_OUTPUTS = TensorGroup(("", (), ()), (0,), memoryview(b""), 0)


class Models(Protocol):
    """The engine, as pipelines see it."""

    @property
    def admission(self) -> AdmissionController:
        """The limits, and what is counted against them."""
        ...

    def model(self, name: str, version: str = "") -> ModelStatus: ...

    def submit_child(
        self, parent: QueuedRequest, request: InferRequest, on_answer: AnswerCallback
    ) -> RequestHandle: ...


class Pipeline:
    """The Servable of a version that has steps.

    Each step of a request is a child request to the step's model, so that it waits, runs in batches and is retried
    there as any request of a client. Steps whose inputs are ready run side by side. A step whose `when` does not hold
    is skipped; its outputs do not exist, and steps that need them are skipped too.

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
        self._runs: dict[int, _Run] = {}
        self._waiting = FairQueue()
        self._max_bytes = models.admission.limits.max_bytes // 2
        self._run_bytes: int | None = None  # what the steps of one request make; None if that is not known yet
        self._plan: _Plan | None = None
        self._set_status(status)

    def update_status(self, status: ModelStatus) -> None:
        """Apply the supervisor's newest status of the version."""
        if status != self.status:
            self._set_status(status)
            self._check_waiting()
        self._plan = None  # another table may describe other models

    def _set_status(self, status: ModelStatus) -> None:
        self.status = status
        self.validator = LayoutValidator(status)
        self.target_s = status.latency_target_ms / 1000
        self._plan = None

    def _check_waiting(self) -> None:
        """Fail waiting requests that fitted other steps. Run by these, they would seem to lack optional inputs."""
        for queued in list(self._waiting.items.values()):
            assert queued.request is not None
            try:
                self.validator.check(queued.request)
            except ModelportError:
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

    def _start(self, queued: QueuedRequest, now: float) -> None:
        assert isinstance(queued, AdmittedRequest)  # the compiled path does not know pipelines
        if self._plan is None:
            self._plan = _Plan(self.status, self.models)
        queued.sent_at = now
        run = self._runs[queued.id] = _Run(self, self._plan, queued)
        run.start()

    def _start_waiting(self) -> None:
        while self._has_room() and (queued := self._waiting.first()) is not None:
            self._waiting.take(queued)
            self._start(queued, time.monotonic())

    def note_bytes(self, made: int, is_complete: bool) -> None:
        """The steps of a request have made so many bytes so far. Larger ones are forgotten slowly."""
        known = self._run_bytes
        if is_complete:
            self._run_bytes = max(made, 0 if known is None else known - (known >> 6))
        elif known is not None and made > known:
            self._run_bytes = made

    def release(self, queued: QueuedRequest) -> None:
        if self._runs.pop(queued.id, None) is None:
            self._waiting.remove(queued)
        elif self._waiting.items:
            self._start_waiting()
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


class _Plan:
    """What all runs of a pipeline have in common, as long as the table does not change.

    consumers  of each tensor: the steps that need it, by number
    needs      of each step: how many tensors it waits for
    makers     of each tensor: how many steps may make it
    uses       of each tensor: how often a step, or the answer, uses it
    requested  of each step: the outputs to ask its model for
    needed     of each step: the inputs that its model cannot do without
    batch_dim  of each step: the dimension of its model that counts rows; None if none does
    no_rows    of each step: what its model answers to inputs without rows; None if that is not known
    """

    def __init__(self, status: ModelStatus, models: Models) -> None:
        self.steps = status.steps
        signature = status.signature()
        self.inputs = [spec.name for spec in signature.inputs] if signature else []
        self.outputs = [spec.name for spec in signature.outputs] if signature else []
        consumers: dict[str, list[int]] = defaultdict(list)
        for number, step in enumerate(self.steps):
            for name in step.needs:
                consumers[name].append(number)
        self.consumers: Mapping[str, Sequence[int]] = dict(consumers)
        self.needs = [len(step.needs) for step in self.steps]
        self.makers = Counter(name for step in self.steps for name in step.outputs.values())
        self.uses = Counter(name for step in self.steps for name in step.needs)
        self.uses.update(self.outputs)
        self.requested: list[Sequence[str]] = []
        self.needed: list[frozenset[str]] = []
        self.batch_dim: list[int | None] = []
        self.no_rows: list[Sequence[Tensor] | None] = []
        for step in self.steps:
            try:
                model = models.model(step.model, step.version)
            except (NotFound, Unavailable):
                model = ModelStatus(step.model, step.version, "UNAVAILABLE")  # the step's request will say so
            # A pipeline refuses to answer if an output that was asked for does not exist; this one can do without.
            self.requested.append(() if model.steps else tuple(step.outputs))
            used = model.signature()
            self.needed.append(frozenset(used.needed_for(list(step.outputs)) if used else step.inputs))
            self.batch_dim.append(model.batch_dim if model.has_rows else None)
            self.no_rows.append(_without_rows(used.outputs, step.outputs, model.batch_dim) if used else None)


def _without_rows(specs: Iterable[TensorSpec], names: Collection[str], batch_dim: int) -> Sequence[Tensor] | None:
    """Return these outputs with 0 rows; None if their datatypes, or the sizes of a row, are not declared."""
    tensors = []
    for spec in specs:
        if spec.name not in names:
            continue
        shape = list(spec.shape or ())
        if not spec.datatype or len(shape) <= batch_dim:
            return None
        shape[batch_dim] = 0
        if -1 in shape:
            return None
        tensors.append(Tensor(spec.name, spec.datatype, tuple(shape), b""))
    return tensors


class _Run:
    """One request to a pipeline, until it is settled."""

    __slots__ = ("_ended", "_is_starting", "_left", "_made", "_makers", "_missing", "_pipeline", "_plan", "_ready",
                 "_tensors", "_uses", "queued")  # fmt: skip

    def __init__(self, pipeline: Pipeline, plan: _Plan, queued: AdmittedRequest) -> None:
        self.queued = queued
        self._pipeline, self._plan = pipeline, plan
        # By the pipeline's names. None for those that do not exist, since nothing has made them.
        self._tensors: dict[str, Tensor | None] = {}
        self._missing, self._makers, self._uses = list(plan.needs), dict(plan.makers), dict(plan.uses)
        self._ready: deque[int] = deque()
        self._left = len(plan.steps)
        self._made = 0  # bytes
        self._is_starting = True
        self._ended = False

    def start(self) -> None:
        request = self.queued.request
        assert request is not None
        for number, missing in enumerate(self._missing):
            if not missing:
                self._ready.append(number)
        for tensor in request.inputs:
            self._put(tensor.name, tensor)
        for name in self._plan.inputs:
            if name not in self._tensors:
                self._put(name, None)  # it is optional
        self._go_on()
        self._is_starting = False

    def _put(self, name: str, tensor: Tensor | None) -> None:
        """A tensor exists, or it is certain that it will not."""
        self._tensors[name] = tensor
        for number in self._plan.consumers.get(name, ()):
            self._missing[number] -= 1
            if not self._missing[number]:
                self._ready.append(number)

    def _go_on(self) -> None:
        """Run all steps whose inputs are ready, and end with the last one."""
        while self._ready and not self._ended:
            number = self._ready.popleft()
            try:
                self._step(number)
            except Exception as error:
                self._fail(number, error)
        if not self._left and not self._ended:
            self._end(self._answer)

    def _step(self, number: int) -> None:
        step, request = self._plan.steps[number], self.queued.request
        assert request is not None
        inputs = self._inputs(number) if self._holds(step) else None
        for name in step.needs:
            self._uses[name] -= 1
            if not self._uses[name]:
                self._tensors[name] = None  # frees its bytes
        if inputs is None:
            self._left -= 1
            for name in step.outputs.values():
                self._miss(name)
            return
        no_rows = self._plan.no_rows[number]
        if no_rows is not None and self._have_no_rows(number, inputs):
            # A step may find nothing, a detector for example. No model needs to run on nothing, and few can.
            self._left -= 1
            self._take(number, no_rows)
            return
        child = request._replace(
            model=step.model,
            version=step.version,
            inputs=inputs,
            outputs=self._plan.requested[number],
            signature="",
            layout=None,
        )
        self._pipeline.models.submit_child(self.queued, child, partial(self._on_answer, number))

    def _have_no_rows(self, number: int, inputs: Sequence[Tensor]) -> bool:
        """Return whether a step's inputs have rows, of which there are none."""
        dim = self._plan.batch_dim[number]
        return dim is not None and bool(inputs) and all(tensor.shape[dim : dim + 1] == (0,) for tensor in inputs)

    def _holds(self, step: Step) -> bool:
        """Return whether the step's condition is met."""
        when = step.when
        if when is None:
            return True
        tensor = self._tensors[when.tensor]
        if tensor is None:
            return False
        if tensor.datatype != "BOOL" or len(tensor.data) != 1:
            kind = InvalidRequest if when.tensor in self._plan.inputs else Internal
            raise kind(
                f"it runs only when '{when}', which must be BOOL with one element, but is {tensor.datatype} of shape "
                f"{list(tensor.shape)}"
            )
        return (tensor.data[0] != 0) == when.value

    def _inputs(self, number: int) -> list[Tensor] | None:
        """Return the inputs of a step: outputs of others under the names of its model. None if one does not exist.

        The bytes are those that the other steps' workers have sent. WorkerClient.send copies large ones into the arena
        of the step's model, and small ones into its frame.
        """
        inputs = []
        for name, source in self._plan.steps[number].inputs.items():
            tensor = self._tensors[source]
            if tensor is not None:
                inputs.append(Tensor(name, tensor.datatype, tensor.shape, tensor.data))
            elif name in self._plan.needed[number]:
                return None
        return inputs

    def _on_answer(self, number: int, outcome: InferResponse | Exception) -> None:
        if self._ended:
            return
        try:
            if isinstance(outcome, Exception):
                raise outcome
            self._left -= 1
            self._take(number, outcome.outputs)
        except Exception as error:
            self._fail(number, error)
            return
        self._go_on()

    def _take(self, number: int, outputs: Sequence[Tensor]) -> None:
        given = {tensor.name: tensor for tensor in outputs}
        for output, name in self._plan.steps[number].outputs.items():
            tensor = given.get(output)
            if tensor is None:
                self._miss(name)
            elif name in self._tensors:
                raise Internal(f"another step has made tensor '{name}' already; only one `when` of theirs may hold")
            else:
                self._made += len(tensor.data)
                self._put(name, Tensor(name, tensor.datatype, tensor.shape, tensor.data))
        self._pipeline.note_bytes(self._made, is_complete=False)

    def _miss(self, name: str) -> None:
        """A step has not made this tensor; perhaps another will."""
        self._makers[name] -= 1
        if not self._makers[name] and name not in self._tensors:
            self._put(name, None)

    def _fail(self, number: int, error: Exception) -> None:
        step = self._plan.steps[number]
        where = f"step {number + 1} (model {step})"
        if not isinstance(error, ModelportError):
            log.exception("pipeline %s, %s", self._pipeline.status.name, where, exc_info=error)
            error = Internal("the gateway failed; its log says why")
        elif isinstance(error, NotFound):  # the client asked for the pipeline, which exists
            error = Unavailable(str(error))
        self._end(partial(self.queued.fail, prefixed(error, where)))

    def _end(self, settle: Callable[[], None]) -> None:
        """Settle the request, but not before `put` has returned."""
        self._ended = True
        if self._is_starting:
            asyncio.get_running_loop().call_soon(settle)
        else:
            settle()

    def _answer(self) -> None:
        queued, request = self.queued, self.queued.request
        if request is None:
            return
        outputs = []
        for name in request.outputs or self._plan.outputs:
            tensor = self._tensors.get(name)
            if tensor is not None:
                outputs.append(tensor)
            elif request.outputs:
                queued.fail(InvalidRequest(f"there is no output '{name}', because the step that makes it was skipped"))
                return
        self._pipeline.note_bytes(self._made, is_complete=True)
        size, limit = sum(len(tensor.data) for tensor in outputs), self._pipeline.max_response_bytes
        if size > limit:  # each step has kept to the limit, but not all of them together
            queued.fail(TooLarge(f"the answer has {size} bytes and the limit is {limit}; ask for fewer outputs"))
            return
        # As in Triton, the times of a pipeline are the sums of its steps'.
        results = ResultGroup((0,), (0,), *queued.compute_ns, queued.rows, _NO_OUTPUTS, True, True)
        self._pipeline.release(queued)
        queued.deliver(outputs, results, 0)
        self._pipeline.metrics.count_results(results, 1, queued.rows)
