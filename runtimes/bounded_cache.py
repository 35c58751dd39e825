"""A cache of a bounded number of entries."""

from typing import Dict, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """At most `limit` entries: where one more comes, the oldest goes. For one thread.

    They go one at a time, since clients decide what is kept: one whose requests are all different costs the others
    an entry now and then, and never all of theirs at once. Read `entries` itself, so that a hit costs what a
    dictionary's does; only `put` writes to it.
    """

    __slots__ = ("_limit", "entries")

    def __init__(self, limit: int) -> None:
        self.entries: Dict[K, V] = {}
        self._limit = limit

    def __len__(self) -> int:
        return len(self.entries)

    def put(self, key: K, value: V) -> None:
        entries = self.entries
        if len(entries) >= self._limit and key not in entries:
            del entries[next(iter(entries))]
        entries[key] = value
