"""What one front takes at a time: requests, and bytes of input, those of bodies on their way too."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.domain import default_limits as default
from gateway.engine.protocol import ClientDisconnected
from gateway.errors import ModelportError, Overloaded


@dataclass(frozen=True)
class Admission:
    """The limits, and how long a request waits that brings no deadline."""

    max_requests: int = default.MAX_REQUESTS
    max_bytes: int = default.MAX_ADMITTED_BYTES
    timeout_s: float = default.REQUEST_TIMEOUT_S


class Room:
    """What is under way, against the limits. `idle` is set while no request is."""

    def __init__(self, limits: Admission) -> None:
        self.limits = limits
        self.requests = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self._bytes = 0

    def check(self, size: int, of_this_model: int, has_others: bool) -> None:
        """Raises Overloaded where one more request of this size would be too much."""
        most = self.limits.max_requests
        share = max(1, most // 2)
        if has_others and of_this_model >= share:
            # Or one model that hangs would leave nothing for the others.
            raise Overloaded(f"{share} requests are under way for this model, which is its limit; try again later")
        if self.requests >= most:
            raise Overloaded(f"{most} requests are under way, which is the limit; try again later")
        self._check_bytes(size)

    def take(self, size: int) -> None:
        """One more request, of this size, is under way, until it is given back."""
        if not self.requests:
            self.idle.clear()
        self.requests += 1
        self._bytes += size

    def give_back(self, size: int) -> None:
        self.requests -= 1
        self._bytes -= size
        if not self.requests:
            self.idle.set()

    def reserve(self, size: int, own: int) -> None:
        """For a body on its way, which has reserved `own` bytes already. Raises Overloaded."""
        if self._bytes > own:
            # A body alone is read whatever it takes: as JSON, its tensors may yet be within the limit.
            self._check_bytes(size)
        self._bytes += size

    def unreserve(self, size: int) -> None:
        self._bytes -= size

    def _check_bytes(self, size: int) -> None:
        limit = self.limits.max_bytes
        if self._bytes + size > limit:
            raise Overloaded(f"{self._bytes} bytes of input are under way and the limit is {limit}; try again later")


class AdmissionReservation:
    """The real engine's BodyReservation. `count(model, version, outcome, seconds)` records how it failed."""

    __slots__ = ("_count", "_model", "_reserved", "_room", "_started")

    def __init__(self, room: Room, count: Callable[[str, str, str, float], None], model: str, version: str) -> None:
        self._room, self._count = room, count
        self._model = model, version
        self._started = time.monotonic()
        self._reserved = 0

    def reserve(self, size: int) -> None:
        self._room.reserve(size, self._reserved)
        self._reserved += size

    def close(self, error: BaseException | None = None) -> None:
        self._room.unreserve(self._reserved)
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
