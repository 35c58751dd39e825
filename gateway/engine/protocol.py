"""What a front sees of the engine: the real one (engine.py) and the fake one (fake.py) both fit."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from gateway.engine.types import InferRequest, InferResponse, ModelStatus


class Gone(Exception):
    """The client closed its connection: nobody waits for an answer."""


class Reading(Protocol):
    """What happens before there is an InferRequest, from the first byte of the body on.

    An exception that leaves it is counted as that model's: refused, failed, or (Gone) given up.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def reserve(self, size: int) -> None:
        """Count so many bytes of the body as under way, until the reading ends.

        Raises Overloaded where there is no room beside what others have under way.
        """


class Engine(Protocol):
    @property
    def ready(self) -> bool:
        """Whether this server wants traffic."""

    def models(self) -> Sequence[ModelStatus]:
        """Every version of every model that the repository holds."""

    def model(self, name: str, version: str = "") -> ModelStatus:
        """One version; "" is the newest ready one. Raises NotFound."""

    def reading(self, model: str, version: str) -> Reading:
        """To wrap the reading of a request; `infer` admits it, and follows at once."""

    async def infer(self, request: InferRequest) -> InferResponse:
        """Raises ModelportError. Cancelling it means that the client has gone."""

    async def control(self, verb: str, **arguments: Any) -> Any:
        """Ask the supervisor: "index", "load" {name}, "unload" {name}, "metrics". Raises ModelportError."""
