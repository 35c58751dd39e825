"""The results of a batch, on their way from the model's outputs to the fronts."""

from itertools import accumulate, groupby
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from runtimes import wire
from runtimes.layouts import TensorLayout, layout_of
from runtimes.tensors import Buffer, Tensor
from runtimes.wire import ResultFrame
from runtimes.worker.connection import Connection
from runtimes.worker.pending import Batch, Pending, PendingGroup

# Bytes of results in one frame. Small results share a frame, because a frame each would cost more than their bytes.
# Large results get their own, so that a front can respond to the first before the last one has been written.
_MAX_FRAME_BYTES = 1 << 16


class Failure(NamedTuple):
    """Why a request has no result: an error kind of the gateway, and a sentence for the client."""

    kind: str
    message: str


Outcome = Union[ResultFrame, Failure]


class BatchResults(Sequence[ResultFrame]):
    """The results of a batch, as its outputs are: each request's are contiguous rows of every output.

    A ResultFrame per request is made where one is asked for. `send` needs none: it sends the rows of neighboring
    requests together.

    outputs  of the whole batch; in the first dimension are the rows, unless there is only one request
    counts   rows of each request; 0 if there is only one, and its rows are not counted
    times    compute input, infer and output in nanoseconds, then the rows of the batch, as in ResultFrame
    """

    def __init__(
        self,
        outputs: Sequence[Tensor],
        counts: Sequence[int],
        queue_ns: Sequence[int],
        times: Tuple[int, int, int, int],
    ) -> None:
        self.counts, self.queue_ns, self.times = counts, queue_ns, times
        self._outputs = outputs
        self._rows = sum(counts)
        self._bytes = sum([len(output.data) for output in outputs])
        self._layouts: Dict[int, TensorLayout] = {}
        self._starts: List[int] = []  # rows before those of each request; empty until one is asked for

    def bytes_of(self, rows: int) -> int:
        """Return the bytes of a result with this many rows."""
        return self._bytes if rows == self._rows else rows * self._bytes // self._rows

    def layout(self, rows: int) -> TensorLayout:
        """Return the layout of a result with this many rows."""
        layout = self._layouts.get(rows)
        if layout is None:
            tensors = self._outputs
            if rows != self._rows:
                parts = self.data(0, rows)
                tensors = [
                    Tensor(name, datatype, (rows,) + shape[1:], part)
                    for (name, datatype, shape, _), part in zip(tensors, parts)
                ]
            layout = self._layouts[rows] = layout_of("", (), tensors)
        return layout

    def data(self, start: int, stop: int) -> List[Buffer]:
        """Return the bytes of these rows, for each output."""
        rows = self._rows
        if stop - start == rows:
            return [output.data for output in self._outputs]
        return [data[start * len(data) // rows : stop * len(data) // rows] for _, _, _, data in self._outputs]

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if not self._starts:
            self._starts = [0] + list(accumulate(self.counts[:-1]))
        count, start = self.counts[index], self._starts[index]
        layout = self.layout(count)
        parts = zip(layout[2], self.data(start, start + count))
        tensors = [Tensor(name, datatype, shape, data) for (name, datatype, shape, _), data in parts]
        return ResultFrame(self.queue_ns[index], *self.times, tensors, layout)


def send(batch: Batch, outcomes: Sequence[Outcome]) -> None:
    """Queue the outcomes of a batch, which are BatchResults or one outcome per request, for the fronts."""
    if isinstance(outcomes, BatchResults):
        _send_rows(batch, outcomes)
    else:
        _send_each(batch, outcomes)


def send_failure(connection: Connection, request_id: int, failure: Failure) -> None:
    connection.queue([wire.pack_json(wire.ERROR, failure._asdict(), request_id)])


def _send_rows(batch: Batch, results: BatchResults) -> None:
    """Send the rows of neighboring requests in one frame, if they go to one front and have as many rows each."""
    ids, queue_ns = batch.ids, results.queue_ns
    first, begin_row, flag = 0, 0, wire.FIRST_OF_BATCH
    for source, rows, count in _neighbors(batch.groups):
        stop = first + count
        per_frame = max(1, _MAX_FRAME_BYTES // max(1, results.bytes_of(rows)))
        common = ResultFrame(0, *results.times, [], results.layout(rows))
        while first < stop:
            end = min(stop, first + per_frame)
            end_row = begin_row + rows * (end - first)
            data = results.data(begin_row, end_row)
            source.queue(wire.pack_grouped_results(ids[first:end], queue_ns[first:end], common, data, flag))
            first, begin_row, flag = end, end_row, 0


def _neighbors(groups: Sequence[PendingGroup]) -> List[Tuple[Connection, int, int]]:
    """Return (front, rows of each, number of requests), of neighboring groups together if the first two are equal."""
    if len(groups) == 1:
        return [(groups[0].source, groups[0].rows, len(groups[0]))]
    found: List[Tuple[Connection, int, int]] = []
    for group in groups:
        count = len(group)
        if found and found[-1][0] is group.source and found[-1][1] == group.rows:
            count += found.pop()[2]
        found.append((group.source, group.rows, count))
    return found


def _send_each(batch: Batch, outcomes: Sequence[Outcome]) -> None:
    flag = wire.FIRST_OF_BATCH
    for (source, shared), run in groupby(zip(batch, outcomes), _frame_key):
        each = [(pending.id, outcome) for pending, outcome in run]
        if shared is None:
            for number, failure in each:
                send_failure(source, number, failure)
            continue
        per_frame = max(1, _MAX_FRAME_BYTES // max(1, sum([size for _, _, _, size in shared[0][2]])))
        for start in range(0, len(each), per_frame):
            source.queue(wire.pack_result(each[start : start + per_frame], flag))
            flag = 0


def _frame_key(answered: Tuple[Pending, Outcome]) -> Tuple[Connection, Optional[Any]]:
    """Return what must be equal for neighboring results to share a frame.

    The second part consists of layout, `final` and durations, or is None for a failure.
    """
    pending, outcome = answered
    return pending.source, None if isinstance(outcome, Failure) else (outcome.layout, outcome.final, outcome[1:5])
