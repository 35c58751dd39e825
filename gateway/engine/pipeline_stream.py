"""The answers of a decoupled step, and what becomes of each in the steps behind it."""

from collections import deque
from collections.abc import Sequence
from typing import Protocol, Self

from gateway.domain.types import InferRequest, InferResponse
from gateway.engine.pipeline_pass import Pass
from gateway.engine.protocol import AnswerCallback, RequestHandle
from runtimes.tensor_bytes import Tensor


class Host(Protocol):
    """The request to the pipeline, as its streams see it."""

    def submit(self, child: InferRequest, on_answer: AnswerCallback, takes_many: bool = False) -> RequestHandle:
        """Send a request to the model of a step."""

    def advance(self) -> None:
        """An answer has come."""

    def free(self, size: int) -> None:
        """So many bytes that steps have made are not needed any more."""


class Stream:
    """One request to a decoupled step.

    before    the pass that it belongs to, whose tensors each of the later passes starts with
    above     the stream of whose answers that pass goes on from one; None for the first decoupled step
    number    of the step
    answers   those that wait
    passes    under way, in the order of their answers
    unread    passes begun, without those of which the client has read everything
    is_over   whether there will be no more answers
    failure   the error that comes after the last of them
    """

    __slots__ = ("_handle", "_host", "_is_complete", "above", "answers", "before", "failure", "is_over", "number",
                 "passes", "unread")  # fmt: skip

    def __init__(self, host: Host, before: Pass, above: Self | None, number: int) -> None:
        self._host, self.before, self.above, self.number = host, before, above, number
        self._handle: RequestHandle | None = None
        self.answers: deque[Sequence[Tensor]] = deque()
        self.passes: deque[tuple[Pass, Stream | None]] = deque()
        self.unread = 0
        self.is_over = self._is_complete = False
        self.failure: tuple[int, Exception] | None = None

    @property
    def is_done(self) -> bool:
        """Whether all answers have gone through the steps behind."""
        return self.is_over and not self.answers and not self.passes

    @property
    def made_before(self) -> int:
        """The bytes of the tensors that its answers are added to."""
        return self.before.made + (self.above.made_before if self.above is not None else 0)

    def start(self, child: InferRequest | None) -> None:
        """Send the request. If the step is skipped, there is one answer, without what it would make."""
        if child is None:
            self.answers.append(())
            self.is_over = True
        else:
            self._handle = self._host.submit(child, self._on_answer, takes_many=True)

    def _on_answer(self, outcome: InferResponse | Exception) -> None:
        if isinstance(outcome, Exception):
            self.failure = self.number, outcome
            self.is_over = True
        else:
            if outcome.outputs or not outcome.final:
                self.answers.append(outcome.outputs)
            self.is_over = outcome.final
        self._host.advance()

    def acknowledge(self) -> None:
        """The client has read all that has become of one more answer, so that the model may send another."""
        self.unread -= 1
        if self._handle is not None:
            self._handle.acknowledge()
        self._pass_on()

    def complete(self) -> None:
        """All answers were delivered. The answer above this stream has been read when they have been."""
        self._is_complete = True
        self._pass_on()

    def _pass_on(self) -> None:
        if self._is_complete and not self.unread and self.above is not None:
            self._host.free(self.before.made)
            self.above.acknowledge()

    def forget(self) -> None:
        """Free what belongs to a request that has ended. Passes and streams refer to each other."""
        for later, stream in self.passes:
            later.forget()
            if stream is not None:
                stream.forget()
        self.passes.clear()
        self.answers.clear()
        self.failure = self._handle = None
