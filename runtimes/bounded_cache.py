"""A cache with a limited number of entries."""

from threading import Lock
from typing import Dict, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """A cache that evicts its oldest entry when it is full. Several threads may use it.

    It evicts one entry at a time, because clients determine what is cached: a client whose requests are all different
    costs the others an entry at a time, but cannot empty the cache at once. Callers read `entries` directly, so that a
    hit costs no more than a lookup in a dictionary; only `put` writes to it.
    """

    __slots__ = ("_limit", "_lock", "entries")

    def __init__(self, limit: int) -> None:
        self.entries: Dict[K, V] = {}
        self._limit = limit
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.entries)

    def put(self, key: K, value: V) -> None:
        entries = self.entries
        with self._lock:  # otherwise another thread could change the dictionary while its first key is looked up
            if len(entries) >= self._limit and key not in entries:
                del entries[next(iter(entries))]
            entries[key] = value
