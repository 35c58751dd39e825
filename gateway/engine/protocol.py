"""What a front sees of the engine: the real one (engine.py) and the fake one (fake.py) both fit."""

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from gateway.domain.control import AnswerT, ControlRequest
from gateway.domain.shared_memory import SharedMemory
from gateway.domain.types import InferRequest, InferResponse, ModelStatus

# Called once per answer. The last call has the final answer or an error, and none follows it.
Done = Callable[[InferResponse | Exception], None]


class ClientDisconnected(Exception):
    """The client closed its connection, so no one is waiting for an answer."""


class BodyReservation(Protocol):
    """Memory reserved for one body, from its first byte until the engine admits or rejects its request."""

    def reserve(self, size: int) -> None:
        """Reserve `size` more bytes until `close`.

        Raises Overloaded if they would exceed the limit that all requests and bodies share.
        """

    def close(self, error: BaseException | None = None) -> None:
        """Release the bytes. Called once.

        An error is recorded in the model's metrics: as rejected, as failed or, for ClientDisconnected, as cancelled.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Call `close` with the exception that left the block, if any."""


class Ticket(Protocol):
    """One admitted request."""

    def cancel(self) -> None:
        """Nobody waits for an answer any more: `done` is not called again. Nothing happens after its last call."""


class Engine(Protocol):
    @property
    def ready(self) -> bool:
        """Whether this server wants traffic."""

    @property
    def drained(self) -> asyncio.Event:
        """Set when the server stops and nothing is under way any more: calls that wait for requests shall end."""

    @property
    def server_name(self) -> str:
        """What server metadata calls this server."""
        ...

    @property
    def shared_memory(self) -> SharedMemory:
        """What clients have registered."""

    def models(self) -> Sequence[ModelStatus]:
        """Every version of every model that the repository holds."""

    def model(self, name: str, version: str = "") -> ModelStatus:
        """One version, by number or label; "" is the newest ready one. Raises NotFound."""

    def reserve_body(self, model: str, version: str) -> BodyReservation:
        """A reservation to hold while a request is read. Close it right before `submit` or `infer` is called."""

    def buffer(self, size: int) -> memoryview:
        """Where a body of this size is received: if it is large, where workers can read it as it lies."""

    def submit(self, request: InferRequest, done: Done) -> Ticket:
        """Admit it, and call `done` later: once per answer, with the final one or an error last.

        Raises ModelportError if it is refused; `done` is not called then.
        """

    async def infer(self, request: InferRequest) -> InferResponse:
        """submit, for whoever can wait. Raises ModelportError. Cancelling it means that the client has gone.

        Returns the final answer. Of a request with several answers, the ones before it are dropped: who wants
        them calls `submit`.
        """

    async def control(self, request: ControlRequest[AnswerT]) -> AnswerT:
        """Ask the supervisor; gateway/domain/control.py has what can be asked. Raises ModelportError."""
