"""A gRPC method that infers, whatever its messages are."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, TypeVar

from gateway.domain.types import InferRequest, InferResponse
from gateway.engine.protocol import Engine, Ticket
from gateway.front.limits import Limits

# From a message to its answer; the number is the seconds that the call's own deadline leaves, if it has one.
Method = Callable[[bytes, float | None], Awaitable[bytes]]
Done = Callable[[bytes | Exception], None]

_Wanted = TypeVar("_Wanted")


class InferCall(ABC, Generic[_Wanted]):
    """Called all the time: so it is there as a coroutine, and by plain calls, which cost half of one."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._engine, self._limits = engine, limits

    @abstractmethod
    def _read(self, raw: bytes, seconds: float | None) -> tuple[InferRequest, _Wanted]:
        """The request, and how its answer is to be written. Raises ModelportError."""

    @abstractmethod
    def _write(self, wanted: _Wanted, response: InferResponse) -> bytes:
        """Raises ModelportError."""

    @property
    def drained(self) -> asyncio.Event:
        return self._engine.drained

    async def __call__(self, raw: bytes, seconds: float | None) -> bytes:
        request, wanted = self._read(raw, seconds)
        return self._write(wanted, await self._engine.infer(request))

    def submit(self, raw: bytes, seconds: float | None, done: Done) -> Ticket:
        """As the engine's: `done` is called later, or ModelportError raised."""
        request, wanted = self._read(raw, seconds)
        return self._engine.submit(request, partial(self._on_done, wanted, done))

    def _on_done(self, wanted: _Wanted, done: Done, outcome: InferResponse | Exception) -> None:
        told: bytes | Exception
        try:
            told = outcome if isinstance(outcome, Exception) else self._write(wanted, outcome)
        except Exception as error:
            told = error
        done(told)
