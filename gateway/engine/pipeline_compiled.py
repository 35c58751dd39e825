"""What Python and the compiled code that runs the steps of plain pipelines need of each other.

front/compiled/steps.pxi runs the steps of a request as long as nothing about them is unusual. Otherwise a Run goes on
from there.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from gateway.domain.types import InferRequest, InferResponse
from gateway.engine.admitted import AdmittedRequest
from gateway.engine.pipeline_plan import Plan
from gateway.engine.servable import QueuedRequest, Servable, as_request
from gateway.errors import ModelportError
from runtimes.result_frames import ResultGroup
from runtimes.tensor_bytes import Tensor

if TYPE_CHECKING:
    from gateway.engine.pipeline import Pipeline


class CompiledRun(Protocol):
    """The steps of one request, in compiled code."""

    @property
    def queued(self) -> QueuedRequest: ...

    def start(self) -> None: ...

    def acknowledge(self) -> None:
        """Nothing: such a pipeline gives one answer."""

    def forget(self) -> None:
        """Cancel what is under way: the request has ended."""


# Returns None if a request needs a Run.
BeginSteps = Callable[["Pipeline", Plan, QueuedRequest], CompiledRun | None]


def begin_nothing(pipeline: "Pipeline", plan: Plan, queued: QueuedRequest) -> None:
    """Without compiled code, each request needs a Run."""


class Progress(NamedTuple):
    """How far the steps of a request have got.

    tensors     those that exist, by the pipeline's names; None for those that no step needs any more
    ended       the numbers of the steps that have
    under_way   the numbers of those whose requests have been sent. Whoever has sent them reports their outcomes
    made        bytes
    compute_ns  as in AdmittedRequest
    """

    tensors: Mapping[str, Tensor | None]
    ended: Collection[int]
    under_way: Collection[int]
    made: int
    compute_ns: tuple[int, int, int]


@dataclass(slots=True, eq=False)
class Represented(AdmittedRequest):
    """Stands for a request of the compiled path, which has admitted it and settles it."""

    original: QueuedRequest = field(kw_only=True)

    @classmethod
    def of(cls, queued: QueuedRequest, servable: Servable) -> "Represented":
        request = asked(servable.status.name, queued)
        found = cls(
            queued.id, request, queued.layout, queued.rows, queued.size, queued.deadline, queued.queued_at,
            queued.priority, queued.identity, _NOWHERE, servable, _ignore, None, original=queued,
        )  # fmt: skip
        found.sent_at = queued.sent_at
        if request.record is not None:
            request.record.has_steps = True
        return found

    def deliver(self, outputs: Sequence[Tensor], results: ResultGroup, index: int) -> None:
        answer_compiled(self.original, outputs, results)

    def fail(self, error: ModelportError) -> None:
        if self.request is not None:
            self.original.fail(error)

    def leave(self) -> None:
        """The original has been settled, or is about to be. It may stand for another request afterwards."""
        self.request = None
        self.cancel_children()


def asked(model: str, queued: QueuedRequest) -> InferRequest:
    """Return what a request that is not settled asks this model for."""
    if isinstance(queued, AdmittedRequest):
        assert queued.request is not None
        return queued.request
    own = queued.own  # type: ignore[attr-defined] # of the compiled class
    return as_request(model, queued)._replace(id=own[0], priority=own[1], record=own[2])


def answer_compiled(queued: QueuedRequest, outputs: Sequence[Tensor], results: ResultGroup) -> None:
    """Answer a request of the compiled path, as `deliver` does for others."""
    queued.answer(results._replace(outputs=list(outputs)), 0)  # type: ignore[arg-type]


class _Nowhere:
    def settle(self, admitted: AdmittedRequest) -> float:
        raise NotImplementedError("the compiled path settles its requests")


_NOWHERE = _Nowhere()


def _ignore(outcome: InferResponse | Exception) -> None:
    pass
