"""The waiting requests of a worker, in the order in which they run."""

import bisect
from itertools import groupby
from operator import itemgetter
from typing import Any, List, Sequence, Tuple

from runtimes.worker.pending import Pending, PendingGroup

# Priority, order within it, arrival; no two are equal unless they are parts of one group, and those are never compared.
Item = Tuple[int, float, int, PendingGroup]
_PLACE = itemgetter(0, 1, 2)


class Waiting:
    """Groups of requests by priority, then by `order`, then by arrival. `items` may be replaced by some of them.

    last_taken: the last item of which `take_first` or `split` has returned anything.
    """

    def __init__(self) -> None:
        self.items: List[Item] = []
        self.last_taken: Item
        self._arrivals = 0

    def __len__(self) -> int:
        """Return the number of requests."""
        return sum([len(item[3]) for item in self.items])

    def add(self, priority: int, order: float, group: PendingGroup) -> None:
        self._arrivals += 1
        item = priority, order, self._arrivals, group
        if not self.items or self.items[-1] < item:
            self.items.append(item)
        else:
            bisect.insort(self.items, item)

    def deadlines(self) -> List[float]:
        """Return the deadline of each request."""
        groups = [item[3] for item in self.items]
        return [each for group in groups for each in group.requests.deadlines[group.start : group.stop]]

    def take_first(self) -> PendingGroup:
        """Remove and return the first request."""
        self.last_taken = item = self.items[0]
        group = item[3]
        self.items[:1] = [_behind(item, 1, group.part(1, len(group)))] if len(group) > 1 else []
        if item[1]:
            self.items.sort(key=_PLACE)
        return group.part(0, 1)

    def remove(self, source: Any, request_id: int) -> bool:
        """Remove a request. Return whether it was waiting."""
        for index, (*place, group) in enumerate(self.items):
            if group.source is source and request_id in group.ids:
                at = group.ids.index(request_id)
                parts = group.part(0, at), group.part(at + 1, len(group))
                self.items[index : index + 1] = [(*place, part) for part in parts if len(part)]
                return True
        return False

    def remove_source(self, source: Any) -> None:
        self.items = [item for item in self.items if item[3].source is not source]

    def remove_where(self, which: Sequence[bool]) -> List[Pending]:
        """Remove and return some requests; `which` has a flag for each, in order."""
        if True not in which:
            return []
        removed: List[Pending] = []
        flags, items, self.items = iter(which), self.items, []
        for *place, group in items:
            start = 0
            for is_out, run in groupby([next(flags) for _ in range(len(group))]):
                stop = start + len(list(run))
                part = group.part(start, stop)
                if is_out:
                    removed += part.pendings()
                else:
                    self.items.append((*place, part))
                start = stop
        return removed

    def split(self, limit: int, latest_end: float) -> Tuple[List[PendingGroup], List[Item]]:
        """Return the first request with those that fit into its batch of at most `limit` rows, and all others.

        They have its key, and deadlines not before `latest_end` unless that is 0. A first request with more rows than
        the limit is alone.
        """
        items = self.items
        key = items[0][3].key
        groups: List[PendingGroup] = []
        rest: List[Item] = []
        room = max(limit, items[0][3].each_rows[0])
        for index, item in enumerate(items):
            if room <= 0:
                rest += items[index:]
                break
            group = item[3]
            # With a target, each group has a single request.
            if group.key != key or (latest_end and groups and group.first_deadline < latest_end):
                rest.append(item)
            elif group.rows <= room:
                groups.append(group)
                room -= group.rows
                self.last_taken = item
            else:
                taken = 0
                for part, fits in _parts_that_fit(group, room):
                    if fits:
                        groups.append(part)
                        room -= part.rows
                        taken += part.rows
                        self.last_taken = item
                    else:
                        rest.append(_behind(item, taken, part))
        if items[0][1]:
            rest.sort(key=_PLACE)
        return groups, rest


def _behind(item: Item, rows: int, part: PendingGroup) -> Item:
    """Return the item of a part of a group, of which this many rows before the part have been taken."""
    priority, order, arrival, _ = item
    # 0.0 if requests run in the order of their arrival. With a target, order is a deadline, but groups have no parts.
    return priority, order + rows if order else order, arrival, part


def _parts_that_fit(group: PendingGroup, room: int) -> List[Tuple[PendingGroup, bool]]:
    """Divide a group into the requests that fit into this many rows, one after the other, and those that do not."""
    fits: List[bool] = []
    for rows in group.each_rows:
        fits.append(rows <= room)
        room -= rows if rows <= room else 0
    parts, start = [], 0
    for is_in, run in groupby(fits):
        stop = start + len(list(run))
        parts.append((group.part(start, stop), is_in))
        start = stop
    return parts
