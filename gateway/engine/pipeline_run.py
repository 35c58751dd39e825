"""One request to a pipeline, from its start until it is settled."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.engine.admitted import AdmittedRequest
from gateway.engine.metrics import ModelMetrics
from gateway.engine.pipeline_compiled import CompiledRun, Progress, Represented
from gateway.engine.pipeline_pass import Pass
from gateway.engine.pipeline_plan import Plan
from gateway.engine.protocol import AnswerCallback, RequestHandle
from gateway.engine.servable import QueuedRequest
from gateway.errors import Internal, InvalidRequest, ModelportError, NotFound, TooLarge, Unavailable, prefixed
from runtimes.layouts import TensorGroup
from runtimes.result_frames import ResultGroup
from runtimes.tensor_bytes import Tensor
from runtimes.wire import MAX_UNREAD_BYTES

log = logging.getLogger(__name__)

_NO_OUTPUTS = TensorGroup(("", (), ()), (0,), memoryview(b""), 0)


class SubmitsChildren(Protocol):
    """The engine, as requests to pipelines see it."""

    def submit_child(
        self, parent: QueuedRequest, request: InferRequest, on_answer: AnswerCallback, takes_many: bool = False
    ) -> RequestHandle: ...


class Owner(Protocol):
    """The pipeline, as its requests see it."""

    @property
    def status(self) -> ModelStatus: ...

    @property
    def metrics(self) -> ModelMetrics: ...

    @property
    def models(self) -> SubmitsChildren: ...

    @property
    def max_response_bytes(self) -> int: ...

    def note_bytes(self, made: int, is_known: bool) -> None:
        """See Pipeline.note_bytes."""

    def start_waiting(self) -> None:
        """Start the requests that there is room for."""

    def release(self, queued: QueuedRequest) -> None:
        """See Servable.release."""


class Run:
    """Runs the steps of one request, and answers it.

    If one step is decoupled, each of its answers goes through the steps behind it, several of them side by side, and
    becomes an answer of the pipeline, in the same order. It is acknowledged to the step when the client has read that.
    So the client holds the model back as if there were no other steps.
    """

    __slots__ = ("_answers", "_before", "_ended", "_failure", "_first", "_handle", "_is_busy", "_is_over", "_live",
                 "_owner", "_passes", "_peak", "_unread", "plan", "queued")  # fmt: skip

    def __init__(self, owner: Owner, plan: Plan, queued: AdmittedRequest, before: "CompiledRun | None" = None) -> None:
        """`before` has begun the request. It reports the outcomes of steps that are under way to `on_step`."""
        self.plan, self.queued, self._owner, self._before = plan, queued, owner, before
        self._first = Pass(self)
        self._is_busy, self._ended = True, False  # busy: `start`, or a turn of `advance`, will look at what has changed
        # Bytes that the steps have made, without those of answers that the client has read; and the most of them.
        self._live = self._peak = 0
        # Of the decoupled step: its request, the answers that wait, passes under way in the order of their answers,
        # the bytes of those that the client has not read, whether there will be no more, and the error after the last.
        self._handle: RequestHandle | None = None
        self._answers: deque[Sequence[Tensor]] = deque()
        self._passes: deque[Pass] = deque()
        self._unread: deque[int] = deque()
        self._is_over = False
        self._failure: tuple[int, Exception] | None = None

    @property
    def request(self) -> InferRequest | None:
        return self.queued.request

    def start(self) -> None:
        request, status = self.request, self._owner.status
        assert request is not None
        soon = asyncio.get_running_loop().call_soon  # `put` returns before a request is settled
        if status.decoupled != (self.plan.decoupled is not None):
            # The status follows from the newest versions of the steps' models. Their weights may choose others.
            chosen, newest = ("not decoupled", "is") if status.decoupled else ("decoupled", "is not")
            reason = (
                f"model '{status.name}' cannot run: the version that weights choose for one of its steps is {chosen}, "
                f"and the newest {newest}; name the version in the step, or change the weights"
            )
            soon(self._end, Unavailable(reason))
            return
        self._first.begin(request.inputs)
        self._is_busy = False
        if self._first.is_done:
            soon(self.advance)

    def resume(self, progress: Progress) -> None:
        """Go on with a request of compiled code."""
        self.queued.compute_ns = progress.compute_ns
        self._live = self._peak = progress.made
        self._first.resume(progress)
        self._is_busy = False
        if self._first.is_done:
            asyncio.get_running_loop().call_soon(self.advance)

    def on_step(self, number: int, outcome: InferResponse | Exception) -> None:
        """A step that was under way before has ended."""
        self._first.on_answer(number, outcome)

    def submit(self, child: InferRequest, on_answer: AnswerCallback) -> None:
        """See gateway.engine.pipeline_pass.Host."""
        self._owner.models.submit_child(self.queued, child, on_answer)

    def submit_decoupled(self, child: InferRequest | None) -> None:
        """See gateway.engine.pipeline_pass.Host. If it is skipped, there is one answer, without what it would make."""
        if child is None:
            self._answers.append(())
            self._is_over = True
        else:
            self._handle = self._owner.models.submit_child(self.queued, child, self._on_answer, takes_many=True)

    def note_bytes(self, size: int) -> None:
        """See gateway.engine.pipeline_pass.Host."""
        self._live += size
        self._peak = max(self._peak, self._live)
        self._owner.note_bytes(self._peak, False)

    def _on_answer(self, outcome: InferResponse | Exception) -> None:
        """The decoupled step has answered."""
        if isinstance(outcome, Exception):
            assert self.plan.decoupled is not None
            self._failure = self.plan.decoupled, outcome
            self._is_over = True
        else:
            if outcome.outputs or not outcome.final:
                self._answers.append(outcome.outputs)
            self._is_over = outcome.final
        self.advance()

    def acknowledge(self) -> None:
        """The client has read one more answer."""
        if self._unread:
            self._live -= self._unread.popleft()
        if self._handle is not None:
            self._handle.acknowledge()
        self.advance()

    def forget(self) -> None:
        """Free what belongs to the request, which has ended. Passes refer back to this: a cycle would stay for long."""
        for each in (self._first, *self._passes):
            each.forget()
        del self._first
        self._passes.clear()
        self._answers.clear()
        self._failure = self._handle = None
        if self._before is not None:
            self._before.forget()
        if isinstance(self.queued, Represented):
            self.queued.leave()

    def advance(self) -> None:
        """Go on after a step has ended, or an answer has come or was read."""
        if self._is_busy or self._ended or self.request is None:
            return
        first = self._first
        if first.failure is not None:
            self._fail(*first.failure)
        elif not first.left:
            if self.plan.decoupled is None:
                self._finish(first)
            else:
                self._advance_answers(self.plan.decoupled)

    def _advance_answers(self, decoupled: int) -> None:
        self._is_busy = True  # whoever gets an answer may acknowledge it at once
        while not self._ended and self.request is not None:
            if self._answers and self._may_begin():
                later = Pass(self, self._first)
                self._passes.append(later)
                later.begin_with_answer(decoupled, self._answers.popleft())
            elif self._passes and self._passes[0].is_done:
                self._deliver(self._passes.popleft())
            elif not self._is_over or self._answers or self._passes:
                break
            elif self._failure is not None:
                self._fail(*self._failure)
            else:
                self._finish(None)
        self._is_busy = False

    def _may_begin(self) -> bool:
        """Return whether one more answer may go through the later steps."""
        if not self._passes and not self._unread:
            return True
        # The model is held back by what its own answers take; what becomes of them may be larger.
        has_room = self._live - self._first.made < MAX_UNREAD_BYTES
        return has_room and not (self._passes and self.plan.one_by_one)

    def _deliver(self, later: Pass) -> None:
        """Answer with what has become of an answer of the decoupled step."""
        if later.failure is not None:
            self._fail(*later.failure)
            return
        queued = self.queued
        try:
            outputs = self._outputs(later)
        except ModelportError as error:
            self._end(error)
            return
        self._unread.append(later.made)
        self._owner.note_bytes(self._peak, True)
        queued.answered = True
        queued.deliver(outputs, ResultGroup((0,), (0,), 0, 0, 0, queued.rows, _NO_OUTPUTS, False), 0)
        self._owner.start_waiting()  # now it is known what a request takes

    def _outputs(self, run: Pass) -> list[Tensor]:
        """Return the outputs that the client wants and that exist. Raises InvalidRequest, TooLarge."""
        request = self.request
        assert request is not None
        outputs = []
        for name in request.outputs or self.plan.outputs:
            tensor = run.output(name)
            if tensor is not None:
                outputs.append(tensor)
            elif request.outputs and self.plan.decoupled is None:
                raise InvalidRequest(f"there is no output '{name}', because the step that makes it was skipped")
        size, limit = sum(len(tensor.data) for tensor in outputs), self._owner.max_response_bytes
        if size > limit:  # each step has kept to the limit, but not all of them together
            raise TooLarge(f"the answer has {size} bytes and the limit is {limit}; ask for fewer outputs")
        return outputs

    def _finish(self, run: Pass | None) -> None:
        """Send the final answer, which has no outputs if there were others."""
        queued, owner = self.queued, self._owner
        owner.note_bytes(self._peak, True)
        try:
            outputs = [] if run is None else self._outputs(run)
        except ModelportError as error:
            self._end(error)
            return
        self._ended = True
        results = result_of(queued.rows, queued.compute_ns)
        owner.release(queued)
        queued.deliver(outputs, results, 0)
        owner.metrics.count_results(results, 1, queued.rows)

    def _fail(self, number: int, error: Exception) -> None:
        # The error of a child's parent names what the client has asked for.
        pipeline = f"pipeline '{self._owner.status.name}', " if self.queued.parent is None else ""
        self._end(step_error(pipeline, self.plan, number, error))

    def _end(self, error: ModelportError) -> None:
        self._ended = True
        self.queued.fail(error)


def result_of(rows: int, compute_ns: tuple[int, int, int]) -> ResultGroup:
    """Return the results of a pipeline without its outputs. As in Triton, its times are the sums of its steps'."""
    return ResultGroup((0,), (0,), *compute_ns, rows, _NO_OUTPUTS, True, True)


def step_error(pipeline: str, plan: Plan, number: int, error: Exception) -> ModelportError:
    """Return the error of a request of which a step has failed.

    pipeline  what comes before the step's name
    """
    where = f"{pipeline}step {number + 1} (model {plan.steps[number]})"
    if not isinstance(error, ModelportError):
        log.exception("a step failed: %s", where, exc_info=error)
        error = Internal("the gateway failed; its log says why")
    elif isinstance(error, NotFound):  # the client asked for the pipeline, which exists
        error = Unavailable(str(error))
    return prefixed(error, where)
