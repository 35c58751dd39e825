"""Which of the waiting requests run next, together."""

import bisect
import math
from typing import Any, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple

from runtimes.bounded_cache import BoundedCache
from runtimes.status_page import Pace
from runtimes.wire import InferFrame
from runtimes.worker.lateness import hopeless
from runtimes.worker.pending import Pending
from runtimes.worker.sizing import Sizing

# So many different kinds of requests are remembered.
_MAX_KINDS = 1024
# What asks for more outputs is not: clients may make their names up.
_MAX_OUTPUTS = 64
_NEVER = float("inf")
# How much of the newest batch is believed when it is said how large they usually are.
_BELIEF = 0.2


class Batching(NamedTuple):
    """How a model's requests may be put together.

    max_rows    the most rows of one batch; 0: every request runs by itself
    signatures  the names of the signatures for which it holds
    dim         the dimension that counts rows
    delay       seconds that the oldest request may wait for company
    sizes       the only batch sizes that the model may see, ascending; smaller batches are padded. Empty: any
    target      seconds from a request's arrival at the gateway to its answer; 0: none.
                With one, a request's deadline is no later than that: the fronts see to it
    """

    max_rows: int = 0
    signatures: FrozenSet[str] = frozenset()
    dim: int = 0
    delay: float = 0.0
    sizes: Tuple[int, ...] = ()
    target: float = 0.0


