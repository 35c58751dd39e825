"""The results of a batch, on their way from the model's outputs to the fronts."""

from itertools import groupby
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

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
    began    when the batch began, in time.monotonic() seconds
    times    compute input, infer and output in nanoseconds, then the rows of the batch, as in ResultFrame
    total    bytes of all results
    largest  bytes of the largest result
    """

    def __init__(self, batch: Batch, outputs: Sequence[Tensor], began: float, times: Tuple[int, int, int, int]) -> None:
        self.began, self.times = began, times
        self._batch, self._outputs, self._rows = batch, outputs, batch.rows
        self.total = 0
        for output in outputs:
            self.total += len(output.data)
        groups = batch.groups
        if len(groups) == 1:
            self.largest = self.total // len(batch.ids)
        else:
            self.largest = self.bytes_of(max([group.rows for group in groups]))

    def bytes_of(self, rows: int) -> int:
        """Return the bytes of a result with this many rows."""
        return self.total if rows == self._rows else rows * self.total // self._rows

    def layout(self, rows: int) -> TensorLayout:
        """Return the layout of a result with this many rows."""
        if rows == self._rows:
            return layout_of("", (), self._outputs)
        parts = zip(self._outputs, self.data(0, rows))
        return layout_of(
            "", (), [Tensor(name, datatype, (rows,) + shape[1:], part) for (name, datatype, shape, _), part in parts]
        )

    def data(self, start: int, stop: int) -> List[Buffer]:
        """Return the bytes of these rows, for each output."""
        rows = self._rows
        if stop - start == rows:
            return [output.data for output in self._outputs]
        return [data[start * len(data) // rows : stop * len(data) // rows] for _, _, _, data in self._outputs]

    def __len__(self) -> int:
        return len(self._batch)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        pending = self._batch[index]
        start = sum([before.rows for before in self._batch[:index]]) if index else 0
        layout = self.layout(pending.rows)
        parts = zip(layout[2], self.data(start, start + pending.rows))
        tensors = [Tensor(name, datatype, shape, data) for (name, datatype, shape, _), data in parts]
        return ResultFrame(int((self.began - pending.arrived) * 1e9), *self.times, tensors, layout)


def infer_ns(outcomes: Sequence[Outcome]) -> Optional[int]:
    """Return how long the batch of the first outcome has run; None if that is a failure."""
    if isinstance(outcomes, BatchResults):
        return outcomes.times[1]  # because a single outcome would have to be made
    first = outcomes[0]
    return None if isinstance(first, Failure) else first.compute_infer_ns


def send(batch: Batch, outcomes: Sequence[Outcome]) -> None:
    """Queue the outcomes of a batch, which are BatchResults or one outcome per request, for the fronts."""
    if isinstance(outcomes, BatchResults):
        _send_rows(batch, outcomes)
    else:
        _send_each(batch, outcomes)


def send_failure(connection: Connection, request_id: int, failure: Failure) -> None:
    connection.queue([wire.pack_json(wire.ERROR, failure._asdict(), request_id)])


def _send_rows(batch: Batch, results: BatchResults) -> None:
    """Send the rows of neighboring requests in one frame, if they go to one front."""
    if len(batch.groups) == 1 and results.total <= _MAX_FRAME_BYTES:  # which is true of most batches
        group, ids = batch.groups[0], batch.ids
        queue_ns = [int((results.began - group.arrived) * 1e9)] * len(ids)
        common = ResultFrame(0, *results.times, [], results.layout(group.rows))
        buffers = wire.pack_grouped_results(ids, queue_ns, common, results.data(0, batch.rows), wire.FIRST_OF_BATCH)
        group.source.queue(buffers)
        return
    begin_row, flag = 0, wire.FIRST_OF_BATCH
    for groups in _neighbors(batch.groups):
        source, rows = groups[0].source, groups[0].rows
        ids, queue_ns = [], []
        counts: List[int] = []  # of rows; empty if all requests have as many
        is_uniform = all([group.rows == rows for group in groups])
        for group in groups:
            numbers = group.requests.numbers[group.start : group.stop]
            ids += numbers
            queue_ns += [int((results.began - group.arrived) * 1e9)] * len(numbers)
            if not is_uniform:
                counts += [group.rows] * len(numbers)
        common = ResultFrame(0, *results.times, [], results.layout(rows if is_uniform else 1))
        largest = rows if is_uniform else max(counts)
        per_frame = max(1, _MAX_FRAME_BYTES // max(1, results.bytes_of(largest)))
        for start in range(0, len(ids), per_frame):
            stop = min(start + per_frame, len(ids))
            each = counts[start:stop]
            end_row = begin_row + (rows * (stop - start) if is_uniform else sum(each))
            data = results.data(begin_row, end_row)
            source.queue(wire.pack_grouped_results(ids[start:stop], queue_ns[start:stop], common, data, flag, each))
            begin_row, flag = end_row, 0


def _neighbors(groups: List[PendingGroup]) -> List[List[PendingGroup]]:
    """Return runs of groups that come from one front."""
    runs = [groups[:1]]
    for group in groups[1:]:
        if group.source is runs[-1][0].source:
            runs[-1].append(group)
        else:
            runs.append([group])
    return runs


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
