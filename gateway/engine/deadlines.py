"""Calls back when a request's deadline passes.

Most requests set no deadline and get their model's default timeout. Requests with the same timeout expire in the
order in which they arrived, so one timer for the oldest of them is enough. Those that set their own are in a heap, with
one timer for the earliest. One timer per request would cost as much as half of the engine.
"""

import asyncio
import heapq
from collections.abc import Callable
from math import inf
from typing import Generic, Protocol, TypeVar

# Deadlines that were removed stay in the heap until they reach its top. The heap is rebuilt once it has more than twice
# as many entries as live ones, plus this number. A smaller number rebuilds short heaps often; a larger one keeps more
# stale entries.
_MAX_STALE_ENTRIES = 64


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
        # Items with a deadline of their own; and (deadline, id) of these, and of some that were removed.
        self._own: dict[int, _ItemT] = {}
        self._heap: list[tuple[float, int]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf

    def add(self, item: _ItemT, timeout_s: float | None) -> None:
        """Watch an item. `timeout_s` is the timeout that it shares with others; None if it has a deadline of its own.

        There is one bucket per distinct timeout, so timeouts must not come from clients.
        """
        if timeout_s is None:
            self._own[item.id] = item
            heapq.heappush(self._heap, (item.deadline, item.id))
            if item.deadline < self._timer_at:
                self._arm_own()
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
        elif self._own.pop(item.id, None) is not None and len(self._heap) > 2 * len(self._own) + _MAX_STALE_ENTRIES:
            self._heap = [(each.deadline, each.id) for each in self._own.values()]
            heapq.heapify(self._heap)

    def _arm_own(self) -> None:
        """Set the timer for the earliest deadline."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, inf
        if self._heap:
            self._timer_at = self._heap[0][0]
            self._timer = asyncio.get_running_loop().call_at(self._timer_at, self._expire_own)

    def _expire_own(self) -> None:
        now = asyncio.get_running_loop().time()
        late = []
        while self._heap and (self._heap[0][0] <= now or self._heap[0][1] not in self._own):
            late.append(heapq.heappop(self._heap)[1])
        self._arm_own()
        for number in late:
            item = self._own.pop(number, None)  # expiring one item may have removed others
            if item is not None:
                self._expire(item)

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
