"""The requests that wait in one front for one model: by priority level, fairly between clients, and by arrival."""

from operator import attrgetter
from typing import TYPE_CHECKING

from gateway.engine.heap import Heap
from runtimes.fair_order import MAX_LEVEL, FairOrder, level_and_flow

if TYPE_CHECKING:
    from gateway.engine.servable import QueuedRequest

_BY_ARRIVAL = attrgetter("priority", "id")


class FairQueue:
    """A heap of requests in the order in which they are to be sent. `items` as in Heap.

    Until the first request of a known client, it is nothing else.
    """

    __slots__ = ("_heap", "_order", "_ranks", "items")

    def __init__(self) -> None:
        self._order: FairOrder | None = None  # of a queue without known clients
        self._ranks: dict[int, float] = {}  # of each request here whose rank is not 0.0
        self._heap: Heap[QueuedRequest] = Heap(_BY_ARRIVAL)
        self.items = self._heap.items

    def _key(self, queued: "QueuedRequest") -> tuple[int, float, int]:
        level, _ = level_and_flow(queued.priority)
        return level, self._ranks.get(queued.id, 0.0), queued.id

    def add(self, queued: "QueuedRequest", under_way: int) -> None:
        """Add a request. under_way: rows of the same client that were sent and have no answer."""
        order = self._order
        if order is None and queued.priority > MAX_LEVEL:
            order = self._order_fairly()
        if order is not None:
            rank = order.rank(*level_and_flow(queued.priority), queued.rows, under_way)
            if rank:
                self._ranks[queued.id] = rank
        self._heap.add(queued)

    def _order_fairly(self) -> FairOrder:
        waiting, self._heap = self._heap, Heap(self._key)
        self.items = self._heap.items
        for queued in waiting.items.values():
            self._heap.add(queued)
        self._order = FairOrder()
        return self._order

    def first(self) -> "QueuedRequest | None":
        return self._heap.first()

    def take(self, queued: "QueuedRequest") -> None:
        """Remove the first request, because it is sent."""
        self._heap.remove(queued)
        if self._order is not None and (rank := self._ranks.pop(queued.id, 0.0)):
            self._order.served(level_and_flow(queued.priority)[0], rank)

    def remove(self, queued: "QueuedRequest") -> None:
        """Remove a request that will not be sent, if it is here."""
        self._heap.remove(queued)
        if self._order is not None and self._ranks.pop(queued.id, 0.0):
            self._order.give_back(*level_and_flow(queued.priority), queued.rows)
