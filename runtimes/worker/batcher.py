"""Decides which of the waiting requests run next, together."""

import bisect
import math
from typing import Any, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple

from runtimes.bounded_cache import BoundedCache
from runtimes.status_page import Pace
from runtimes.wire import InferFrame
from runtimes.worker.pending import Pending
from runtimes.worker.shedding import to_shed
from runtimes.worker.sizing import Sizing

# Layouts whose rows and key are cached. The wire caches as many layouts; a miss costs some microseconds.
_MAX_LAYOUTS = 1024
# Layouts that request more outputs are not cached, because clients could make up names of outputs to fill the cache.
_MAX_OUTPUTS = 64
_NEVER = float("inf")
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
    """

    max_rows: int = 0
    signatures: FrozenSet[str] = frozenset()
    dim: int = 0
    delay: float = 0.0
    sizes: Tuple[int, ...] = ()
    target: float = 0.0


class Batcher:
    """The waiting requests, ordered by priority, then by deadline if there is a target, then by arrival.

    Times are time.monotonic() seconds.
    """

    def __init__(self, batching: Batching) -> None:
        self._waiting: List[Tuple[int, float, int, Pending]] = []
        self._arrivals = 0
        self._earliest_deadline = _NEVER  # a lower bound: requests may have been removed since
        self.reconfigure(batching)

    def reconfigure(self, batching: Batching) -> None:
        """Change how requests are batched, including those that already wait."""
        self.batching = batching
        self._sizing = Sizing(batching.max_rows, batching.target)
        self._typical_rows = float(batching.max_rows)  # average rows of batches that left other requests waiting
        self._known_layouts = BoundedCache(_MAX_LAYOUTS)  # type: BoundedCache[Any, Tuple[int, Any]]
        waiting, self._waiting = self._waiting, []
        for priority, order, arrival, pending in waiting:
            rows, key = self._rows_and_key(pending.frame)
            again = pending._replace(rows=rows, key=None if pending.key is None else key)
            self._waiting.append((priority, order, arrival, again))

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, source: Any, request_id: int, frame: InferFrame, isolated: bool, now: float) -> None:
        self.add_all(source, [(request_id, frame)], isolated, now)

    def add_all(self, source: Any, requests: Sequence[Tuple[int, InferFrame]], isolated: bool, now: float) -> None:
        """Add requests with the same layout, by id."""
        rows, key = self._rows_and_key(requests[0][1])
        if isolated:
            key = None
        waiting, arrivals, has_target = self._waiting, self._arrivals, self.batching.target > 0
        for number, frame in requests:
            arrivals += 1
            deadline, priority = frame[0], frame[1]
            if deadline < self._earliest_deadline:
                self._earliest_deadline = deadline
            pending = Pending._make((source, number, frame, now, rows, key))
            item = priority, deadline if has_target else 0.0, arrivals, pending
            if not waiting or waiting[-1] < item:  # arrivals differ, so no two Pending are ever compared
                waiting.append(item)
            else:
                bisect.insort(waiting, item)
        self._arrivals = arrivals

    def cancel(self, source: Any, request_id: int) -> bool:
        """Remove a request. Return whether it was still waiting."""
        for index, (_, _, _, pending) in enumerate(self._waiting):
            if pending.id == request_id and pending.source is source:
                del self._waiting[index]
                return True
        return False

    def drop_source(self, source: Any) -> None:
        """Drop all requests of a connection that has closed."""
        self._waiting = [item for item in self._waiting if item[3].source is not source]

    def take_expired(self, now: float) -> List[Pending]:
        """Remove and return requests whose deadline has passed and, with a target, those that would be late."""
        late: List[Pending] = []
        if self._earliest_deadline <= now:
            late = self._remove_where([item[3].frame.deadline <= now for item in self._waiting])
            self._earliest_deadline = min([item[3].frame.deadline for item in self._waiting], default=_NEVER)
        if self.batching.target and len(self._waiting) > 1:
            late += self._remove_where(to_shed([item[3] for item in self._waiting], self._sizing, now))
        return late

    def next(self, now: float) -> Tuple[List[Pending], Optional[float]]:
        """Remove and return the next batch.

        Returns (batch, None); ([], seconds) if it may wait that long for more requests; or ([], None) if idle.
        """
        waiting = self._waiting
        if not waiting:
            return [], None
        head = waiting[0][3]
        if head.key is None:
            del waiting[0]
            return [head], None
        batch, rest, rows = [head], waiting[1:], head.rows
        if rest or self.batching.delay:
            limit, latest_end = self._batch_limits(head, now)
            rest = self._fill(batch, limit, latest_end)
            rows = sum([pending.rows for pending in batch])
            left = self._remaining_delay(batch, now) if self.batching.delay and rows < limit else 0.0
            if left > 0:
                return [], left
        if self.batching.target and (rest or rows > self._typical_rows):
            self._typical_rows += _TYPICAL_WEIGHT * (rows - self._typical_rows)
        self._waiting = rest
        return batch, None

    def _fill(self, batch: List[Pending], limit: int, latest_end: float) -> List[Tuple[int, float, int, Pending]]:
        """Add to a batch, which has the first of the waiting requests, those that fit. Return the others."""
        waiting, key, room = self._waiting, batch[0].key, limit - batch[0].rows
        rest = []
        for index in range(1, len(waiting)):
            if room <= 0:
                rest += waiting[index:]
                break
            _, _, frame, _, rows, its_key = pending = waiting[index][3]
            if rows <= room and its_key == key and frame.deadline >= latest_end:
                batch.append(pending)
                room -= rows
            else:
                rest.append(waiting[index])
        return rest

    def has_full_batch(self) -> bool:
        """Return whether the next batch has as many rows as it may have; False if requests run alone."""
        head = self._waiting[0][3] if self._waiting else None
        if head is None or head.key is None:
            return False
        limit, rows = self._sizing.max_batch_rows(head.key), 0
        for item in self._waiting:
            rows += item[3].rows if item[3].key == head.key else 0
            if rows >= limit:
                return True
        return False

    def seed_cost(self, rows: int, seconds: float) -> None:
        """Record the duration of a batch of this size during warm-up."""
        self._sizing.seed(rows, seconds)

    def observe(self, batch: Sequence[Pending], seconds: float) -> None:
        """Record the duration of a batch, from `next` until its results were sent."""
        if seconds >= self._sizing.shortest_s:
            self._sizing.observe(batch[0].key, sum([pending.rows for pending in batch]), seconds)

    def pace(self, batch: Sequence[Pending]) -> Pace:
        """Return what is published for the fronts while this batch runs."""
        sizing, key = self._sizing, batch[0].key
        curve, limit = sizing.curve(key), min(sizing.max_batch_rows(key), math.ceil(self._typical_rows))
        rows = sum([pending.rows for pending in batch]) or 1
        return Pace(rows, limit if curve else 0, curve.upper_bound(rows), curve.upper_bound(limit), sizing.response_s)

    def _batch_limits(self, head: Pending, now: float) -> Tuple[int, float]:
        """Return the maximum rows of a batch with this request, and its latest end (0.0 without a target)."""
        sizing = self._sizing
        limit = sizing.choose_rows(head.key)
        if not sizing.target:
            return limit, 0.0
        curve = sizing.curve(head.key)
        limit = min(limit, curve.rows_within(sizing.time_left(head.frame.deadline, now), limit))
        return limit, now + curve.upper_bound(limit)

    def _remaining_delay(self, batch: Sequence[Pending], now: float) -> float:
        """Return how many seconds the batch may still wait for more requests; not positive if it must run now."""
        left = min([pending.arrived for pending in batch]) + self.batching.delay - now
        if self._sizing.target:
            head = batch[0]
            upper_bound = self._sizing.curve(head.key).upper_bound(self._sizing.max_batch_rows(head.key))
            left = min(left, self._sizing.time_left(head.frame.deadline, now) - upper_bound)
        return left

    def _remove_where(self, which: Sequence[bool]) -> List[Pending]:
        taken = [item[3] for item, out in zip(self._waiting, which) if out]
        if taken:
            self._waiting = [item for item, out in zip(self._waiting, which) if not out]
        return taken

    def _rows_and_key(self, frame: InferFrame) -> Tuple[int, Any]:
        """Return (rows, key) of a request. Most requests have a layout that is cached."""
        layout = frame.layout or (frame.signature, tuple(frame.outputs), tuple([each[:3] for each in frame.inputs]))
        rows_and_key = self._known_layouts.entries.get(layout)
        if rows_and_key is None:
            rows = self._rows(frame)
            rows_and_key = rows, self._key(frame) if rows else None
            if len(frame.outputs) <= _MAX_OUTPUTS:
                self._known_layouts.put(layout, rows_and_key)
        return rows_and_key

    def _rows(self, frame: InferFrame) -> int:
        batching = self.batching
        if not batching.max_rows or frame.signature not in batching.signatures or not frame.inputs:
            return 0
        counts = {t.shape[batching.dim] if len(t.shape) > batching.dim else 0 for t in frame.inputs}
        # If the inputs disagree about the number of rows, the request is passed to the model alone and as it is: the
        # model may accept it, and no outputs have to be split.
        return counts.pop() if len(counts) == 1 else 0

    def _key(self, frame: InferFrame) -> Any:
        """Return what must be equal for requests to share a batch: everything but the bytes and the number of rows."""
        dim = self.batching.dim
        inputs = tuple(sorted((t.name, t.datatype, t.shape[:dim], t.shape[dim + 1 :]) for t in frame.inputs))
        return frame.signature, tuple(frame.outputs), inputs


def padded_size(rows: int, sizes: Sequence[int]) -> int:
    """Return the smallest declared size that holds the rows, or `rows` if none does."""
    return next((size for size in sizes if size >= rows), rows) if sizes else rows
