"""Sums of what the fronts count, by model or by identity."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Generic, TypeVar

Snapshot = dict[str, Any]
_KeyT = TypeVar("_KeyT")


class FrontSums(Generic[_KeyT]):
    """Sums the fronts' cumulative snapshots, including those of fronts that have ended, so that no counter decreases.

    One thread calls `update` and `retire`; `totals` may run on any thread, such as that of a scrape. The dictionaries
    it reads are never modified, only replaced, both in one assignment: each front is always in exactly one of them.
    """

    def __init__(self, add: Callable[[dict[_KeyT, Snapshot], Snapshot], None], gauges: Sequence[str] = ()) -> None:
        """`add` adds a snapshot to the totals by its key, without changing it. `gauges` end with their front."""
        self._add, self._gauges = add, gauges
        live: dict[int, list[Snapshot]] = {}
        past: dict[_KeyT, Snapshot] = {}
        self._live_and_past = live, past

    def update(self, front: int, snapshots: list[Snapshot]) -> None:
        live, past = self._live_and_past
        self._live_and_past = {**live, front: snapshots}, past

    def retire(self, front: int) -> None:
        """Keep the counters of a front that has ended, and drop its gauges."""
        live, past = self._live_and_past
        remaining = {number: snapshots for number, snapshots in live.items() if number != front}
        ended = [{**snapshot, **dict.fromkeys(self._gauges, 0)} for snapshot in live.get(front, [])]
        self._live_and_past = remaining, self._sum([*past.values(), *ended])

    def totals(self) -> dict[_KeyT, Snapshot]:
        live, past = self._live_and_past
        return self._sum(chain(past.values(), *live.values()))

    def _sum(self, snapshots: Iterable[Snapshot]) -> dict[_KeyT, Snapshot]:
        totals: dict[_KeyT, Snapshot] = {}
        for snapshot in snapshots:
            self._add(totals, snapshot)
        return totals
