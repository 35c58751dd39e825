"""The requests that wait in one front for one model: by priority level, fairly between clients, and by arrival."""

from typing import TYPE_CHECKING

from gateway.engine.heap import Heap
from runtimes.fair_order import FairOrder, level_and_flow

if TYPE_CHECKING:
    from gateway.engine.servable import QueuedRequest


class FairQueue:
    """A heap of requests in the order in which they are to be sent. `items` as in Heap."""

    __slots__ = ("_heap", "_order", "_places", "items")

    def __init__(self) -> None:
        self._order = FairOrder()
        # The rank of each request whose rank is not 0.0.
        self._places: dict[int, float] = {}
        self._heap: Heap[QueuedRequest] = Heap(self._key)
        self.items = self._heap.items

    def _key(self, queued: "QueuedRequest") -> tuple[int, float, int]:
        level, _ = level_and_flow(queued.priority)
        return level, self._places.get(queued.id, 0.0), queued.id

    def add(self, queued: "QueuedRequest", under_way: int) -> None:
        """Add a request. under_way: rows of the same client that were sent and have no answer."""
        rank = self._order.rank(*level_and_flow(queued.priority), queued.rows, under_way)
        if rank:
            self._places[queued.id] = rank
        self._heap.add(queued)

    def first(self) -> "QueuedRequest | None":
        return self._heap.first()

    def take(self, queued: "QueuedRequest") -> None:
        """Remove the first request, because it is sent."""
        self._heap.remove(queued)
        rank = self._places.pop(queued.id, 0.0)
        if rank:
            self._order.served(level_and_flow(queued.priority)[0], rank)

    def remove(self, queued: "QueuedRequest") -> None:
        """Remove a request that will not be sent, if it is here."""
        self._heap.remove(queued)
        if self._places.pop(queued.id, 0.0):
            self._order.give_back(*level_and_flow(queued.priority), queued.rows)
