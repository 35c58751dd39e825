"""Which of the waiting requests run next, together."""

import bisect
from typing import Any, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple

from runtimes.wire import InferFrame


class Batching(NamedTuple):
    """How a model's requests may be put together.

    max_rows    the most rows of one batch; 0: every request runs by itself
    signatures  the names of the signatures for which it holds
    dim         the dimension that counts rows
    delay       seconds that the oldest request may wait for company
    sizes       the only batch sizes that the model may see, ascending; smaller batches are padded. Empty: any
    """

    max_rows: int = 0
    signatures: FrozenSet[str] = frozenset()
    dim: int = 0
    delay: float = 0.0
    sizes: Tuple[int, ...] = ()


class Pending(NamedTuple):
    """One request as the worker holds it.

    rows  0 where the model is not batched: the request runs as it is
    key   equal for requests that may share a batch; None when it shares none
    """

    order: Tuple[int, int]  # priority, then arrival
    source: Any  # the connection that wants the answer
    id: int
    frame: InferFrame
    arrived: float
    rows: int
    key: Any


class Batcher:
    """The waiting requests, by priority and arrival. Times are time.monotonic() seconds."""

    def __init__(self, batching: Batching) -> None:
        self.batching = batching
        self._waiting: List[Tuple[Tuple[int, int], Pending]] = []
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, source: Any, request_id: int, frame: InferFrame, alone: bool, now: float) -> None:
        self._arrivals += 1
        rows = self._rows(frame)
        key = self._key(frame) if rows and not alone else None
        order = (frame.priority, self._arrivals)
        pending = Pending(order, source, request_id, frame, now, rows, key)
        bisect.insort(self._waiting, (order, pending))

    def cancel(self, source: Any, request_id: int) -> bool:
        """Whether the request was still waiting; it is gone then."""
        for index, (_, pending) in enumerate(self._waiting):
            if pending.id == request_id and pending.source is source:
                del self._waiting[index]
                return True
        return False

    def forget(self, source: Any) -> None:
        """Drop all that a connection asked for: nobody is left to read it."""
        self._waiting = [item for item in self._waiting if item[1].source is not source]

    def expired(self, now: float) -> List[Pending]:
        """Take out, and give back, what nobody waits for any more."""
        late = [pending for _, pending in self._waiting if pending.frame.deadline <= now]
        if late:
            self._waiting = [item for item in self._waiting if item[1].frame.deadline > now]
        return late

    def next(self, now: float) -> Tuple[List[Pending], Optional[float]]:
        """The next batch, and how long to wait for it: (batch, None), ([], seconds) or ([], None) when idle."""
        if not self._waiting:
            return [], None
        head = self._waiting[0][1]
        batch, rows = [head], head.rows
        if head.key is not None:
            for _, other in self._waiting[1:]:
                if other.key == head.key and rows + other.rows <= self.batching.max_rows:
                    batch.append(other)
                    rows += other.rows
                    if rows == self.batching.max_rows:
                        break
            oldest = min(pending.arrived for pending in batch)
            left = oldest + self.batching.delay - now
            if rows < self.batching.max_rows and left > 0:
                return [], left
        if len(batch) == len(self._waiting):
            self._waiting = []
        else:
            taken = {pending.order for pending in batch}
            self._waiting = [item for item in self._waiting if item[0] not in taken]
        return batch, None

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
