"""Decides which of the waiting requests run next, together."""

import math
from itertools import groupby
from typing import Any, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple

from runtimes.bounded_cache import BoundedCache
from runtimes.fair_order import MAX_LEVEL, FairOrder, level_and_flow
from runtimes.layouts import TensorLayout, is_by_row
from runtimes.request_frames import RequestGroup
from runtimes.status_page import Pace
from runtimes.worker.pending import Batch, Pending, PendingGroup
from runtimes.worker.shedding import to_shed
from runtimes.worker.sizing import Sizing
from runtimes.worker.waiting import Item, Waiting

# Layouts whose rows and key are cached. The wire caches as many layouts; a miss costs some microseconds.
_MAX_LAYOUTS = 1024
_NEVER = float("inf")
_UNLIMITED = 1 << 62  # rows
# Weight of the newest batch in the average size of batches under load, which fronts use to predict lateness. A larger
# weight makes the prediction jump with each batch; a smaller one makes it follow a change of load too late.
_TYPICAL_WEIGHT = 0.2


class Batching(NamedTuple):
    """How a model's requests may be batched.

    max_rows    the maximum number of rows in a batch; 0: every request runs alone
    signatures  the names of the signatures that are batched
    dim         the dimension that counts rows
    delay       seconds that the oldest request may wait for others
    sizes       the only batch sizes that the model may see, ascending; smaller batches are padded. Empty: any size
    target      seconds from a request's arrival at the gateway to its response; 0: no target. With a target, fronts
                set a request's deadline no later than that
    unbatched   the names of inputs and outputs without rows: a request that has one runs alone
    """

    max_rows: int = 0
    signatures: FrozenSet[str] = frozenset()
    dim: int = 0
    delay: float = 0.0
    sizes: Tuple[int, ...] = ()
    target: float = 0.0
    unbatched: FrozenSet[str] = frozenset()


def _runs(priorities: Sequence[int]) -> List[Tuple[int, int, int, int]]:
    """Return level, flow, start and stop of the adjacent requests of a frame whose priorities are equal."""
    count, first = len(priorities), priorities[0]
    if priorities.count(first) == count:  # nearly always
        return [(*level_and_flow(first), 0, count)]
    runs, start = [], 0
    for priority, run in groupby(priorities):
        stop = start + len(list(run))
        runs.append((*level_and_flow(priority), start, stop))
        start = stop
    return runs


