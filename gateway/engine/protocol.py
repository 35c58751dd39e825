"""What a front sees of the engine: the real one (engine.py) and the fake one (fake.py) both fit."""

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from gateway.domain.control import AnswerT, ControlRequest
from gateway.domain.shared_memory import SharedMemory
from gateway.domain.types import InferRequest, InferResponse, ModelStatus

Done = Callable[[InferResponse | Exception], None]


class Gone(Exception):
    """The client closed its connection: nobody waits for an answer."""


class Reading(Protocol):
    """What happens before there is an InferRequest, from the first byte of the body on."""

    def reserve(self, size: int) -> None:
        """Count so many bytes of the body as under way, until the reading ends.

        Raises Overloaded where there is no room beside what others have under way.
        """

    def close(self, error: BaseException | None = None) -> None:
        """It has ended, once. An error is counted as that model's: refused, failed, or (Gone) given up."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """close, with what left it."""


class Ticket(Protocol):
    """One admitted request."""

    def cancel(self) -> None:
        """Nobody waits for the answer any more: `done` is not called. Nothing happens when it was called already."""


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

    def reading(self, model: str, version: str) -> Reading:
        """To wrap the reading of a request; `submit` or `infer` admits it, and follows at once."""

    def buffer(self, size: int) -> memoryview:
        """Where a body of this size is received: if it is large, where workers can read it as it lies."""

    def submit(self, request: InferRequest, done: Done) -> Ticket:
        """Admit it, and call `done` later with the answer or the error. Raises ModelportError if it is refused."""

    async def infer(self, request: InferRequest) -> InferResponse:
        """submit, for whoever can wait. Raises ModelportError. Cancelling it means that the client has gone."""

    async def control(self, request: ControlRequest[AnswerT]) -> AnswerT:
        """Ask the supervisor; gateway/domain/control.py has what can be asked. Raises ModelportError."""
