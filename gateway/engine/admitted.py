"""An admitted request: what the engine returns to whoever submits one, and gives to servables."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from gateway.domain.pipeline import MAX_DEPTH
from gateway.domain.request_record import CANCELLED, RequestRecord
from gateway.domain.types import InferResponse
from gateway.engine.protocol import AnswerCallback
from gateway.engine.servable import QueuedRequest, Servable
from gateway.engine.wrapper import ServableWrapper
from gateway.errors import Internal, ModelportError
from runtimes.layouts import GroupedTensors
from runtimes.result_frames import ResultGroup
from runtimes.tensor_bytes import Tensor

log = logging.getLogger(__name__)


# A hostile worker may report any duration. Sums beyond 64 bits would be no numbers for the histograms.
_MAX_NS = 1 << 62


class Settles(Protocol):
    """The engine, as its requests see it."""

    def settle(self, admitted: "AdmittedRequest") -> float:
        """See AdmittedRequests.settle."""


@dataclass(slots=True, eq=False)
class AdmittedRequest(QueuedRequest):
    """The engine's gateway.engine.protocol.RequestHandle.

    timeout_s   the default timeout, in seconds; None if the request set its own deadline
    parent      the request for which this one is made: that of a pipeline, or of a model that calls others. None if a
                client has sent it
    chain       the names of the models above it, the client's first
    children    the requests in progress that are made for this one, by id
    compute_ns  input, infer and output of the children that were answered, in nanoseconds
    """

    engine: Settles
    servable: Servable
    on_answer: AnswerCallback
    timeout_s: float | None
    parent: Self | None = None
    chain: tuple[str, ...] = ()
    children: dict[int, Self] | None = field(default=None, init=False)
    compute_ns: tuple[int, int, int] = field(default=(0, 0, 0), init=False)

    def answer(self, results: ResultGroup, index: int) -> None:
        self.deliver(GroupedTensors(results.outputs, index), results, index)

    def deliver(self, outputs: Sequence[Tensor], results: ResultGroup, index: int) -> None:
        request, on_answer = self.request, self.on_answer
        if request is None:
            return
        servable = self.servable
        if results.final:
            if request.record is not None:
                self._settle_record(request.record)
                request.record.compute(results, index)
            if self.parent is not None:
                self.parent.count_compute(results)
            seconds = self.engine.settle(self)
            queued_s = self.sent_at - self.queued_at + results.queue_ns[index] / 1e9
            servable.metrics.finished.append(seconds)
            servable.metrics.waited.append(queued_s)
        status = servable.status
        _deliver(on_answer, InferResponse(status.name, status.version, outputs, request.id, results.final))

    def fail(self, error: ModelportError) -> None:
        on_answer = self.on_answer
        if self.request is not None:
            self._end(error.kind)
            _deliver(on_answer, error)

    def move(self, servable: Servable) -> bool:
        request = self.request
        if request is None:
            return False
        try:
            valid = servable.validator.check(request)
        except ModelportError:
            return False
        if isinstance(self.servable, ServableWrapper):
            self.servable.leave(self)
        self.servable, self.rows, self.layout = servable, valid.rows, valid.layout
        return True

    def cancel(self) -> None:
        if self.request is not None:
            self._end(CANCELLED)

    def acknowledge(self) -> None:
        if self.request is not None:
            self.servable.acknowledge(self)

    def count_compute(self, results: ResultGroup) -> None:
        """Add what the batch of a child has taken."""
        taken = results.compute_input_ns, results.compute_infer_ns, results.compute_output_ns
        gather, infer, split = (min(old + new, _MAX_NS) for old, new in zip(self.compute_ns, taken, strict=True))
        self.compute_ns = gather, infer, split

    def chain_to(self, model: str) -> tuple[str, ...]:
        """Return the chain of a child that this model is to answer. Raises Internal if it may not."""
        chain = (*self.chain, self.servable.status.name)
        if model in chain:
            path = " → ".join([*chain[chain.index(model) :], model])
            raise Internal(f"model '{model}' would call itself ({path}); a model must not wait for its own answers")
        if len(chain) >= MAX_DEPTH:
            raise Internal(f"model '{chain[0]}' calls others more than {MAX_DEPTH} levels deep; call fewer")
        return chain

    def cancel_children(self) -> None:
        children, self.children = self.children, None
        for child in list(children.values()) if children else ():
            child.cancel()

    def _settle_record(self, record: RequestRecord) -> None:
        status = self.servable.status
        record.settle(status.version, self.queued_at, self.sent_at)
        record.has_steps = bool(status.steps)

    def _end(self, outcome: str) -> None:
        servable = self.servable
        if self.request is not None and self.request.record is not None:
            self._settle_record(self.request.record)
            if self.parent is not None:  # the others' outcome is recorded by their transport
                self.request.record.outcome = outcome
        seconds = self.engine.settle(self)
        servable.release(self)
        servable.metrics.count(outcome, seconds)


def _deliver(on_answer: AnswerCallback, outcome: InferResponse | Exception) -> None:
    try:
        on_answer(outcome)
    except Exception:  # a bug in one callback must not keep other requests from getting their answers
        log.exception("an answer could not be delivered")
