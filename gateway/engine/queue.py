"""The requests that wait in this front for one version of one model, and the workers that take them."""

import asyncio
import heapq
import time
from dataclasses import dataclass

from gateway.engine.client import WorkerClient
from gateway.engine.metrics import ModelMetrics
from gateway.engine.types import InferRequest, ModelStatus
from gateway.errors import Internal, ModelportError, from_kind
from runtimes import wire
from runtimes.wire import Frame, InferFrame, ResultFrame

# A request of a running batch gets one more try, alone, when the worker dies; a stateful model's gets none.
_MOST_DEATHS = 2
_MOST_LEFTOVERS = 64


@dataclass(slots=True, frozen=True)
class Answer:
    """What came back from the worker. queued_s: how long the request waited in this front first."""

    frame: ResultFrame
    queued_s: float


@dataclass(slots=True, eq=False)
class Waiting:
    """One admitted request until it is answered. Times are time.monotonic() seconds.

    request  None once it is answered or given up: its bytes are free then, wherever the rest is still noted
    """

    id: int
    request: InferRequest | None
    rows: int
    deadline: float
    queued_at: float
    answer: "asyncio.Future[Answer]"
    order: tuple[int, int]
    sent_at: float = 0.0
    deaths: int = 0
    worker: WorkerClient | None = None


class ModelQueue:
    """Sends in order of priority and arrival, to the worker with the fewest rows that has room.

    A worker that dies takes nothing with it: what was not in its running batch goes elsewhere,
    what was in it is tried once more in a batch of its own, since one of them may have killed it.
    """

    def __init__(self, status: ModelStatus, metrics: ModelMetrics) -> None:
        self.status = status
        self.metrics = metrics
        self.clients: list[WorkerClient] = []
        # Set when the version has left the repository: what was admitted is still answered.
        self.closing = False
        self._queued: dict[int, Waiting] = {}
        self._sent: dict[int, Waiting] = {}
        # The order of what is queued; what has been given up stays in it until it comes up, or is in the way.
        self._heap: list[tuple[tuple[int, int], Waiting]] = []

    @property
    def queued(self) -> int:
        return len(self._queued)

    @property
    def under_way(self) -> int:
        return len(self._queued) + len(self._sent)

    def put(self, waiting: Waiting) -> None:
        self._enqueue(waiting)
        self.pump()

    def _enqueue(self, waiting: Waiting) -> None:
        self._queued[waiting.id] = waiting
        heapq.heappush(self._heap, (waiting.order, waiting))

    def pump(self) -> None:
        """Send what there is room for."""
        while self._queued:
            waiting = self._heap[0][1]
            if waiting.id not in self._queued:
                heapq.heappop(self._heap)
                continue
            client = min(
                (client for client in self.clients if client.has_room),
                key=lambda client: client.rows_in_flight,
                default=None,
            )
            if client is None:
                return
            heapq.heappop(self._heap)
            del self._queued[waiting.id]
            self._send(waiting, client)

    def _send(self, waiting: Waiting, client: WorkerClient) -> None:
        request = waiting.request
        assert request is not None
        waiting.worker, waiting.sent_at = client, time.monotonic()
        self._sent[waiting.id] = waiting
        signature = request.signature or self.status.default_signature
        frame = InferFrame(waiting.deadline, request.priority, signature, list(request.outputs), list(request.inputs))
        flags = wire.ALONE if waiting.deaths else 0
        client.send(waiting.id, waiting.rows, wire.pack_infer(waiting.id, frame, flags))

    def release(self, waiting: Waiting) -> None:
        """Nobody waits for it any more, answered or not: it is not sent, and cancelled where it was."""
        waiting.request = None
        if self._queued.pop(waiting.id, None) is not None:
            if len(self._heap) > 2 * len(self._queued) + _MOST_LEFTOVERS:
                self._heap = [(each.order, each) for each in self._queued.values()]
                heapq.heapify(self._heap)
        elif waiting.id in self._sent and waiting.worker is not None:
            waiting.worker.cancel(waiting.id)

    def fail(self, waiting: Waiting, error: ModelportError) -> None:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)

    def fail_queued(self, error: ModelportError) -> None:
        """Answer all that has not been sent: no worker will come for it."""
        queued, self._queued, self._heap = self._queued, {}, []
        for waiting in queued.values():
            self.fail(waiting, error)

    def fail_all(self, error: ModelportError) -> None:
        self.fail_queued(error)
        for waiting in self._sent.values():
            self.fail(waiting, error)

    def on_frame(self, client: WorkerClient, frame: Frame) -> None:
        waiting = self._sent.pop(frame.id, None)
        if frame.kind == wire.RESULT:
            result = wire.unpack_result(frame.body)
            if frame.flags & wire.FIRST_OF_BATCH:
                # Counted even if the client has gone: the batch ran all the same.
                self.metrics.record_execution(result.batch_rows)
            if waiting is not None and not waiting.answer.done():
                waiting.answer.set_result(Answer(result, waiting.sent_at - waiting.queued_at))
        elif waiting is not None:
            failure = wire.unpack_json(frame.body)
            self.fail(waiting, from_kind(failure["kind"], failure["message"]))
        self.pump()
        self.close_if_done(client)

    def on_lost(self, client: WorkerClient, running: frozenset[int]) -> None:
        if client in self.clients:
            self.clients.remove(client)
        for request_id in client.in_flight:
            waiting = self._sent.pop(request_id, None)
            if waiting is None or waiting.answer.done():
                continue
            if request_id in running:
                waiting.deaths += 1
                if waiting.deaths >= (1 if self.status.stateful else _MOST_DEATHS):
                    self.fail(waiting, Internal("the model's worker died while it ran this request, which is given up"))
                    continue
            self._enqueue(waiting)
        self.pump()

    def close_if_done(self, client: WorkerClient) -> None:
        """The worker ends when every front has closed its connection."""
        if not client.in_flight and (client.retiring or (self.closing and not self._queued)):
            client.close()