class Batcher:
    """The waiting requests, by priority, then by deadline if there is a target, otherwise fairly between clients, then
    by arrival.

    Times are time.monotonic() seconds.
    """

    def __init__(self, batching: Batching) -> None:
        self._waiting = Waiting()
        self._fair = FairOrder()
        self._earliest_deadline = _NEVER  # a lower bound: requests may have been removed since
        self.reconfigure(batching)

    def reconfigure(self, batching: Batching) -> None:
        """Change how requests are batched, including those that already wait."""
        self.batching = batching
        self._sizing = Sizing(batching.max_rows, batching.target)
        self._typical_rows = float(batching.max_rows)  # average rows of batches that left other requests waiting
        self._known_layouts = BoundedCache(_MAX_LAYOUTS)  # type: BoundedCache[TensorLayout, Tuple[int, Any]]
        items, self._waiting.items = self._waiting.items, []
        for *place, group in items:
            unit, key = self._unit_and_key(group.requests.inputs.layout)
            group = group.counted(unit, None if group.key is None else key)
            self._waiting.items.append((*place, group))

    def __len__(self) -> int:
        return len(self._waiting)

    def __bool__(self) -> bool:
        return bool(self._waiting.items)

    def add(self, source: Any, requests: RequestGroup, isolated: bool, now: float) -> None:
        """Add the requests of a frame. isolated: each of them must run alone."""
        numbers, deadlines, priorities, inputs, _ = requests
        unit, key = self._known_layouts.entries.get(inputs.layout) or self._unit_and_key(inputs.layout)
        if isolated:
            key = None
        self._earliest_deadline = min(self._earliest_deadline, *deadlines)
        if self.batching.target > 0:
            for member, (priority, deadline) in enumerate(zip(priorities, deadlines)):
                group = PendingGroup(source, requests, member, member + 1, now, unit, key)
                self._waiting.add(level_and_flow(priority)[0], deadline, group)
            return
        first, count = priorities[0], len(numbers)
        if first <= MAX_LEVEL and not self._fair.is_active and priorities.count(first) == count:
            self._waiting.add(first, 0.0, PendingGroup(source, requests, 0, count, now, unit, key))
            return
        for level, flow, start, stop in _runs(priorities):
            group = PendingGroup(source, requests, start, stop, now, unit, key)
            self._waiting.add(level, self._fair.rank(level, flow, group.rows or len(group)), group)

    def cancel(self, source: Any, request_id: int) -> bool:
        """Remove a request. Return whether it was still waiting."""
        return self._waiting.remove(source, request_id)

    def drop_source(self, source: Any) -> None:
        """Drop all requests of a connection that has closed."""
        self._waiting.remove_source(source)

    def take_expired(self, now: float) -> List[Pending]:
        """Remove and return requests whose deadline has passed and, with a target, those that would be late."""
        late: List[Pending] = []
        if self._earliest_deadline <= now:
            late = self._waiting.remove_where([deadline <= now for deadline in self._waiting.deadlines()])
            self._earliest_deadline = min(self._waiting.deadlines(), default=_NEVER)
        if self.batching.target and len(self._waiting) > 1:
            late += self._waiting.remove_where(to_shed([item[3] for item in self._waiting.items], self._sizing, now))
        return late

    def next(self, now: float) -> Tuple[Optional[Batch], Optional[float]]:
        """Remove and return the next batch.

        Returns (batch, None); (None, seconds) if it may wait that long for more requests; or (None, None) if idle.
        """
        waiting, batching = self._waiting, self.batching
        if not waiting.items:
            return None, None
        head = waiting.items[0][3]
        if head.key is None:
            batch = Batch([waiting.take_first()])
            self._note_served()
            return batch, None
        rest: List[Item] = []
        if len(waiting.items) == 1 and len(head) == 1 and not batching.delay:
            batch = Batch([head])  # there is nothing to choose
            waiting.last_taken = waiting.items[0]
        else:
            limit, latest_end = self._batch_limits(head, now)
            groups, rest = waiting.split(limit, latest_end)
            batch = Batch(groups)
            left = self._remaining_delay(batch, now) if batching.delay and batch.rows < limit else 0.0
            if left > 0:
                return None, left
        if batching.target and (rest or batch.rows > self._typical_rows):
            self._typical_rows += _TYPICAL_WEIGHT * (batch.rows - self._typical_rows)
        waiting.items = rest
        self._note_served()
        return batch, None

    def _note_served(self) -> None:
        """Note what the batch that was just formed means for the order of those that come."""
        if not self.batching.target:
            level, rank, _, _ = self._waiting.last_taken
            if rank:
                self._fair.served(level, rank)

    def has_full_batch(self) -> bool:
        """Return whether the next batch has as many rows as it may have; False if requests run alone."""
        head = self._waiting.items[0][3] if self._waiting.items else None
        if head is None or head.key is None:
            return False
        limit, rows = self._sizing.max_batch_rows(head.key), 0
        for _, _, _, group in self._waiting.items:
            rows += group.rows if group.key == head.key else 0
            if rows >= limit:
                return True
        return False

    def seed_cost(self, rows: int, seconds: float) -> None:
        """Record the duration of a batch of this size during warm-up."""
        self._sizing.seed(rows, seconds)

    def fits_at_once(self, requests: RequestGroup, now: float) -> Optional[Tuple[int, Any]]:
        """Return `unit` and `key` (PendingGroup) of the requests of a frame if they may run now, in one batch.

        Otherwise return None: they have to be added. Nothing may be waiting, and there must be no target and no delay.
        Their priorities may differ: they decide which requests run first, and these run together.
        """
        numbers, deadlines, priorities, inputs, _ = requests
        unit, key = self._known_layouts.entries.get(inputs.layout) or self._unit_and_key(inputs.layout)
        count = len(numbers)
        if min(deadlines) <= now:
            return None
        if count > 1 and (key is None or not self._sizing.accepts(key, unit * inputs.offsets[-1])):
            return None
        if priorities[0] > MAX_LEVEL:
            # What comes while they run is ordered as if they had waited.
            for level, flow, start, stop in _runs(priorities):
                self._fair.served(level, self._fair.rank(level, flow, stop - start))
        return unit, key

    def all_at_once(self, source: Any, requests: RequestGroup, now: float) -> Batch:
        """Return the batch of requests that fit at once, in the order in which they would run otherwise."""
        self.add(source, requests, False, now)
        groups, self._waiting.items = self._waiting.split(_UNLIMITED, 0.0)
        self._note_served()
        return Batch(groups)

    def observe(self, key: Any, rows: int, seconds: float) -> None:
        """Record the duration of a batch, from `next` until its results were sent."""
        self._sizing.observe(key, rows, seconds)

    def pace(self, batch: Batch) -> Pace:
        """Return what is published for the fronts while this batch runs."""
        sizing, key = self._sizing, batch.key
        curve, limit = sizing.curve(key), min(sizing.max_batch_rows(key), math.ceil(self._typical_rows))
        rows = batch.rows or 1
        return Pace(rows, limit if curve else 0, curve.upper_bound(rows), curve.upper_bound(limit), sizing.response_s)

    def _batch_limits(self, head: PendingGroup, now: float) -> Tuple[int, float]:
        """Return the maximum rows of a batch with this request, and its latest end (0.0 without a target)."""
        sizing = self._sizing
        limit = sizing.choose_rows(head.key)
        if not sizing.target:
            return limit, 0.0
        curve = sizing.curve(head.key)
        limit = min(limit, curve.rows_within(sizing.time_left(head.first_deadline, now), limit))
        return limit, now + curve.upper_bound(limit)

    def _remaining_delay(self, batch: Batch, now: float) -> float:
        """Return how many seconds the batch may still wait for more requests; not positive if it must run now."""
        left = min([group.arrived for group in batch.groups]) + self.batching.delay - now
        if self._sizing.target:
            head = batch.groups[0]
            upper_bound = self._sizing.curve(head.key).upper_bound(self._sizing.max_batch_rows(head.key))
            left = min(left, self._sizing.time_left(head.first_deadline, now) - upper_bound)
        return left

    def _unit_and_key(self, layout: TensorLayout) -> Tuple[int, Any]:
        """Return `unit` and `key` of a PendingGroup. Most requests have a layout that is cached."""
        unit_and_key = self._known_layouts.entries.get(layout)
        if unit_and_key is None:
            unit = self._unit(layout)
            unit_and_key = unit, self._key(layout) if unit else None
            if type(layout) is not tuple:  # the others are too long to be cached
                self._known_layouts.put(layout, unit_and_key)
        return unit_and_key

    def _unit(self, layout: TensorLayout) -> int:
        batching, (signature, outputs, inputs) = self.batching, layout
        if not batching.max_rows or signature not in batching.signatures or not inputs:
            return 0
        if batching.unbatched and not batching.unbatched.isdisjoint([*outputs, *(each[0] for each in inputs)]):
            return 0
        counts = {shape[batching.dim] if len(shape) > batching.dim else 0 for _, _, shape, _ in inputs}
        # If the inputs disagree about the number of rows, the request is passed to the model alone and as it is: the
        # model may accept it, and no outputs have to be split.
        count = counts.pop() if len(counts) == 1 else 0
        if is_by_row(layout):
            return 1 if count == -1 else 0
        return count

    def _key(self, layout: TensorLayout) -> Any:
        """Return what must be equal for requests to share a batch: everything but the bytes and the number of rows."""
        dim, (signature, outputs, inputs) = self.batching.dim, layout
        return signature, outputs, tuple(sorted([(n, d, shape[:dim], shape[dim + 1 :]) for n, d, shape, _ in inputs]))


def padded_size(rows: int, sizes: Sequence[int]) -> int:
    """Return the smallest declared size that holds the rows, or `rows` if none does."""
    return next((size for size in sizes if size >= rows), rows) if sizes else rows
