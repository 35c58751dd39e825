"""The requests that wait in this front for one version of one model, and the workers that take them."""

import heapq
import time
from collections.abc import Callable

from gateway.domain.types import ModelStatus
from gateway.engine.client import WorkerClient
from gateway.engine.metrics import ModelMetrics
from gateway.engine.servable import Answer, Waiting
from gateway.engine.validate import FormChecks
from gateway.errors import Internal, ModelportError, from_kind
from runtimes import wire
from runtimes.wire import Frame, InferFrame, ResultFrame

# A request of a running batch gets one more try, alone, when the worker dies; a stateful model's gets none, nor
# does one of whose answers the client has some.
_MAX_DEATHS = 2
_MAX_LEFTOVERS = 64


class ModelQueue:
    """The Servable whose requests run in workers.

    Sends in order of priority and arrival, to the worker with the fewest rows that has room. A worker
    that dies takes nothing with it: what was not in its running batch goes elsewhere, what was in it is
    tried once more in a batch of its own, since one of them may have killed it.
    """

    def __init__(
        self, status: ModelStatus, metrics: ModelMetrics, tidy: "Callable[[ModelQueue], None] | None" = None
    ) -> None:
        """`tidy` is called where a request has ended and no worker, or no version, is left to answer the others."""
        self.status = status
        self._tidy = tidy
        self.metrics = metrics
        # What is known to fit the model: checked once, whatever the bytes are.
        self.forms = FormChecks(status)
        self.clients: list[WorkerClient] = []
        # Set when the version has left the repository: what was admitted is still answered.
        self.closing = False
        self._queued: dict[int, Waiting] = {}
        self._sent: dict[int, Waiting] = {}
        # The order of what is queued; what has been given up stays in it until it comes up, or is in the way.
        self._heap: list[tuple[tuple[int, int], Waiting]] = []

    def follow(self, status: ModelStatus) -> None:
        """Take over what the supervisor now says of the model."""
        if status != self.status:
            self.status = status
            self.forms = FormChecks(status)

    @property
    def queued(self) -> int:
        return len(self._queued)

    @property
    def under_way(self) -> int:
        return len(self._queued) + len(self._sent)

    def put(self, waiting: Waiting) -> None:
        client = None if self._queued else self._pick()
        if client is not None:
            self._send(waiting, client)
            self._tell()
            return
        self._enqueue(waiting)
        self.pump()

    def _enqueue(self, waiting: Waiting) -> None:
        self._queued[waiting.id] = waiting
        heapq.heappush(self._heap, (waiting.order, waiting))

    @property
    def target_s(self) -> float:
        return self.status.latency_target_ms / 1000

    def would_be_late(self, rows: int, now: float, deadline: float) -> bool:
        """Whether even the worker with the fewest rows would answer too late."""
        client = min(self.clients, key=lambda client: client.rows_in_flight, default=None)
        return client is not None and client.estimator.would_be_late(rows, now, deadline)

    def _tell(self) -> None:
        """With a latency target, every front sees what all of them have under way for a worker."""
        if self.status.latency_target_ms and self.clients:
            queued = sum(waiting.rows for waiting in self._queued.values()) / len(self.clients)
            for client in self.clients:
                client.estimator.tell(client.rows_in_flight + queued)

    def pump(self) -> None:
        """Send what there is room for."""
        self._pump()
        self._tell()

    def _pump(self) -> None:
        while self._queued:
            waiting = self._heap[0][1]
            if waiting.id not in self._queued:
                heapq.heappop(self._heap)
                continue
            client = self._pick()
            if client is None:
                return
            heapq.heappop(self._heap)
            del self._queued[waiting.id]
            self._send(waiting, client)

    def _pick(self) -> WorkerClient | None:
        """The worker with room that has the fewest rows."""
        best: WorkerClient | None = None
        for client in self.clients:
            if client.has_room and (best is None or client.rows_in_flight < best.rows_in_flight):
                best = client
        return best

    def _send(self, waiting: Waiting, client: WorkerClient) -> None:
        request = waiting.request
        assert request is not None
        waiting.worker, waiting.sent_at = client, time.monotonic()
        self._sent[waiting.id] = waiting
        signature, outputs, _ = waiting.form
        frame = InferFrame(waiting.deadline, waiting.order[0], signature, outputs, request.inputs, waiting.form)
        client.send(waiting.id, waiting.rows, frame, wire.ALONE if waiting.deaths else 0)

    def release(self, waiting: Waiting) -> None:
        """Nobody waits for it any more, answered or not: it is not sent, and cancelled where it was."""
        if waiting.worker is not None and waiting.id in self._sent:
            waiting.worker.cancel(waiting.id)
        else:
            self._queued.pop(waiting.id, None)
            if len(self._heap) > 2 * len(self._queued) + _MAX_LEFTOVERS:
                self._heap = [(each.order, each) for each in self._queued.values()]
                heapq.heapify(self._heap)
        if self._tidy is not None and (self.closing or not self.clients):
            self._tidy(self)

    def fail_queued(self, error: ModelportError) -> None:
        """Answer all that has not been sent: no worker will come for it."""
        queued, self._queued, self._heap = self._queued, {}, []
        for waiting in queued.values():
            waiting.settle(error)

    def fail_all(self, error: ModelportError) -> None:
        self.fail_queued(error)
        for waiting in list(self._sent.values()):
            waiting.settle(error)

    def on_frame(self, client: WorkerClient, frame: Frame) -> None:
        if frame.kind == wire.RESULT:
            final = bool(frame.flags & wire.FINAL)
            results = wire.unpack_result(frame.body, final)
            if frame.flags & wire.FIRST_OF_BATCH:
                # Counted even if the client has gone: the batch ran all the same.
                self.metrics.record_execution(results[0][1])
            for number, result in results:
                if not final:
                    self._add_answer(number, result)
                    continue
                client.answered(number)
                waiting = self._sent.pop(number, None)
                if waiting is not None:
                    waiting.settle(Answer(result, waiting.sent_at - waiting.queued_at))
        else:
            client.answered(frame.id)
            waiting = self._sent.pop(frame.id, None)
            if waiting is not None:
                failure = wire.unpack_json(frame.body)
                waiting.settle(from_kind(failure["kind"], failure["message"]))
        if self._queued or self.status.latency_target_ms:
            self.pump()
        if client.retiring or self.closing:
            self.close_if_done(client)

    def _add_answer(self, number: int, result: ResultFrame) -> None:
        """Its room in the worker's window stays taken: another answer follows."""
        waiting = self._sent.get(number)
        if waiting is not None:
            waiting.answered = True
            waiting.add_answer(Answer(result, waiting.sent_at - waiting.queued_at))

    def on_lost(self, client: WorkerClient, running: frozenset[int]) -> None:
        if client in self.clients:
            self.clients.remove(client)
        for request_id in client.in_flight:
            waiting = self._sent.pop(request_id, None)
            if waiting is None or waiting.request is None:
                continue
            waiting.worker = None
            if request_id in running or waiting.answered:
                waiting.deaths += 1
                if waiting.deaths >= (1 if self.status.stateful or waiting.answered else _MAX_DEATHS):
                    error = Internal("the model's worker died while it ran this request, which is given up")
                    waiting.settle(error)
                    continue
            self._enqueue(waiting)
        self.pump()

    def close_if_done(self, client: WorkerClient) -> None:
        """The worker ends when every front has closed its connection."""
        if not client.in_flight and (client.retiring or (self.closing and not self._queued)):
            client.close()
