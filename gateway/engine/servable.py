"""The interface between the engine and whatever answers the requests for one version of a model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from gateway.domain.identity import Identity
from gateway.domain.types import InferRequest, ModelStatus
from gateway.engine.metrics import ModelMetrics
from gateway.engine.validate import LayoutValidator
from gateway.errors import ModelportError
from runtimes.layouts import TensorLayout
from runtimes.result_frames import ResultGroup
from runtimes.tensor_bytes import Buffer, Tensor

if TYPE_CHECKING:
    from gateway.engine.client import WorkerClient


@dataclass(slots=True, eq=False)
class QueuedRequest:
    """One admitted request until it is settled. Times are time.monotonic() seconds.

    size      bytes of input, and of the id
    request   None once the request is settled, so that its bytes are freed even if the rest is still referenced
    layout    everything about the request but its bytes; it leaves the rows open if they are counted
    priority  the level, of which lower ones run first, and the client's flow, if known (runtimes/fair_order.py)
    identity  who sent it; None if that is not known, which is so unless identities are configured
    crashes   worker crashes that this request may have caused
    context   what its worker learns of it besides its tensors, packed as in runtimes/context.py
    answered  whether an answer was delivered that is not the final one; the request cannot be run again then
    asked_version  as whoever sent it named it; "" for any
    """

    id: int
    request: InferRequest | None
    layout: TensorLayout
    rows: int
    size: int
    deadline: float
    queued_at: float
    priority: int
    identity: Identity | None
    sent_at: float = field(default=0.0, init=False)
    crashes: int = field(default=0, init=False)
    worker: "WorkerClient | None" = field(default=None, init=False)
    answered: bool = field(default=False, init=False)
    context: bytes = field(default=b"", init=False)
    asked_version: str = field(default="", init=False)

    @property
    def settled(self) -> bool:
        """Whether it was answered, has failed or was cancelled."""
        return self.request is None

    @property
    def buffers(self) -> Sequence[Buffer]:
        """The bytes of each input, in the order of the layout. Only for a request that is not settled."""
        assert self.request is not None
        return [tensor.data for tensor in self.request.inputs]

    def answer(self, results: ResultGroup, index: int) -> None:
        """Deliver the answer at `index` of a worker's results. If they are final, the request is settled.

        Does nothing if the request is settled already. The servable, which calls this, has forgotten the request if the
        results are final, and counts it: see ModelMetrics.count_results.
        """
        raise NotImplementedError

    def deliver(self, outputs: Sequence[Tensor], results: ResultGroup, index: int) -> None:
        """Do what `answer` does, with other tensors than those of the results."""
        raise NotImplementedError

    def fail(self, error: ModelportError) -> None:
        """Settle the request with an error, and release it. Does nothing if it is settled."""
        raise NotImplementedError

    def move(self, servable: "Servable") -> bool:
        """Make it a request for another version, which has the same name and is as plain as its own.

        Its own servable has forgotten it already. Return whether it fits the other one, which then has to `adopt` it;
        otherwise, nothing has changed.
        """
        return False


def as_request(model: str, queued: QueuedRequest) -> InferRequest:
    """Return a request that is not settled as one that can be validated again."""
    signature, outputs, tensors = queued.layout
    inputs = [
        Tensor(name, datatype, tuple([queued.rows if size == -1 else size for size in shape]), data)
        for (name, datatype, shape, _), data in zip(tensors, queued.buffers, strict=True)
    ]
    return InferRequest(model, inputs, outputs=outputs, signature=signature)


class Servable(Protocol):
    """Accepts the requests for one version of a model, and settles each of them.

    ModelQueue sends them to workers, SequenceQueues do so by their sequence, and a Pipeline makes other requests of
    them. All methods run on the engine's event loop.
    """

    @property
    def status(self) -> ModelStatus:
        """The version's status, as the supervisor last reported it."""

    @property
    def metrics(self) -> ModelMetrics:
        """The metrics that count its requests."""

    @property
    def validator(self) -> LayoutValidator:
        """Checks whether a request fits the model."""

    @property
    def target_s(self) -> float:
        """The latency target in seconds; 0 if the model has none."""

    @property
    def queued(self) -> int:
        """The number of requests that wait here."""

    @property
    def under_way(self) -> int:
        """The number of requests that are not settled, including those that wait."""

    def would_be_late(self, rows: int, now: float, deadline: float) -> bool:
        """Return whether a request of this many rows would certainly be answered after the deadline."""

    def put(self, queued: QueuedRequest) -> None:
        """Accept an admitted request. It gets any number of answers, of which the last is final, or an error."""

    def acknowledge(self, queued: QueuedRequest) -> None:
        """The client of a request has read one more answer that was not the final one."""

    def release(self, queued: QueuedRequest) -> None:
        """Forget a request that was settled without an answer, and cancel it if it is still running."""

    def fail_all(self, error: ModelportError) -> None:
        """Settle all requests in progress with this error."""
