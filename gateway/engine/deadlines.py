"""Calls back when a request's deadline passes.

Most requests set no deadline and get their model's default timeout. Requests with the same timeout expire in the
order in which they arrived, so one timer for the oldest of them is enough. Those that set their own are in a heap, with
one timer for the earliest. One timer per request would cost as much as half of the engine.
"""

import asyncio
from collections.abc import Callable
from math import inf
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

from gateway.engine.heap import Heap


class Expiring(Protocol):
    """Something with a deadline, in seconds of time.monotonic(), which is also the clock of event loops."""

    id: int
    deadline: float


_ItemT = TypeVar("_ItemT", bound=Expiring)


class _TimeoutBucket(Generic[_ItemT]):
    """The items that share a timeout, in order of arrival."""

    __slots__ = ("armed", "items")

    def __init__(self) -> None:
        self.items: dict[int, _ItemT] = {}
        self.armed = False


class Deadlines(Generic[_ItemT]):
    """Calls `expire` once with each item that is not removed before its deadline."""

    def __init__(self, expire: Callable[[_ItemT], None]) -> None:
        self._expire = expire
        self._buckets: dict[float, _TimeoutBucket[_ItemT]] = {}
        # Items with a deadline of their own, and the timer for the earliest.
        self._own: Heap[_ItemT] = Heap(attrgetter("deadline"))
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf

    def add(self, item: _ItemT, timeout_s: float | None) -> None:
        """Watch an item. `timeout_s` is the timeout that it shares with others; None if it has a deadline of its own.

        There is one bucket per distinct timeout, so timeouts must not come from clients.
        """
        if timeout_s is None:
            self._own.add(item)
            if item.deadline < self._timer_at:
                self._arm_own()
            return
        bucket = self.bucket(timeout_s)
        bucket.items[item.id] = item
        if not bucket.armed:
            self._arm(bucket, item)

    def bucket(self, timeout_s: float) -> _TimeoutBucket[_ItemT]:
        """Return the bucket of a timeout."""
        bucket = self._buckets.get(timeout_s)
        if bucket is None:
            bucket = self._buckets[timeout_s] = _TimeoutBucket()
        return bucket

    def remove(self, item: _ItemT, timeout_s: float | None) -> None:
        """Stop watching an item. `timeout_s` is what `add` got."""
        if timeout_s is not None:
            self._buckets[timeout_s].items.pop(item.id, None)
        else:
            self._own.remove(item)

    def _arm_own(self) -> None:
        """Set the timer for the earliest deadline."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, inf
        earliest = self._own.first()
        if earliest is not None:
            self._timer_at = earliest.deadline
            self._timer = asyncio.get_running_loop().call_at(self._timer_at, self._expire_own)

    def _expire_own(self) -> None:
        now = asyncio.get_running_loop().time()
        try:
            # One by one, because expiring one item may remove others.
            while (item := self._own.first()) is not None and item.deadline <= now:
                self._own.remove(item)
                self._expire(item)
        finally:
            self._arm_own()

    def _arm(self, bucket: _TimeoutBucket[_ItemT], oldest: _ItemT) -> None:
        bucket.armed = True
        asyncio.get_running_loop().call_at(oldest.deadline, self._expire_bucket, bucket)

    def _expire_bucket(self, bucket: _TimeoutBucket[_ItemT]) -> None:
        bucket.armed = False
        now = asyncio.get_running_loop().time()
        late = []
        for item in bucket.items.values():
            if item.deadline > now:
                self._arm(bucket, item)
                break
            late.append(item)
        for item in late:
            if bucket.items.pop(item.id, None) is not None:  # expiring one item may have removed others
                self._expire(item)
