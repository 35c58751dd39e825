"""An engine without workers: for tests of the fronts, and for whoever writes a codec."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from gateway.engine.types import InferRequest, InferResponse, ModelStatus
from gateway.engine.validate import validate
from gateway.errors import NotFound, Unavailable
from runtimes.wire import Tensor

Compute = Callable[[InferRequest], Sequence[Tensor]]


class FakeEngine:
    """Answers `infer` with what `compute` makes of the request, after the checks of the real engine.

    `requests` remembers what arrived; while `gate` is cleared, requests wait as if in a queue.
    """

    def __init__(self, models: Iterable[ModelStatus], compute: Compute) -> None:
        self._models = list(models)
        self._compute = compute
        self.requests: list[InferRequest] = []
        self.cancelled = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.ready = True

    def models(self) -> Sequence[ModelStatus]:
        return self._models

    def model(self, name: str, version: str = "") -> ModelStatus:
        found = [m for m in self._models if m.name == name and version in ("", m.version)]
        if not found:
            raise NotFound(f"there is no model '{name}'" + (f" with version {version}" if version else ""))
        return found[-1]

    def reading(self, model: str, version: str) -> AbstractContextManager[None]:
        return nullcontext()

    async def infer(self, request: InferRequest) -> InferResponse:
        status = self.model(request.model, request.version)
        if status.state != "READY":
            raise Unavailable(f"model '{status.name}' is {status.state}: {status.reason}")
        validate(request, status)
        self.requests.append(request)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return InferResponse(status.name, status.version, self._compute(request), request.id)

    async def control(self, verb: str, **arguments: Any) -> Any:
        if verb == "index":
            return [{"name": m.name, "version": m.version, "state": m.state, "reason": m.reason} for m in self._models]
        if verb == "metrics":
            return "# no metrics here\n"
        raise NotFound(f"the fake engine does not know '{verb}'")
