"""What the engine needs of whatever answers for one version of a model."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from gateway.domain.types import InferRequest, ModelStatus
from gateway.engine.metrics import ModelMetrics
from gateway.engine.validate import FormChecks
from gateway.errors import ModelportError
from runtimes.wire import Form, ResultFrame

if TYPE_CHECKING:
    from gateway.engine.client import WorkerClient


class Answer(NamedTuple):
    """What came back from the worker. queued_s: how long the request waited in this front first."""

    frame: ResultFrame
    queued_s: float


@dataclass(slots=True, eq=False)
class Waiting:
    """One admitted request until it is settled. Times are time.monotonic() seconds.

    order     level of priority, then number
    request   None once it is answered or given up: its bytes are free then, wherever the rest is still noted
    form      what the request is but for its bytes
    answered  whether an answer that is not the final one has been handed on: it cannot be run again
    """

    id: int
    request: InferRequest | None
    form: Form
    rows: int
    deadline: float
    queued_at: float
    order: tuple[int, int]
    sent_at: float = field(default=0.0, init=False)
    deaths: int = field(default=0, init=False)
    worker: "WorkerClient | None" = field(default=None, init=False)
    answered: bool = field(default=False, init=False)

    def add_answer(self, answer: Answer) -> None:
        """An answer that is not the final one: the request stays under way. Nothing happens once it has ended."""
        raise NotImplementedError

    def settle(self, outcome: Answer | ModelportError) -> None:
        """It has ended, with its final answer or an error. Nothing happens when it had ended before."""
        raise NotImplementedError


class Servable(Protocol):
    """Takes the requests for one version of a model, and sees to it that each of them is settled.

    Today there is one kind: ModelQueue, which sends them to workers. All of it runs on the engine's event loop.
    """

    @property
    def status(self) -> ModelStatus:
        """What the supervisor says of the version."""

    @property
    def metrics(self) -> ModelMetrics:
        """Where its requests are counted."""

    @property
    def forms(self) -> FormChecks:
        """Whether a request fits."""

    @property
    def target_s(self) -> float:
        """How long a request may take, in seconds; 0 for any time."""

    @property
    def queued(self) -> int:
        """How many requests wait here."""

    @property
    def under_way(self) -> int:
        """How many requests are not settled, those that wait included."""

    def would_be_late(self, rows: int, now: float, deadline: float) -> bool:
        """Whether so many rows would surely be answered after the deadline."""

    def put(self, waiting: Waiting) -> None:
        """Take an admitted request: any number of `add_answer`, then one `settle`."""

    def release(self, waiting: Waiting) -> None:
        """It was settled, by whomever: forget it, and stop working on it."""

    def fail_all(self, error: ModelportError) -> None:
        """Settle all that is under way with this error."""
