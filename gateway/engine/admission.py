"""Limits how many requests, and how many bytes of input, one front accepts at a time."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.domain import default_limits as default
from gateway.domain.quota import Usage
from gateway.engine.protocol import ClientDisconnected
from gateway.errors import ModelportError, Overloaded


@dataclass(frozen=True)
class AdmissionLimits:
    """The limits of one front. `timeout_s` applies to requests that set no deadline of their own."""

    max_requests: int = default.MAX_REQUESTS
    max_bytes: int = default.MAX_ADMITTED_BYTES
    timeout_s: float = default.REQUEST_TIMEOUT_S

    @property
    def share(self) -> int:
        """The requests of one model while there are others.

        Without this, one model that hangs would use up the limit for all of them.
        """
        return max(1, self.max_requests // 2)


class AdmissionController:
    """Counts the requests and bytes in progress and compares them with the limits.

    `admitted_bytes` include those of bodies that are still being received, and `child_bytes`, which are those of
    requests that are made for others. `accepted` requests are in progress too, but have yet to be read; they count
    against the limits, and for their clients and models, once they are admitted. `on_idle` is called when no request is
    left.
    """

    def __init__(self, limits: AdmissionLimits) -> None:
        self.limits = limits
        self._share = limits.share
        self.requests = self.accepted = 0
        self.on_idle: Callable[[], None] = _nothing
        self.admitted_bytes = 0
        self.child_bytes = 0

    def admit(self, size: int, requests_of_model: int, has_other_models: bool) -> None:
        """Count a request of `size` bytes until `release` is called with the same size.

        Raises Overloaded if it would exceed a limit.
        """
        limit, share = self.limits.max_requests, self._share
        if has_other_models and requests_of_model >= share:
            raise Overloaded(f"{share} requests to this model are in progress, which is the limit; try again later")
        if self.requests >= limit:
            raise Overloaded(f"{limit} requests are in progress, which is the limit; try again later")
        if self.admitted_bytes + size > self.limits.max_bytes:
            self._check_bytes(size)
        self.requests += 1
        self.admitted_bytes += size

    def release(self, size: int) -> None:
        """Stop counting a request of `size` bytes."""
        self.requests -= 1
        self.admitted_bytes -= size
        if not self.requests:
            self.on_idle()

    def end_accepted(self) -> None:
        """Stop counting an accepted request."""
        self.accepted -= 1
        if not self.accepted:
            self.on_idle()

    async def until_idle(self) -> None:
        """Wait until no request is left. One that was accepted, or waits for its model, ends and begins as another."""
        idle = asyncio.Event()
        self.on_idle = idle.set
        while self.requests or self.accepted:
            idle.clear()
            await idle.wait()

    def admit_child(self, size: int) -> None:
        """Count the bytes of a request that is made for an admitted one, until `end_child`. It is never refused."""
        self.admitted_bytes += size
        self.child_bytes += size

    def end_child(self, size: int) -> None:
        self.admitted_bytes -= size
        self.child_bytes -= size

    def reserve(self, size: int, already_reserved: int) -> None:
        """Count `size` more bytes of a body that has `already_reserved` so far. Raises Overloaded."""
        if self.admitted_bytes > already_reserved:
            # A body that is the only one is received whatever its size: it may be JSON, whose tensors are smaller
            # than its text and may be within the limit.
            self._check_bytes(size)
        self.admitted_bytes += size

    def unreserve(self, size: int) -> None:
        """Stop counting `size` bytes of a body."""
        self.admitted_bytes -= size

    def _check_bytes(self, size: int) -> None:
        limit = self.limits.max_bytes
        if self.admitted_bytes + size > limit:
            raise Overloaded(
                f"{self.admitted_bytes} bytes of input are in progress, and the limit is {limit}; try again later"
            )


def _nothing() -> None:
    pass


class AdmissionReservation:
    """The engine's gateway.engine.protocol.BodyReservation.

    It reserves bytes at the controller and for the client, and reports an error to `count(model, version, outcome,
    seconds)`.
    """

    __slots__ = ("_controller", "_count", "_is_refused", "_model", "_reserved", "_started", "_usage")

    def __init__(
        self,
        controller: AdmissionController,
        count: Callable[[str, str, str, float], None],
        model: str,
        version: str,
        usage: Usage | None = None,
    ) -> None:
        self._controller, self._count, self._usage = controller, count, usage
        self._model = model, version
        self._started = time.monotonic()
        self._reserved = 0
        self._is_refused = False  # whether the client has been refused memory, which it may still get

    def reserve(self, size: int, is_input: bool = True) -> None:
        usage = self._usage
        if usage is not None:
            self._is_refused = not is_input
            usage.reserve(size, self._reserved, is_input)
            self._is_refused = False
        try:
            self._controller.reserve(size, self._reserved)
        except Overloaded:
            if usage is not None:
                usage.unreserve(size)
            raise
        self._reserved += size

    def release(self, size: int) -> None:
        self._count_again(-size)
        self._reserved -= size

    def suspend(self) -> None:
        self._count_again(-self._reserved)

    def resume(self) -> None:
        self._count_again(self._reserved)

    def _count_again(self, size: int) -> None:
        self._controller.unreserve(-size)
        if self._usage is not None:
            self._usage.unreserve(-size)

    def close(self, error: BaseException | None = None) -> None:
        self._controller.unreserve(self._reserved)
        if self._usage is not None:
            self._usage.unreserve(self._reserved)
            if self._is_refused and isinstance(error, Overloaded):
                self._usage.count_refused(error)
        self._reserved = 0
        if error is None:
            return
        outcome = "cancelled"
        if isinstance(error, ModelportError):
            outcome = error.kind
        elif isinstance(error, Exception) and not isinstance(error, ClientDisconnected):
            outcome = "internal"
        self._count(*self._model, outcome, time.monotonic() - self._started)

    def __enter__(self) -> "AdmissionReservation":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.close(error)
