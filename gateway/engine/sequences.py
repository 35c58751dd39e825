"""The Servable of a model of sequences: each sequence has one worker, which gets its requests one after the other."""

from collections import deque
from collections.abc import Callable
from zlib import crc32

from gateway.domain.table import WorkerAddress
from gateway.domain.types import InferRequest, ModelStatus
from gateway.engine.client import WorkerClient
from gateway.engine.metrics import ModelMetrics
from gateway.engine.queue import ModelQueue
from gateway.engine.servable import QueuedRequest
from gateway.engine.validate import LayoutValidator, ValidRequest
from gateway.errors import InvalidRequest, ModelportError, Unavailable
from runtimes.contract import SequenceControl

SequenceId = int | str


def slot_of(sequence: SequenceId, slots: int) -> int:
    """Return the instance that has a sequence: the same in all fronts, and after any restart."""
    return crc32(f"{type(sequence).__name__} {sequence}".encode()) % slots


class SequenceValidator(LayoutValidator):
    """Requires what Triton's sequence batcher requires too; its clients may know the words."""

    def check(self, request: InferRequest) -> ValidRequest:
        if request.sequence is None:
            raise InvalidRequest(
                f"inference request to model '{request.model}' must specify a non-zero or non-empty correlation ID"
            )
        checked = super().check(request)
        if checked.rows != 1:
            raise InvalidRequest(
                f"inference request to model '{request.model}' must specify batch-size 1 due to requirements of "
                "sequence batcher"
            )
        return checked


class SlotQueue(ModelQueue):
    """The queue of one instance.

    Its worker has at most one request of each sequence, and gets the next one when it has answered. So the requests of
    a sequence stay in their order, whatever their priorities, sizes and clients. Other sequences do not wait for that,
    and neither do they wait for the window: those that have no place yet would fill it.

    If a request that was to start a sequence is refused, or settled while it waits, the worker ends the sequence at its
    position, because what follows is not meant for the old one.
    """

    def __init__(self, status: ModelStatus, metrics: ModelMetrics, tidy: Callable[[ModelQueue], None]) -> None:
        super().__init__(status, metrics, tidy)
        # The requests in progress of each sequence, oldest first. The others wait for the first one. None: the sequence
        # ends here.
        self._lanes: dict[SequenceId, deque[QueuedRequest | None]] = {}
        self._sequences: dict[int, SequenceControl] = {}  # of each request in progress, by its id
        self._waiting = 0

    @property
    def queued(self) -> int:
        return super().queued + self._waiting

    @property
    def under_way(self) -> int:
        return super().under_way + self._waiting

    def has(self, queued: QueuedRequest) -> bool:
        return queued.id in self._sequences

    def put(self, queued: QueuedRequest) -> None:
        sequence = self._sequences[queued.id] = _sequence_of(queued)
        lane = self._lanes.setdefault(sequence.id, deque())
        lane.append(queued)
        if lane[0] is queued:
            super().put(queued)
        else:
            self._waiting += 1

    def _pick(self, rows: int) -> WorkerClient | None:
        return next((client for client in self.clients if client.window), None)

    def release(self, queued: QueuedRequest) -> None:
        sequence = self._sequences.get(queued.id)
        if sequence is not None and self._lanes[sequence.id][0] is not queued:
            lane = self._lanes[sequence.id]
            index = lane.index(queued)
            del lane[index]
            if sequence.start and lane[index - 1] is not None:
                lane.insert(index, None)
            del self._sequences[queued.id]
            self._waiting -= 1
            self.tidy()
            return
        super().release(queued)
        if queued.worker is None or queued.id not in queued.worker.in_flight:
            self._advance(queued)

    def _on_ended(self, ended: list[tuple[int, QueuedRequest]]) -> None:
        for _, queued in ended:
            self._advance(queued)

    def _advance(self, queued: QueuedRequest) -> None:
        """Send the next request of the sequence, if there is one."""
        sequence = self._sequences.pop(queued.id, None)
        if sequence is None:
            return
        lane = self._lanes[sequence.id]
        lane.popleft()
        while lane:
            following = lane[0]
            if following is not None:
                self._waiting -= 1
                self._enqueue(following)
                self.pump()
                return
            lane.popleft()
            self._end_at_worker(sequence.id)
        del self._lanes[sequence.id]

    def end_sequence(self, sequence: SequenceId) -> None:
        """End a sequence when its requests in progress have ended."""
        lane = self._lanes.get(sequence)
        if lane is None:
            self._end_at_worker(sequence)
        elif lane[-1] is not None:
            lane.append(None)

    def _end_at_worker(self, sequence: SequenceId) -> None:
        client = self._pick(0)
        if client is not None:  # otherwise there will be a new worker, which has no sequences
            client.end_sequence(sequence)

    def fail_queued(self, error: ModelportError) -> None:
        for lane in list(self._lanes.values()):
            for queued in list(lane)[1:]:
                if queued is not None:
                    queued.fail(error)
        super().fail_queued(error)

    def on_lost(self, client: WorkerClient, running: frozenset[int]) -> None:
        """End the sequences of a lost worker. Only requests that start one can run elsewhere."""
        error = Unavailable("the model's worker died, and the state of this sequence with it; start the sequence again")
        sent = list(client.in_flight.values())
        for queued in sent:
            if not _starts(queued):
                lane = self._lanes.get(self._sequences[queued.id].id, ())
                for each in list(lane):
                    if each is not None and each is not queued and _starts(each):
                        break
                    if each is not None:
                        each.fail(error)
        super().on_lost(client, running)
        for queued in sent:
            if queued.worker is client:  # it was not sent again
                self._advance(queued)