class Batcher:
    """The waiting requests, by priority, then deadline if there is a target, then arrival.

    Times are time.monotonic() seconds.
    """

    def __init__(self, batching: Batching) -> None:
        self._waiting: List[Tuple[int, float, int, Pending]] = []
        self._arrivals = 0
        self._soonest = _NEVER  # no deadline comes sooner
        self.follow(batching)

    def follow(self, batching: Batching) -> None:
        """Batch in this way from now on, what waits already too."""
        self.batching = batching
        self._sizing = Sizing(batching.max_rows, batching.target)
        self._usual = float(batching.max_rows)  # rows of a batch that left others waiting
        self._kinds = BoundedCache(_MAX_KINDS)  # type: BoundedCache[Any, Tuple[int, Any]]
        waiting, self._waiting = self._waiting, []
        for priority, order, arrival, pending in waiting:
            rows, key = self._kind(pending.frame)
            again = pending._replace(rows=rows, key=None if pending.key is None else key)
            self._waiting.append((priority, order, arrival, again))

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, source: Any, request_id: int, frame: InferFrame, alone: bool, now: float) -> None:
        self._arrivals += 1
        rows, key = self._kind(frame)
        pending = Pending(source, request_id, frame, now, rows, None if alone else key)
        self._soonest = min(self._soonest, frame.deadline)
        order = frame.deadline if self.batching.target else 0.0
        bisect.insort(self._waiting, (frame.priority, order, self._arrivals, pending))

    def cancel(self, source: Any, request_id: int) -> bool:
        """Whether the request was still waiting; it is gone then."""
        for index, (_, _, _, pending) in enumerate(self._waiting):
            if pending.id == request_id and pending.source is source:
                del self._waiting[index]
                return True
        return False

    def forget(self, source: Any) -> None:
        """Drop all that a connection asked for: nobody is left to read it."""
        self._waiting = [item for item in self._waiting if item[3].source is not source]

    def expired(self, now: float) -> List[Pending]:
        """Take out, and give back, what nobody waits for any more; with a target, what would come too late as well."""
        late: List[Pending] = []
        if self._soonest <= now:
            late = self._take_out([item[3].frame.deadline <= now for item in self._waiting])
            self._soonest = min([item[3].frame.deadline for item in self._waiting], default=_NEVER)
        if self.batching.target and len(self._waiting) > 1:
            late += self._take_out(hopeless([item[3] for item in self._waiting], self._sizing, now))
        return late

    def next(self, now: float) -> Tuple[List[Pending], Optional[float]]:
        """The next batch, and how long to wait for it: (batch, None), ([], seconds) or ([], None) when idle."""
        waiting = self._waiting
        if not waiting:
            return [], None
        head = waiting[0][3]
        batch, rest = [head], waiting[1:]
        if head.key is not None:
            most, ends = self._limits(head, now)
            rows, rest = head.rows, []
            for index in range(1, len(waiting)):
                if rows >= most:
                    rest += waiting[index:]
                    break
                other = waiting[index][3]
                if other.key == head.key and rows + other.rows <= most and other.frame.deadline >= ends:
                    batch.append(other)
                    rows += other.rows
                else:
                    rest.append(waiting[index])
            left = self._may_wait(batch, now) if self.batching.delay and rows < most else 0.0
            if left > 0:
                return [], left
            if self.batching.target and (len(rest) or rows > self._usual):
                self._usual += _BELIEF * (rows - self._usual)
        self._waiting = rest
        return batch, None

    def is_full(self) -> bool:
        """Whether waiting would get the next batch no more rows. Never where requests run by themselves."""
        head = self._waiting[0][3] if self._waiting else None
        if head is None or head.key is None:
            return False
        most, rows = self._sizing.most(head.key), 0
        for item in self._waiting:
            rows += item[3].rows if item[3].key == head.key else 0
            if rows >= most:
                return True
        return False

    def learn(self, rows: int, seconds: float) -> None:
        """What a batch of so many rows took before the first request."""
        self._sizing.learn(rows, seconds)

    def ran(self, batch: Sequence[Pending], seconds: float) -> None:
        """The batch took so long, from `next` until its answers had left."""
        self._sizing.ran(batch[0].key, sum([pending.rows for pending in batch]), seconds)

    def pace(self, batch: Sequence[Pending]) -> Pace:
        """What the fronts are told while this batch runs."""
        sizing, key = self._sizing, batch[0].key
        curve, most = sizing.curve(key), min(sizing.most(key), math.ceil(self._usual))
        rows = sum([pending.rows for pending in batch]) or 1
        return Pace(rows, most if curve else 0, curve.slowest(rows), curve.slowest(most), sizing.way_back_s)

    def _limits(self, head: Pending, now: float) -> Tuple[int, float]:
        """Of a batch with this request: the most rows, and when it ends at the latest (0.0 where nobody asks)."""
        sizing = self._sizing
        most = sizing.choose(head.key)
        if not sizing.target:
            return most, 0.0
        curve = sizing.curve(head.key)
        most = min(most, curve.rows_within(sizing.left(head.frame.deadline, now), most))
        return most, now + curve.slowest(most)

    def _may_wait(self, batch: Sequence[Pending], now: float) -> float:
        left = min([pending.arrived for pending in batch]) + self.batching.delay - now
        if self._sizing.target:
            head = batch[0]
            slowest = self._sizing.curve(head.key).slowest(self._sizing.most(head.key))
            left = min(left, self._sizing.left(head.frame.deadline, now) - slowest)
        return left

    def _take_out(self, which: Sequence[bool]) -> List[Pending]:
        taken = [item[3] for item, out in zip(self._waiting, which) if out]
        if taken:
            self._waiting = [item for item, out in zip(self._waiting, which) if not out]
        return taken

    def _kind(self, frame: InferFrame) -> Tuple[int, Any]:
        """(rows, key) of a request. Most are like one before."""
        described = frame.layout or (frame.signature, tuple(frame.outputs), tuple([each[:3] for each in frame.inputs]))
        kind = self._kinds.entries.get(described)
        if kind is None:
            rows = self._rows(frame)
            kind = rows, self._key(frame) if rows else None
            if len(frame.outputs) <= _MAX_OUTPUTS:
                self._kinds.put(described, kind)
        return kind

    def _rows(self, frame: InferFrame) -> int:
        batching = self.batching
        if not batching.max_rows or frame.signature not in batching.signatures or not frame.inputs:
            return 0
        counts = {t.shape[batching.dim] if len(t.shape) > batching.dim else 0 for t in frame.inputs}
        # Inputs that disagree cannot be split back: the model itself shall say what it thinks of them.
        return counts.pop() if len(counts) == 1 else 0

    def _key(self, frame: InferFrame) -> Any:
        """What must be equal for two requests to share a batch: all but the bytes and the number of rows."""
        dim = self.batching.dim
        inputs = tuple(sorted((t.name, t.datatype, t.shape[:dim], t.shape[dim + 1 :]) for t in frame.inputs))
        return frame.signature, tuple(frame.outputs), inputs


def padded_size(rows: int, sizes: Sequence[int]) -> int:
    """The smallest declared size that holds the rows; the rows themselves when none does."""
    return next((size for size in sizes if size >= rows), rows)
