"""Calls back when a request's deadline passes.

Most requests set no deadline and get their model's default timeout. Requests with the same timeout expire in the
order in which they arrived, so one timer for the oldest of them is enough. One timer per request would cost as much
as half of the engine.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


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
        self._timers: dict[int, asyncio.TimerHandle] = {}

    def add(self, item: _ItemT, timeout_s: float | None) -> None:
        """Watch an item. `timeout_s` is the timeout that it shares with others; None if it has a deadline of its own.

        There is one bucket per distinct timeout, so timeouts must not come from clients.
        """
        if timeout_s is None:
            timer = asyncio.get_running_loop().call_at(item.deadline, self._expire, item)
            self._timers[item.id] = timer
            return
        bucket = self._buckets.get(timeout_s)
        if bucket is None:
            bucket = self._buckets[timeout_s] = _TimeoutBucket()
        bucket.items[item.id] = item
        if not bucket.armed:
            self._arm(bucket, item)

    def remove(self, item: _ItemT, timeout_s: float | None) -> None:
        """Stop watching an item. `timeout_s` is what `add` got."""
        if timeout_s is not None:
            self._buckets[timeout_s].items.pop(item.id, None)
        elif timer := self._timers.pop(item.id, None):
            timer.cancel()

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
