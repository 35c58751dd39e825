"""One request to a pipeline, from its start until it is settled."""

import asyncio
from collections import deque
from typing import Protocol

from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.engine.admitted import AdmittedRequest
from gateway.engine.metrics import ModelMetrics
from gateway.engine.pipeline_compiled import CompiledRun, Progress, Represented
from gateway.engine.pipeline_outcome import NO_OUTPUTS, result_of, step_error
from gateway.engine.pipeline_pass import Pass
from gateway.engine.pipeline_plan import Plan
from gateway.engine.pipeline_stream import Stream
from gateway.engine.protocol import AnswerCallback, RequestHandle
from gateway.engine.servable import QueuedRequest
from gateway.errors import InvalidRequest, ModelportError, TooLarge, Unavailable
from runtimes.result_frames import ResultGroup
from runtimes.tensor_bytes import Tensor
from runtimes.wire import MAX_UNREAD_ANSWERS, MAX_UNREAD_BYTES


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

    If one of the steps behind it is decoupled too, each answer becomes any number of answers. These go through one
    after the other, so that the order is the same, and the client holds back all models.
    """

    __slots__ = ("_before", "_ended", "_first", "_is_busy", "_live", "_owner", "_peak", "_stream", "_unread", "plan",
                 "queued")  # fmt: skip

    def __init__(self, owner: Owner, plan: Plan, queued: AdmittedRequest, before: "CompiledRun | None" = None) -> None:
        """`before` has begun the request. It reports the outcomes of steps that are under way to `on_step`."""
        self.plan, self.queued, self._owner, self._before = plan, queued, owner, before
        self._is_busy, self._ended = True, False  # busy: `start`, or a turn of `advance`, will look at what has changed
        # Bytes that the steps have made, without those of answers that the client has read; and the most of them.
        self._live = self._peak = 0
        # Of answers that the client has not read: their bytes, and the stream that they come from.
        self._unread: deque[tuple[int, Stream]] = deque()
        self._first, self._stream = self._new_pass(None)

    def _new_pass(self, above: Stream | None) -> tuple[Pass, Stream | None]:
        """Return a pass that goes on from the one before `above`, and the stream that it begins, if it begins one."""
        later = Pass(self, None if above is None else above.before)
        if later.part == len(self.plan.decoupled):
            return later, None
        stream = Stream(self, later, above, self.plan.decoupled[later.part])
        later.start = stream.start
        return later, stream

    @property
    def request(self) -> InferRequest | None:
        return self.queued.request

    def start(self) -> None:
        request, status = self.request, self._owner.status
        assert request is not None
        soon = asyncio.get_running_loop().call_soon  # `put` returns before a request is settled
        decoupled = self.plan.decoupled
        if status.decoupled != bool(decoupled) or not self.plan.is_in_a_row:
            # The status follows from the newest versions of the steps' models. Their weights may choose others.
            chosen, newest = ("not decoupled", "is") if not decoupled else ("decoupled", "is not")
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

    def submit(self, child: InferRequest, on_answer: AnswerCallback, takes_many: bool = False) -> RequestHandle:
        """See the hosts of Pass and Stream."""
        return self._owner.models.submit_child(self.queued, child, on_answer, takes_many)

    def note_bytes(self, size: int) -> None:
        """See gateway.engine.pipeline_pass.Host."""
        self._live += size
        self._peak = max(self._peak, self._live)
        self._owner.note_bytes(self._peak, False)

    def free(self, size: int) -> None:
        """See gateway.engine.pipeline_stream.Host."""
        self._live -= size

    def acknowledge(self) -> None:
        """The client has read one more answer."""
        if self._unread:
            size, stream = self._unread.popleft()
            self._live -= size
            stream.acknowledge()
        self.advance()

    def forget(self) -> None:
        """Free what belongs to the request, which has ended. Passes refer back to this: a cycle would stay for long."""
        self._first.forget()
        if self._stream is not None:
            self._stream.forget()
        self._unread.clear()
        del self._first, self._stream
        if self._before is not None:
            self._before.forget()
        if isinstance(self.queued, Represented):
            self.queued.leave()

    def advance(self) -> None:
        """Go on after a step has ended, or an answer has come or was read."""
        if self._is_busy or self._ended or self.request is None:
            return
        first, stream = self._first, self._stream
        if first.failure is not None:
            self._fail(*first.failure)
        elif not first.left:
            if stream is None:
                self._finish(first)
            else:
                self._advance_answers(stream)

    def _advance_answers(self, stream: Stream) -> None:
        self._is_busy = True  # whoever gets an answer may acknowledge it at once
        while self._turn(stream) and not self._ended and self.request is not None:
            pass
        if not self._ended and self.request is not None and stream.is_done:
            if stream.failure is not None:
                self._fail(*stream.failure)
            else:
                self._finish(None)
        self._is_busy = False

    def _turn(self, stream: Stream) -> bool:
        """Begin a pass with an answer, or end the first one; return whether there was one to begin or to end."""
        if stream.answers and self._may_begin(stream):
            later, next_stream = self._new_pass(stream)
            stream.passes.append((later, next_stream))
            stream.unread += 1
            later.begin_with_answer(stream.number, stream.answers.popleft())
            return True
        if not stream.passes:
            return False
        later, next_stream = stream.passes[0]
        if later.failure is not None:
            self._fail(*later.failure)
            return True
        if later.left:
            return False
        if next_stream is None:
            stream.passes.popleft()
            self._deliver(later, stream)
            return True
        if self._turn(next_stream):
            return True
        if not next_stream.is_done:
            return False
        if next_stream.failure is not None:
            self._fail(*next_stream.failure)
            return True
        stream.passes.popleft()
        later.forget()
        next_stream.complete()
        return True

    def _may_begin(self, stream: Stream) -> bool:
        """Return whether one more answer may go through the later steps."""
        if not stream.passes and not self._unread:
            return True
        is_last = stream.before.part + 1 == len(self.plan.decoupled)
        if stream.passes and (self.plan.one_by_one or not is_last):
            return False
        # The models are held back by what their own answers take; what becomes of them may be larger, or more.
        has_room = is_last or len(self._unread) < MAX_UNREAD_ANSWERS
        return has_room and self._live - stream.made_before < MAX_UNREAD_BYTES

    def _deliver(self, later: Pass, stream: Stream) -> None:
        """Answer with what has become of an answer of the last decoupled step."""
        if later.failure is not None:
            self._fail(*later.failure)
            return
        queued = self.queued
        try:
            outputs = self._outputs(later)
        except ModelportError as error:
            self._end(error)
            return
        self._unread.append((later.made, stream))
        self._owner.note_bytes(self._peak, True)
        queued.answered = True
        queued.deliver(outputs, ResultGroup((0,), (0,), 0, 0, 0, queued.rows, NO_OUTPUTS, False), 0)
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
            elif request.outputs and not self.plan.decoupled:
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
