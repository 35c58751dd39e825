"""The requests that wait in this front for one version of one model, and the workers that take them."""

import asyncio
import heapq
import time
from dataclasses import dataclass

from gateway.engine.client import WorkerClient
from gateway.engine.types import InferRequest, ModelStatus
from gateway.errors import Internal, ModelportError, from_kind
from runtimes import wire
from runtimes.wire import Frame, InferFrame, ResultFrame

# A request of a running batch gets one more try, alone, when the worker dies; a stateful model's gets none.
_MOST_DEATHS = 2


@dataclass(slots=True, frozen=True)
class Answer:
    """What came back from the worker. queued_s: how long the request waited in this front first."""

    frame: ResultFrame
    first_of_batch: bool
    queued_s: float


@dataclass(slots=True, eq=False)
class Waiting:
    """One admitted request until it is answered. Times are time.monotonic() seconds."""

    id: int
    request: InferRequest
    rows: int
    deadline: float
    queued_at: float
    answer: "asyncio.Future[Answer]"
    sent_at: float = 0.0
    deaths: int = 0
    worker: WorkerClient | None = None

    @property
    def order(self) -> tuple[int, int]:
        return self.request.priority, self.id


class ModelQueue:
    """Sends in order of priority and arrival, to the worker with the fewest rows that has room.

    A worker that dies takes nothing with it: what was not in its running batch goes elsewhere,
    what was in it is tried once more in a batch of its own, since one of them may have killed it.
    """

    def __init__(self, status: ModelStatus) -> None:
        self.status = status
        self.clients: list[WorkerClient] = []
        # Set when the version has left the repository: what was admitted is still answered.
        self.closing = False
        self._heap: list[tuple[tuple[int, int], Waiting]] = []
        self._sent: dict[int, Waiting] = {}

    @property
    def queued(self) -> int:
        return sum(not waiting.answer.done() for _, waiting in self._heap)

    @property
    def under_way(self) -> int:
        return self.queued + len(self._sent)

    @property
    def idle(self) -> bool:
        return not self._sent and not self.queued

    def put(self, waiting: Waiting) -> None:
        heapq.heappush(self._heap, (waiting.order, waiting))
        self.pump()

    def pump(self) -> None:
        """Send what there is room for."""
        while self._heap:
            waiting = self._heap[0][1]
            if waiting.answer.done():
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
            self._send(waiting, client)

    def _send(self, waiting: Waiting, client: WorkerClient) -> None:
        waiting.worker, waiting.sent_at = client, time.monotonic()
        self._sent[waiting.id] = waiting
        request = waiting.request
        signature = request.signature or self.status.default_signature
        frame = InferFrame(waiting.deadline, request.priority, signature, list(request.outputs), list(request.inputs))
        flags = wire.ALONE if waiting.deaths else 0
        client.send(waiting.id, waiting.rows, wire.pack_infer(waiting.id, frame, flags))

    def abandon(self, waiting: Waiting) -> None:
        """Nobody waits for it any more. In the heap it is skipped; at a worker it is cancelled."""
        waiting.answer.cancel()
        if waiting.id in self._sent and waiting.worker is not None:
            waiting.worker.cancel(waiting.id)

    def fail(self, waiting: Waiting, error: ModelportError) -> None:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)

    def fail_queued(self, error: ModelportError) -> None:
        """Answer all that has not been sent: no worker will come for it."""
        heap, self._heap = self._heap, []
        for _, waiting in heap:
            self.fail(waiting, error)

    def on_frame(self, client: WorkerClient, frame: Frame) -> None:
        waiting = self._sent.pop(frame.id, None)
        if waiting is not None and not waiting.answer.done():
            self._settle(waiting, frame)
        self.pump()
        self.close_if_done(client)

    def _settle(self, waiting: Waiting, frame: Frame) -> None:
        if frame.kind == wire.RESULT:
            queued_s = waiting.sent_at - waiting.queued_at
            first = bool(frame.flags & wire.FIRST_OF_BATCH)
            waiting.answer.set_result(Answer(wire.unpack_result(frame.body), first, queued_s))
        else:
            failure = wire.unpack_json(frame.body)
            waiting.answer.set_exception(from_kind(failure["kind"], failure["message"]))

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
            heapq.heappush(self._heap, (waiting.order, waiting))
        self.pump()

    def retire(self, client: WorkerClient) -> None:
        """Another worker takes its place: nothing new is sent to it, what it has it answers."""
        client.retiring = True
        self.close_if_done(client)

    def close_if_done(self, client: WorkerClient) -> None:
        """The worker ends when every front has closed its connection."""
        if not client.in_flight and (client.retiring or (self.closing and not self.queued)):
            client.close()
