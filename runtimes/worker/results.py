"""The results of a batch, on their way from the model's outputs to the fronts."""

from itertools import accumulate, groupby
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

from runtimes import result_frames, wire
from runtimes.layouts import TensorLayout, known_layout, layout_of
from runtimes.result_frames import ResultFrame
from runtimes.tensors import Buffer, Tensor
from runtimes.worker.connection import Connection
from runtimes.worker.pending import Batch, Pending, PendingGroup

# Bytes of results in one frame. Small results share a frame, because a frame each would cost more than their bytes.
# Large results get their own, so that a front can respond to the first before the last one has been written.
MAX_FRAME_BYTES = 1 << 16


class Failure(NamedTuple):
    """Why a request has no result: an error kind of the gateway, and a sentence for the client.

    compute_ns  how long the model has run for it nevertheless
    """

    kind: str
    message: str
    compute_ns: int = 0

    def after(self, seconds: float) -> "Failure":
        """Return the same failure, after this much more of the model's time."""
        return self._replace(compute_ns=self.compute_ns + max(0, int(seconds * 1e9)))


Outcome = Union[ResultFrame, Failure]


class BatchResults(Sequence[ResultFrame]):
    """The results of a batch, as its outputs are: each request's are contiguous rows of every output.

    A ResultFrame per request is made where one is asked for. `send` needs none: it sends the rows of neighboring
    requests together.

    began  when the batch began, in time.monotonic() seconds
    times  compute input, infer and output in nanoseconds, then the rows of the batch, as in ResultFrame
    rows   of each result; a result whose rows are not counted, or not in the first dimension, is alone and has one
    total  bytes of all results
    """

    def __init__(
        self,
        batch: Batch,
        outputs: Sequence[Tuple[Tensor, Sequence[int]]],
        is_by_row: bool,
        began: float,
        times: Tuple[int, int, int, int],
    ) -> None:
        """`outputs`: of the whole batch, each with the bytes before each of its rows (tensors.from_rows)."""
        self.began, self.times = began, times
        self.rows: Sequence[int] = batch.each_rows if is_by_row else (1,)
        self._batch, self._outputs, self._is_by_row = batch, outputs, is_by_row
        self._offsets: List[int] = []  # the rows before each request, then all rows; empty until they are needed
        self._has_strings = False
        self.total = 0
        for (_, datatype, _, data), _ in outputs:
            self.total += len(data)
            self._has_strings = self._has_strings or datatype == "BYTES"

    @property
    def largest(self) -> int:
        """The bytes of the largest result."""
        return max([sum(map(len, self.data(index, index + 1))) for index in range(len(self.rows))])

    @property
    def layout(self) -> TensorLayout:
        """The layout of all results, which leaves their rows open if the outputs have any."""
        described = [
            (name, datatype, (-1,) + shape[1:] if self._is_by_row else shape, -1 if datatype == "BYTES" else before[1])
            for (name, datatype, shape, _), before in self._outputs
        ]
        return known_layout(("", (), tuple(described)))

    def data(self, start: int, stop: int) -> List[Buffer]:
        """Return the bytes of the results from `start` to `stop`, for each output."""
        if stop - start == len(self.rows):
            return [tensor.data for tensor, _ in self._outputs]
        offsets = self._row_offsets()
        first, last = offsets[start], offsets[stop]
        return [tensor.data[before[first] : before[last]] for tensor, before in self._outputs]

    def sizes(self, start: int, stop: int) -> List[List[int]]:
        """Return the bytes of the results from `start` to `stop`, for each output of strings."""
        sizes = []
        for tensor, before in self._outputs:
            if tensor.datatype == "BYTES":
                bounds = [before[row] for row in self._row_offsets()[start : stop + 1]]
                sizes.append([last - first for first, last in zip(bounds, bounds[1:])])
        return sizes

    def _row_offsets(self) -> List[int]:
        if not self._offsets:
            self._offsets = [0, *accumulate(self.rows)]
        return self._offsets

    def pack(
        self,
        start: int,
        stop: int,
        ids: Sequence[int],
        queue_ns: Sequence[int],
        flags: int,
        put: Optional[result_frames.PutResults] = None,
    ) -> List[Buffer]:
        """Return the frame of the results from `start` to `stop`. `put` is offered their bytes."""
        common = ResultFrame(0, *self.times, [], self.layout)
        rows, data = self.rows[start:stop], self.data(start, stop)
        sizes = self.sizes(start, stop) if self._has_strings else ()
        return result_frames.pack_grouped_results(ids, queue_ns, rows, common, data, sizes, flags, put)

    def __len__(self) -> int:
        return len(self._batch)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        rows, pending = self.rows[index], self._batch[index]
        tensors = []
        for ((name, datatype, shape, _), _), data in zip(self._outputs, self.data(index, index + 1)):
            tensors.append(Tensor(name, datatype, (rows,) + shape[1:] if self._is_by_row else shape, data))
        queue_ns = int((self.began - pending.arrived) * 1e9)
        return ResultFrame(queue_ns, *self.times, tensors, layout_of("", (), tensors))


