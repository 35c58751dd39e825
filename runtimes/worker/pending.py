"""Requests in the worker's queue, as they came: those of one frame together.

Requests of one frame differ only in their bytes, rows, ids and deadlines. They stay together from the socket through
the batch to their results, so that most steps are taken once for all of them.
"""

from typing import Any, List, NamedTuple, Sequence, Tuple

from runtimes.layouts import GroupedTensors
from runtimes.request_frames import InferFrame, RequestGroup


class Pending(NamedTuple):
    """A request that waits or runs, where one is looked at alone. The rest is as in PendingGroup.

    rows  0 if the model is not batched: the request runs as it is
    """

    source: Any
    id: int
    frame: InferFrame
    arrived: float
    rows: int
    key: Any


class PendingGroup:
    """Neighboring requests of one frame that wait or run together: those from `start` to `stop`.

    source   the connection that the results go to
    arrived  time.monotonic() seconds
    unit     the rows of each request, by which those that its frame states are multiplied if there are any; 0 if the
             model is not batched
    rows     of all of them; 0 if the model is not batched
    key      equal for requests that may share a batch; None if each must run alone
    """

    __slots__ = ("arrived", "key", "requests", "rows", "source", "start", "stop", "unit")

    def __init__(
        self, source: Any, requests: RequestGroup, start: int, stop: int, arrived: float, unit: int, key: Any
    ) -> None:
        self.source, self.requests, self.start, self.stop = source, requests, start, stop
        self.arrived, self.unit, self.key = arrived, unit, key
        offsets = requests.inputs.offsets
        self.rows = unit * (offsets[stop] - offsets[start])

    def __len__(self) -> int:
        return self.stop - self.start

    def counted(self, unit: int, key: Any) -> "PendingGroup":
        """Return the same requests with another unit and key."""
        return PendingGroup(self.source, self.requests, self.start, self.stop, self.arrived, unit, key)

    def part(self, start: int, stop: int) -> "PendingGroup":
        """Return the requests from `start` to `stop`, counted from the first of this group."""
        first = self.start
        return PendingGroup(self.source, self.requests, first + start, first + stop, self.arrived, self.unit, self.key)

    @property
    def ids(self) -> Sequence[int]:
        return self.requests.numbers[self.start : self.stop]

    @property
    def each_rows(self) -> Sequence[int]:
        """The rows of each request."""
        inputs = self.requests.inputs
        if self.unit and inputs.by_row:
            return inputs.rows[self.start : self.stop]
        return [self.unit] * (self.stop - self.start)

    @property
    def first_deadline(self) -> float:
        return self.requests.deadlines[self.start]

    def pendings(self) -> List[Pending]:
        """Return the requests one by one."""
        numbers, deadlines, priorities, inputs, contexts = self.requests
        pendings = []
        for member, rows in enumerate(self.each_rows, self.start):
            tensors, layout = GroupedTensors(inputs, member), inputs.layout_of(member)
            context = contexts[member] if contexts else b""
            frame = InferFrame(deadlines[member], priorities[member], layout[0], layout[1], tensors, layout, context)
            pendings.append(Pending(self.source, numbers[member], frame, self.arrived, rows, self.key))
        return pendings


class Batch(Sequence[Pending]):
    """Requests that run together. A sequence of single requests.

    key        of all requests, as in PendingGroup
    signature  of all requests
    outputs    the outputs that each of them requests; empty for all
    ids        of all requests, in order
    rows       of all requests; 0 if the model is not batched
    """

    __slots__ = ("_pendings", "groups", "ids", "key", "outputs", "rows", "signature")

    def __init__(self, groups: List[PendingGroup]) -> None:
        self.groups = groups
        self._pendings: List[Pending] = []  # empty until one is asked for
        self.key = groups[0].key
        self.signature, self.outputs, _ = groups[0].requests.inputs.layout
        self.rows = 0
        self.ids: List[int] = []
        for group in groups:
            self.ids += group.requests.numbers[group.start : group.stop]
            self.rows += group.rows

    def alone(self, is_batched: bool) -> "List[Batch]":
        """Return a batch for each request. is_batched: whether rows are still counted."""
        batches = []
        for group in self.groups:
            for index in range(len(group)):
                part = group.part(index, index + 1)
                batches.append(Batch([part if is_batched else part.counted(0, None)]))
        return batches

    @property
    def parents(self) -> List[Tuple[Any, Sequence[int]]]:
        """The connections of the requests, each with their ids, for the calls of the model."""
        return [(group.source, group.ids) for group in self.groups]

    @property
    def each_rows(self) -> Sequence[int]:
        """The rows of each request."""
        if len(self.groups) == 1:
            return self.groups[0].each_rows
        return [rows for group in self.groups for rows in group.each_rows]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Any:
        if not self._pendings:
            self._pendings = [pending for group in self.groups for pending in group.pendings()]
        return self._pendings[index]
