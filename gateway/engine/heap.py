"""A priority queue from which any item can be removed."""

import heapq
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

# Entries of removed items stay until they reach the top, or until there are more than twice as many entries as items,
# plus this number. A smaller number rebuilds short heaps often; a larger one keeps more stale entries.
_MAX_STALE_ENTRIES = 64


class Identified(Protocol):
    id: int


_ItemT = TypeVar("_ItemT", bound=Identified)


class Heap(Generic[_ItemT]):
    """Items in order of their keys, the smallest first. The key of an item must not change while it is here.

    items  by id, in order of insertion; only `add` and `remove` change it
    """

    __slots__ = ("_entries", "_key", "items")

    def __init__(self, key: Callable[[_ItemT], Any]) -> None:
        self.items: dict[int, _ItemT] = {}
        self._entries: list[tuple[Any, int]] = []
        self._key = key

    def __len__(self) -> int:
        return len(self.items)

    def add(self, item: _ItemT) -> None:
        self.items[item.id] = item
        heapq.heappush(self._entries, (self._key(item), item.id))

    def first(self) -> _ItemT | None:
        """Return the item with the smallest key; None if there is no item."""
        entries = self._entries
        while entries:
            item = self.items.get(entries[0][1])
            if item is not None:
                return item
            heapq.heappop(entries)
        return None

    def remove(self, item: _ItemT) -> None:
        """Remove an item, if it is here."""
        if self.items.pop(item.id, None) is None:
            return
        if len(self._entries) > 2 * len(self.items) + _MAX_STALE_ENTRIES:
            self._entries = [(self._key(each), each.id) for each in self.items.values()]
            heapq.heapify(self._entries)
