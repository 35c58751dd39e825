"""A Servable around another one, which does something about some of its requests."""

from gateway.domain.types import ModelStatus
from gateway.engine.metrics import ModelMetrics
from gateway.engine.servable import QueuedRequest, Servable
from gateway.engine.validate import LayoutValidator
from gateway.errors import ModelportError


class ServableWrapper:
    """Passes everything on. Requests that it passes on belong to it and to the inner one alike.

    The compiled path does not see models with a wrapper: Routes keeps them out of `known`.
    """

    def __init__(self, inner: Servable) -> None:
        self.inner = inner

    @property
    def status(self) -> ModelStatus:
        return self.inner.status

    @property
    def metrics(self) -> ModelMetrics:
        return self.inner.metrics

    @property
    def validator(self) -> LayoutValidator:
        return self.inner.validator

    @property
    def target_s(self) -> float:
        return self.inner.target_s

    @property
    def queued(self) -> int:
        return self.inner.queued

    @property
    def under_way(self) -> int:
        return self.inner.under_way

    def would_be_late(self, rows: int, now: float, deadline: float) -> bool:
        return self.inner.would_be_late(rows, now, deadline)

    def put(self, queued: QueuedRequest) -> None:
        self.inner.put(queued)

    def leave(self, queued: QueuedRequest) -> None:
        """Forget a request that another version is to answer, and that the innermost servable has forgotten."""
        if isinstance(self.inner, ServableWrapper):
            self.inner.leave(queued)

    def acknowledge(self, queued: QueuedRequest) -> None:
        self.inner.acknowledge(queued)

    def release(self, queued: QueuedRequest) -> None:
        self.inner.release(queued)

    def fail_all(self, error: ModelportError) -> None:
        self.inner.fail_all(error)