def _sequence_of(queued: QueuedRequest) -> SequenceControl:
    """Return the sequence of a valid request that is not settled."""
    assert queued.request is not None
    assert queued.request.sequence is not None
    return queued.request.sequence


def _starts(queued: QueuedRequest) -> bool:
    request = queued.request
    return request is not None and request.sequence is not None and request.sequence.start


class SequenceQueues:
    """A SlotQueue for each instance of a version. What the engine and Routes use of a ModelQueue, it has too."""

    def __init__(self, status: ModelStatus, metrics: ModelMetrics, tidy: "Callable[[SequenceQueues], None]") -> None:
        self.metrics = metrics
        self._tidy = tidy
        self._closing = False
        self._slots: list[SlotQueue] = []
        self._set_status(status)

    def _set_status(self, status: ModelStatus) -> None:
        self.status = status
        self.validator = SequenceValidator(status)
        self.target_s = status.latency_target_ms / 1000
        while len(self._slots) < status.instances:
            self._slots.append(SlotQueue(status, self.metrics, lambda _: self._tidy(self)))

    def update_status(self, status: ModelStatus) -> None:
        """Apply the supervisor's newest status of the version. It may have another number of instances now."""
        if status == self.status:
            return
        self._set_status(status)
        for slot in self._slots:
            slot.update_status(status)
        for slot in self._slots[status.instances :]:
            slot.fail_queued(Unavailable("the model was loaded again with fewer instances; start the sequence again"))

    def queue_of(self, worker: WorkerAddress) -> ModelQueue:
        return self._slots[min(worker.slot, len(self._slots) - 1)]

    @property
    def clients(self) -> list[WorkerClient]:
        return [client for slot in self._slots for client in slot.clients]

    @property
    def closing(self) -> bool:
        return self._closing

    @closing.setter
    def closing(self, value: bool) -> None:
        self._closing = value
        for slot in self._slots:
            slot.closing = value

    @property
    def queued(self) -> int:
        return sum(slot.queued for slot in self._slots)

    @property
    def under_way(self) -> int:
        return sum(slot.under_way for slot in self._slots)

    def would_be_late(self, rows: int, now: float, deadline: float) -> bool:
        return all(slot.would_be_late(rows, now, deadline) for slot in self._slots)

    def end_sequence(self, sequence: SequenceId) -> None:
        """Note that a request which was to start a sequence is refused. The old one ends, if there is one."""
        self._slots[slot_of(sequence, self.status.instances)].end_sequence(sequence)

    def put(self, queued: QueuedRequest) -> None:
        self._slots[slot_of(_sequence_of(queued).id, self.status.instances)].put(queued)

    def acknowledge(self, queued: QueuedRequest) -> None:
        """Do nothing: no request gets an answer that is not the final one."""

    def release(self, queued: QueuedRequest) -> None:
        for slot in self._slots:
            if slot.has(queued):
                slot.release(queued)

    def pump(self) -> None:
        for slot in self._slots:
            slot.pump()

    def close_if_done(self, client: WorkerClient) -> None:
        for slot in self._slots:
            if client in slot.clients:
                slot.close_if_done(client)

    def fail_queued(self, error: ModelportError) -> None:
        for slot in self._slots:
            slot.fail_queued(error)

    def fail_all(self, error: ModelportError) -> None:
        for slot in self._slots:
            slot.fail_all(error)
