"""Queues the requests for one version of a model in this front, and sends them to the version's workers."""

import time
from collections import defaultdict
from collections.abc import Callable

from gateway.domain.identity import Identity
from gateway.domain.table import WorkerAddress
from gateway.domain.types import ModelStatus
from gateway.engine.client import WorkerClient
from gateway.engine.fair_queue import FairQueue
from gateway.engine.metrics import ModelMetrics
from gateway.engine.servable import QueuedRequest
from gateway.engine.validate import LayoutValidator
from gateway.errors import Internal, ModelportError, OutOfMemory
from runtimes.fair_order import LEVEL_BITS, MAX_LEVEL
from runtimes.result_frames import ResultGroup

# A request whose batch was running when its worker crashed is retried once, in a batch of its own. There is no retry
# if the model is stateful, or if the client already has a partial answer.
_MAX_CRASHES = 2
# A client that has less than this share of a worker's window in flight may send although other clients have filled the
# window. With a larger share, more requests wait at the worker; with a smaller one, clients with a few connections wait
# for room in the window.
_GUEST_SHARE = 1 / 4


class ModelQueue:
    """The Servable whose requests run in workers.

    Requests are sent in the order of FairQueue, each to the worker with the fewest rows in flight among those whose
    window has room. If other clients have filled all windows, a client still has a small one of its own, because the
    worker, which orders fairly too, can only choose among the requests that it has.

    No request is lost when a worker crashes: those that were not in the running batch are sent again as before. Those
    that were in it are retried once, each in a batch of its own, because one of them may have caused the crash.
    """

    def __init__(
        self, status: ModelStatus, metrics: ModelMetrics, tidy: "Callable[[ModelQueue], None] | None" = None
    ) -> None:
        """`tidy` is called when a request has ended and the queue has no worker, or is closing."""
        self._set_status(status)
        self._tidy = tidy
        self.metrics = metrics
        self.clients: list[WorkerClient] = []
        # Set when the version has left the table. Requests that were admitted before are still answered.
        self.closing = False
        self._queued = FairQueue()
        # The number of requests that were sent and have no final answer: those in flight of all clients.
        self._sent = 0
        # Their rows by flow, for the flows of clients that are known.
        self._rows_by_flow: defaultdict[int, int] = defaultdict(int)

    def queue_of(self, worker: WorkerAddress) -> "ModelQueue":
        """Return the queue whose requests run in this worker."""
        return self

    def tidy(self) -> None:
        """Have the owner remove what has ended, if nothing can run any more, or nothing is to."""
        if (self.closing or not self.clients) and self._tidy is not None:
            self._tidy(self)

    def update_status(self, status: ModelStatus) -> None:
        """Apply the supervisor's newest status of the version."""
        if status != self.status:
            self._set_status(status)

    def _set_status(self, status: ModelStatus) -> None:
        self.status = status
        self.validator = LayoutValidator(status)
        # Read for each request.
        self.target_s = status.latency_target_ms / 1000

    @property
    def queued(self) -> int:
        return len(self._queued.items)

    @property
    def under_way(self) -> int:
        return len(self._queued.items) + self._sent

    def put(self, queued: QueuedRequest) -> None:
        client = None if self._queued.items else self._pick(queued.rows)
        if client is None:
            self._enqueue(queued)
            self.pump()
            return
        queued.worker, queued.sent_at = client, queued.queued_at
        self._sent += 1
        priority = queued.priority
        if priority > MAX_LEVEL:
            self._rows_by_flow[priority >> LEVEL_BITS] += queued.rows
        client.send(queued)
        if self.target_s:
            self._publish_rows()

    def would_be_late(self, rows: int, now: float, deadline: float) -> bool:
        """Return whether even the worker with the fewest rows in flight would answer too late."""
        client = min(self.clients, key=lambda client: client.rows_in_flight, default=None)
        return client is not None and client.estimator.would_be_late(rows, now, deadline)

    def _publish_rows(self) -> None:
        """Publish to all fronts how many rows this front has in progress for each worker (latency targets only)."""
        if self.target_s and self.clients:
            share = sum(queued.rows for queued in self._queued.items.values()) / len(self.clients)
            for client in self.clients:
                client.estimator.publish_rows(client.rows_in_flight + share)

    def pump(self) -> None:
        """Send as many queued requests as the workers' windows have room for."""
        self._pump()
        self._publish_rows()

    def _pump(self) -> None:
        while (queued := self._queued.first()) is not None:
            client = self._pick(queued.rows)
            if client is None and queued.priority > MAX_LEVEL:
                client = self._pick_for_guest(queued)
            if client is None:
                return
            self._queued.take(queued)
            queued.worker, queued.sent_at = client, time.monotonic()
            self._sent += 1
            if queued.priority > MAX_LEVEL:
                self._rows_by_flow[queued.priority >> LEVEL_BITS] += queued.rows
            client.send(queued)

    def _enqueue(self, queued: QueuedRequest) -> None:
        known = queued.priority > MAX_LEVEL
        self._queued.add(queued, self._rows_by_flow.get(queued.priority >> LEVEL_BITS, 0) if known else 0)

    def _end_flow(self, flow: int, rows: int) -> None:
        """Count rows of a known client that were sent no longer."""
        by_flow = self._rows_by_flow
        left = by_flow[flow] - rows
        if left:
            by_flow[flow] = left
        else:
            del by_flow[flow]

    def _end(self, sent: QueuedRequest) -> None:
        """Stop counting a request that was sent: it has its final answer, or its worker has ended."""
        self._sent -= 1
        if sent.priority > MAX_LEVEL:
            self._end_flow(sent.priority >> LEVEL_BITS, sent.rows)

    def _end_known(self, ended: list[tuple[int, QueuedRequest]], results: ResultGroup) -> None:
        """Do for the requests of a frame what the requests of known clients need. Mostly, one has sent all of them."""
        last, rows = ended[0][1], 0
        for _, sent in ended:
            if sent.identity is not last.identity:  # otherwise, the flow is the same
                self._end_rows(last, rows, results)
                last, rows = sent, 0
            rows += sent.rows
        self._end_rows(last, rows, results)

    def _end_rows(self, sent: QueuedRequest, rows: int, results: ResultGroup) -> None:
        """Stop counting rows of the client that sent this request, and charge it for them."""
        if sent.priority > MAX_LEVEL:
            self._end_flow(sent.priority >> LEVEL_BITS, rows)
        if sent.identity is not None and not sent.answered:  # each of several answers was charged when it came
            _charge(sent.identity, rows, results, sent.sent_at)

    def _pick_for_guest(self, queued: QueuedRequest) -> WorkerClient | None:
        """Return a worker beyond its window, for a request of a known client that has little in flight."""
        if not self.clients:
            return None
        client = min(self.clients, key=lambda client: client.rows_in_flight)
        rows, window = self._rows_by_flow.get(queued.priority >> LEVEL_BITS, 0), client.window
        # Many clients together may not send more than another window.
        return client if rows <= window * _GUEST_SHARE and client.rows_in_flight < 2 * window else None

    def _pick(self, rows: int) -> WorkerClient | None:
        """Return the worker with the fewest rows in flight among those that have room for a request."""
        best: WorkerClient | None = None
        for client in self.clients:
            if client.has_room(rows) and (best is None or client.rows_in_flight < best.rows_in_flight):
                best = client
        return best

    def acknowledge(self, queued: QueuedRequest) -> None:
        if queued.worker is not None:
            queued.worker.acknowledge(queued.id)

    def release(self, queued: QueuedRequest) -> None:
        """Remove a settled request from the queue, or cancel it at the worker that still has it."""
        worker = queued.worker
        if worker is None:
            self._queued.remove(queued)
        elif queued.id in worker.in_flight and not worker.cancel(queued.id):
            self._end(queued)
            self.pump()
            self.close_if_done(worker)
        self.tidy()

    def take_queued(self) -> list[QueuedRequest]:
        """Forget all requests that were not sent, and return them."""
        unsent, self._queued = self._queued, FairQueue()
        return list(unsent.items.values())

    def adopt(self, queued: QueuedRequest) -> None:
        """Accept a request that another version had, and cannot answer."""
        self._enqueue(queued)
        self.pump()

    def fail_queued(self, error: ModelportError) -> None:
        """Fail all requests that were not sent."""
        for queued in self.take_queued():
            queued.fail(error)

    def fail_all(self, error: ModelportError) -> None:
        self.fail_queued(error)
        for client in list(self.clients):
            for sent in list(client.in_flight.values()):
                sent.fail(error)

    def on_results(self, client: WorkerClient, results: ResultGroup) -> None:
        """Deliver the answers of a frame. A request whose answer is not the final one still counts in the window."""
        answered = rows = 0
        if results.final:
            # All leave the window before the first is answered, because an answer may admit further requests.
            ended = client.complete(results.numbers)
            self._sent -= len(ended)
            if self._rows_by_flow and ended:
                self._end_known(ended, results)
            for index, sent in ended:
                if not sent.settled:
                    answered += 1
                    rows += sent.rows
                    sent.answer(results, index)
            self._on_ended(ended)
        else:
            for index, request_id in enumerate(results.numbers):
                asked = client.in_flight.get(request_id)
                if asked is not None and client.count_unread(request_id):
                    if asked.identity is not None:
                        _charge(asked.identity, asked.rows, results, asked.sent_at)
                    asked.answered = True
                    asked.answer(results, index)
        # Even if all clients have disconnected: the batch ran.
        self.metrics.count_results(results, answered, rows)
        self._go_on(client)

    def on_error(self, client: WorkerClient, number: int, error: ModelportError, ran_s: float = 0.0) -> None:
        """Fail the request with this id, for which its model has run `ran_s` seconds."""
        ended = client.complete((number,))
        for _, sent in ended:
            self._end(sent)
            _charge_failed(sent, ran_s)
            sent.fail(error)
        self._on_ended(ended)
        self._go_on(client)

    def _on_ended(self, ended: list[tuple[int, QueuedRequest]]) -> None:
        """Called when the worker has ended these requests, each with its index in a frame."""

    def _go_on(self, client: WorkerClient) -> None:
        """Use the room that an answer has left, or end with the last one."""
        if self._queued.items or self.target_s:
            self.pump()
        if client.retiring or self.closing:
            self.close_if_done(client)
        self.tidy()

    def on_lost(self, client: WorkerClient, running: frozenset[int]) -> None:
        """Send the requests of a worker that has ended to others; `running` has the ids of its running batch."""
        if client in self.clients:
            self.clients.remove(client)
        failed = []
        for request_id, sent in client.in_flight.items():
            self._end(sent)
            if request_id in running:
                _charge_failed(sent, client.ran_s / len(running))
            if sent.settled:
                continue
            sent.worker = None
            if request_id in running or sent.answered:
                sent.crashes += 1
                if sent.crashes >= (1 if self.status.stateful or sent.answered else _MAX_CRASHES):
                    failed.append(sent)
                    continue
            self._enqueue(sent)
        for sent in failed:  # only now, because a closing queue that has no requests left is removed
            if client.over_limit:
                sent.fail(OutOfMemory("the model exceeded its memory limit on this request; send fewer rows"))
            else:
                sent.fail(Internal("the model's worker died while it ran this request; it will not be retried"))
        self.pump()

    def close_if_done(self, client: WorkerClient) -> None:
        """Close an idle connection to a worker that is to end. The worker ends when every front has done so.

        A worker of a version that is closing may still get the requests of another one, which may crash.
        """
        if not client.in_flight and (client.retiring or (self.closing and not self.under_way)):
            client.close()


def _charge(identity: Identity, rows: int, results: ResultGroup, sent_at: float) -> None:
    """Charge a client for its share of a batch, also if nobody waits for the answer any more.

    No batch takes longer than since `sent_at`, when its request was sent: the worker may be hostile.
    """
    usage = identity.usage
    if usage is not None:
        seconds = min(results.compute_infer_ns * 1e-9, time.monotonic() - sent_at)
        usage.charge(seconds * rows / (max(rows, results.batch_rows) or 1))


def _charge_failed(sent: QueuedRequest, seconds: float) -> None:
    """Charge a client for the time that a model has run for a request that failed. As for `_charge`, no longer."""
    if seconds > 0.0 and sent.identity is not None and sent.identity.usage is not None:
        sent.identity.usage.charge(min(seconds, time.monotonic() - sent.sent_at))
