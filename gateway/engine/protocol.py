"""What a front sees of the engine: the real one (engine.py) and the fake one (fake.py) both fit."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from gateway.engine.types import InferRequest, InferResponse, ModelStatus


class Engine(Protocol):
    @property
    def ready(self) -> bool:
        """Whether this server wants traffic."""

    def models(self) -> Sequence[ModelStatus]:
        """Every version of every model that the repository holds."""

    def model(self, name: str, version: str = "") -> ModelStatus:
        """One version; "" is the newest ready one. Raises NotFound."""

    def reading(self, model: str, version: str) -> AbstractContextManager[None]:
        """Wraps what happens before there is an InferRequest, so that a refused body counts like a refused request."""

    async def infer(self, request: InferRequest) -> InferResponse:
        """Raises ModelportError. Cancelling it means that the client has gone."""

    async def control(self, verb: str, **arguments: Any) -> Any:
        """Ask the supervisor: "index", "load" {name}, "unload" {name}, "metrics". Raises ModelportError."""
