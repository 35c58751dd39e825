"""Requests in the worker's queue, as they came: those of one frame together.

Requests of one frame differ only in their bytes, ids and deadlines. They stay together from the socket through the
batch to their results, so that most steps are taken once for all of them.
"""

from typing import Any, List, NamedTuple, Sequence

from runtimes.layouts import GroupedTensors
from runtimes.wire import InferFrame, RequestGroup


class Pending(NamedTuple):
    """A request that waits or runs, where one is looked at alone. The rest is as in PendingGroup."""

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
    rows     of each request; 0 if the model is not batched: the request runs as it is
    key      equal for requests that may share a batch; None if each must run alone
    """

    __slots__ = ("arrived", "key", "requests", "rows", "source", "start", "stop")

    def __init__(
        self, source: Any, requests: RequestGroup, start: int, stop: int, arrived: float, rows: int, key: Any
    ) -> None:
        self.source, self.requests, self.start, self.stop = source, requests, start, stop
        self.arrived, self.rows, self.key = arrived, rows, key

    def __len__(self) -> int:
        return self.stop - self.start

    def part(self, start: int, stop: int) -> "PendingGroup":
        """Return the requests from `start` to `stop`, counted from the first of this group."""
        first = self.start
        return PendingGroup(self.source, self.requests, first + start, first + stop, self.arrived, self.rows, self.key)

    @property
    def ids(self) -> Sequence[int]:
        return self.requests.numbers[self.start : self.stop]

    @property
    def first_deadline(self) -> float:
        return self.requests.deadlines[self.start]

    def pendings(self) -> List[Pending]:
        """Return the requests one by one."""
        numbers, deadlines, priorities, inputs = self.requests
        signature, outputs, _ = layout = inputs.layout
        pendings = []
        for member in range(self.start, self.stop):
            tensors = GroupedTensors(inputs, member)
            frame = InferFrame(deadlines[member], priorities[member], signature, outputs, tensors, layout)
            pendings.append(Pending(self.source, numbers[member], frame, self.arrived, self.rows, self.key))
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
            self.rows += group.rows * (group.stop - group.start)

    def alone(self, is_batched: bool) -> "List[Batch]":
        """Return a batch for each request. is_batched: whether rows are still counted."""
        batches = []
        for group in self.groups:
            for index in range(len(group)):
                part = group.part(index, index + 1)
                if not is_batched:
                    part.rows, part.key = 0, None
                batches.append(Batch([part]))
        return batches

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Any:
        if not self._pendings:
            self._pendings = [pending for group in self.groups for pending in group.pendings()]
        return self._pendings[index]