def one_result(
    tensors: Sequence[Tensor], queue_s: float, input_s: float, infer_s: float, batch_rows: int = 1, final: bool = True
) -> ResultFrame:
    """Return the result of one request, whose outputs were not split from those of others. Times are in seconds."""
    times = int(queue_s * 1e9), int(input_s * 1e9), int(infer_s * 1e9), 0
    return ResultFrame(*times, batch_rows, list(tensors), layout_of("", (), tensors), final)


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


def send_answer(connection: Connection, request_id: int, outcome: Outcome) -> bool:
    """Queue one of several answers to a request. Return whether it is the last one, as a failure is."""
    if isinstance(outcome, Failure):
        send_failure(connection, request_id, outcome)
        return True
    flags = wire.FIRST_OF_BATCH if outcome.final else 0
    connection.queue(result_frames.pack_result([(request_id, outcome)], flags, connection.put_results))
    return outcome.final


def send_failure(connection: Connection, request_id: int, failure: Failure) -> None:
    connection.queue([wire.pack_json(wire.ERROR, failure._asdict(), request_id)])


def _send_rows(batch: Batch, results: BatchResults) -> None:
    """Send the rows of neighboring requests in one frame, if they go to one front."""
    ids, start, flag = batch.ids, 0, wire.FIRST_OF_BATCH
    if len(batch.groups) == 1 and results.total <= MAX_FRAME_BYTES:  # which is true of most batches
        group = batch.groups[0]
        queue_ns = [int((results.began - group.arrived) * 1e9)] * len(ids)
        group.source.queue(results.pack(0, len(ids), ids, queue_ns, flag))
        return
    for groups in _neighbors(batch.groups):
        queue_ns = []
        for group in groups:
            queue_ns += [int((results.began - group.arrived) * 1e9)] * len(group)
        stop = start + len(queue_ns)
        count = stop - start  # of results in one frame
        if results.total > MAX_FRAME_BYTES:
            count = max(1, MAX_FRAME_BYTES // max(1, results.largest))
        for first in range(start, stop, count):
            last = min(first + count, stop)
            waited = queue_ns[first - start : last - start]
            source = groups[0].source
            source.queue(results.pack(first, last, ids[first:last], waited, flag, source.put_results))
            flag = 0
        start = stop


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
        largest = max([sum([len(tensor.data) for tensor in result.outputs]) for _, result in each])
        per_frame = max(1, MAX_FRAME_BYTES // max(1, largest))
        for start in range(0, len(each), per_frame):
            source.queue(result_frames.pack_result(each[start : start + per_frame], flag, source.put_results))
            flag = 0


def _frame_key(answered: Tuple[Pending, Outcome]) -> Tuple[Connection, Optional[Any]]:
    """Return what must be equal for neighboring results to share a frame.

    The second part consists of layout, `final` and durations, or is None for a failure.
    """
    pending, outcome = answered
    return pending.source, None if isinstance(outcome, Failure) else (outcome.layout, outcome.final, outcome[1:5])
