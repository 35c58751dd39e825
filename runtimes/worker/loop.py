"""The worker's only loop: poll all sockets, read what has arrived, form a batch, run it, send the results.

Requests collect in the sockets while the model runs, and form the next batch. A busy worker therefore needs no timer,
and since there is one thread, no locks.

A pipelined model gets a second batch while it computes one, but only a full batch: one that is not full yet can keep
collecting requests until the running batch ends, at no loss.

A decoupled model has no batches: each turn computes one answer of one of the requests in progress (streams.py), or
sends those that the model has given from threads of its own (senders.py).
"""

import socket
import time
from typing import Dict, List, Optional, Sequence, Tuple

from runtimes import request_frames, wire
from runtimes.contract import Signature
from runtimes.control import BatchingOff, Learned
from runtimes.status_page import StatusPage
from runtimes.wire import Frame
from runtimes.worker import probe
from runtimes.worker.audit import Auditor
from runtimes.worker.batcher import Batcher
from runtimes.worker.budget import Budget
from runtimes.worker.calls import Calls, run_in
from runtimes.worker.connection import Connection
from runtimes.worker.execute import Executor, RunningBatch
from runtimes.worker.facts import Facts
from runtimes.worker.fast_path import Done, FastPath
from runtimes.worker.pending import Batch, Pending
from runtimes.worker.poller import READABLE, WRITABLE, Poller
from runtimes.worker.results import Failure, Outcome, send, send_failure
from runtimes.worker.senders import Senders
from runtimes.worker.sequence_batcher import SequenceBatcher, batcher_of
from runtimes.worker.sequence_model import SequenceModel
from runtimes.worker.streams import Streams

# The longest poll of an idle worker. All events arrive on sockets, so the value hardly matters; a shorter one would use
# CPU time while idle.
_IDLE_S = 1.0


class Loop:
    """The loop of a worker. `run` returns when the worker should end.

    facts: what the READY frame has reported. It is sent again when one of them changes.

    audit_share: the share of the model's time that may be spent on running batched requests again, alone.
    """

    def __init__(
        self,
        executor: Executor,
        listener: socket.socket,
        control: Connection,
        status: StatusPage,
        facts: Facts,
        audit_share: float = 0.0,
        calls: Optional[Calls] = None,
    ) -> None:
        self._executor = executor
        executor.on_run = self._mark_busy
        executor.on_batching_off = self._on_batching_off
        self._facts = facts
        self._auditor = Auditor(executor.chunked_model, executor.batching.dim, Budget(audit_share))
        self._sequences: Optional[SequenceBatcher] = None
        self._batcher = Batcher(executor.batching)
        if isinstance(executor.model, SequenceModel):
            self._batcher = self._sequences = batcher_of(executor.model, executor.batching)
        self._calls = calls if executor.model.calls_models else None
        self._fast_path = FastPath(executor, self._batcher, self._auditor, status, self._answer, self._calls)
        self._streams = (Senders if executor.model.sends_answers else Streams)(executor, status, self._calls)
        self._listener = listener
        self._control = control
        self._status = status
        self._stopping = False
        self._running: List[RunningBatch] = []  # the batches in progress; two at most, in a pipelined model
        self._free_at = 0.0  # when the results of the last batch had been sent
        self._gaps: Dict[str, Signature] = {
            name: signature for name, signature in executor.model.signatures.items() if probe.has_gaps(signature)
        }
        self._poller = Poller()
        self._connections: Dict[int, Connection] = {}  # by descriptor: the fronts' and the supervisor's
        if self._calls is not None:
            self._calls.status = status
            self._calls.in_progress = self._streams.in_progress
            self._calls.watch_threads()
            self._poller.watch(self._calls.wake_descriptor, READABLE)
        listener.setblocking(False)
        self._poller.watch(listener.fileno(), READABLE)
        if self._streams.descriptor >= 0:
            self._poller.watch(self._streams.descriptor, READABLE)
        self._add(control)

    def seed_cost(self, rows: int, seconds: float) -> None:
        """Record the duration of a batch of this size during warm-up."""
        self._batcher.seed_cost(rows, seconds)

    def run(self) -> None:
        """Loop until the supervisor is gone, or until it has sent STOP and all fronts have closed their connections."""
        timeout: Optional[float] = _IDLE_S
        while timeout is not None and not self._control.closed:
            timeout = self.turn(timeout)

    def close(self) -> None:
        """End the requests of a decoupled model that are still in progress."""
        self._streams.close()

    def turn(self, timeout: float) -> Optional[float]:
        """Poll once, then run and answer at most one batch. Return the timeout of the next poll, or None at the end."""
        batcher, wait = self._batcher, None
        done = self._poll(timeout)
        if self._stopping and not self._is_busy() and not self._accept():
            return None
        # The fast path leaves nothing.
        has_more = done is None and bool(self._running or batcher or self._streams.can_advance)
        if has_more:
            done, wait = self._run_next()
        for connection in self._connections.values():
            if connection.output:
                self._flush_one(connection)
        if done is not None:
            ended = time.monotonic()
            key, rows, began = done
            batcher.observe(key, rows, ended - max(began, self._free_at))
            self._free_at = ended
        if has_more and (self._running or (wait is None and batcher) or self._streams.can_advance):
            return 0.0
        if self._auditor.is_due and not batcher and not self._stopping:
            if done is None:  # otherwise, requests that have arrived meanwhile come first
                self._audit()
            return 0.0
        return _IDLE_S if wait is None else wait

    def _run_next(self) -> Tuple[Optional[Done], Optional[float]]:
        """Run and answer a batch of the waiting requests; return it, or how long it may wait for more of them."""
        batcher, now = self._batcher, time.monotonic()
        for late in batcher.take_expired(now):
            send_failure(late.source, late.id, _lateness_failure(late, now))
        if self._sequences is not None:
            for refused, failure in self._sequences.take_refused(now):
                send_failure(refused.source, refused.id, failure)
        batch: Optional[Batch] = None
        wait: Optional[float] = None
        if not self._running or batcher.has_full_batch():
            batch, wait = batcher.next(now)
        if batch is not None and batcher.batching.target:
            self._status.set_pace(batcher.pace(batch))
        if self._executor.model.pipelined:
            return self._advance(batch), wait
        if self._executor.model.decoupled:
            if batch is not None:
                self._streams.start(batch)
            self._streams.advance()
            return None, wait
        if batch is None:
            return None, wait
        self._answer(batch, run_in(self._calls, self._executor.run, batch))
        return (batch.key, batch.rows, now), wait

    def _is_busy(self) -> bool:
        return bool(len(self._connections) > 1 or self._running or self._batcher)  # streams end with their connection

    def _poll(self, timeout: float) -> Optional[Done]:
        """Wait for events and handle them. Return the batch that was answered meanwhile, on the fast path."""
        done: Optional[Done] = None
        calls = self._calls
        if calls is not None and calls.has_kept:
            self._handle_kept(calls)
            timeout = 0.0
        ready = self._poller.wait(timeout)
        if not ready and timeout >= _IDLE_S:
            for connection in self._connections.values():
                if connection.results is not None:
                    connection.results.trim()
        for descriptor, events in ready:
            connection = self._connections.get(descriptor)
            if connection is None:
                if descriptor == self._streams.descriptor:
                    self._streams.wake()
                elif calls is not None and descriptor == calls.wake_descriptor:
                    calls.queue_unsent()
                else:
                    self._accept()
                continue
            if events & WRITABLE:
                self._flush_one(connection)
            if events & ~WRITABLE:
                try:
                    frames = connection.receive()
                    is_alone = len(ready) == len(frames) == 1 and not self._batcher and not self._running
                    for frame in frames:
                        if frame.kind == wire.INFER:
                            done = self._take(connection, frame, is_alone)
                        else:
                            self._handle_control(connection, frame)
                except wire.WireError as error:
                    print(error)
                    connection.closed = True
            if connection.closed:
                self._disconnect(connection)
        return done

    def _handle_kept(self, calls: Calls) -> None:
        """Handle the frames that have arrived while the model ran, and were not about its calls."""
        for connection, frame in calls.take_kept():
            if connection.closed:
                continue
            if frame.kind == wire.INFER:
                self._take(connection, frame, False)
            else:
                self._handle_control(connection, frame)

    def _take(self, connection: Connection, frame: Frame, is_alone: bool) -> Optional[Done]:
        """Serve the requests of a frame on the fast path if they are alone and it can; otherwise, add them."""
        flags = frame.flags
        arena = connection.arena if flags & wire.IN_ARENA else None
        requests = request_frames.unpack_requests(frame.body, arena, flags)
        now = time.monotonic()
        if is_alone and not flags & ~wire.IN_ARENA and not self._gaps:
            done = self._fast_path.serve(connection, requests, now)
            if done is not None:
                return done
        self._batcher.add(connection, requests, bool(flags & wire.ISOLATED), now)
        return None

    def _accept(self) -> bool:
        """Accept one front's connection, if there is one to accept."""
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError):
            return False
        self._add(Connection(sock))
        return True

    def _add(self, connection: Connection) -> None:
        self._connections[connection.descriptor] = connection
        self._poller.watch(connection.descriptor, READABLE)

    def _disconnect(self, connection: Connection) -> None:
        self._poller.forget(connection.descriptor)
        del self._connections[connection.descriptor]
        self._batcher.drop_source(connection)
        self._streams.drop_source(connection)
        if self._calls is not None:
            self._calls.drop_source(connection)
        self._status.clear_rows()
        connection.close()

    def _handle_control(self, connection: Connection, frame: Frame) -> None:
        if frame.kind == wire.CANCEL:
            # Each request gets exactly one result or error, since the front counts them to know the room in its
            # window. A request that is running already gets its result.
            if self._batcher.cancel(connection, frame.id) or self._streams.cancel(connection, frame.id):
                send_failure(connection, frame.id, Failure("cancelled", "cancelled"))
        elif frame.kind == wire.ACK:
            self._streams.acknowledge(connection, frame.id)
        elif frame.kind in (wire.CALL_RESULT, wire.CALL_ERROR):
            if self._calls is not None:
                self._calls.receive(connection, frame)
        elif frame.kind == wire.ARENA:
            if connection.map_memory(**wire.unpack_json(frame.body)):
                connection.queue([wire.pack_json(wire.ARENA, {})])
        elif frame.kind == wire.RELEASE:
            if connection.results is not None:
                connection.results.release(frame.id)
        elif frame.kind == wire.END_SEQUENCE:
            if self._sequences is not None:
                self._sequences.end(**wire.unpack_json(frame.body))
        elif frame.kind == wire.BATCHING_OFF:
            self._executor.switch_batching_off(*BatchingOff(**wire.unpack_json(frame.body)))
        elif frame.kind == wire.STOP:
            self._stopping = True

    def _audit(self) -> None:
        self._mark_busy()  # with no request ids: the run may hang, but no client is waiting for it
        found = self._auditor.step()
        self._status.set_idle()
        self._status.set_audits(self._auditor.runs, self._auditor.differences)
        if found is not None:
            self._executor.switch_batching_off("audit", found)

    def _on_batching_off(self, reason: str, note: str) -> None:
        self._batcher.reconfigure(self._executor.batching)
        self._fast_path = FastPath(
            self._executor, self._batcher, self._auditor, self._status, self._answer, self._calls
        )
        self._facts = self._facts.without_batching(reason, note)
        self._executor.model.signatures = self._facts.signatures
        self._control.queue([wire.pack_json(wire.READY, self._facts.ready().to_json())])

    def _advance(self, batch: Optional[Batch]) -> Optional[Done]:
        """Begin `batch` if there is one, then finish the oldest batch in progress and send its results.

        Returns the finished batch, or None if there was none or a second batch may be begun first.
        """
        if batch is not None:
            running = self._executor.begin(batch)
            self._running.append(running)
            if running.started and len(self._running) == 1:
                return None
        if not self._running:
            return None
        running = self._running.pop(0)
        if running.started:
            # The time limit of its execution starts now: the model may have been busy with the previous batch.
            self._mark_busy(running.batch)
        self._answer(running.batch, self._executor.finish(running))
        return running.batch.key, running.batch.rows, running.began_at

    def _answer(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        if self._running:
            self._mark_busy()
        else:
            self._status.set_idle()
        self._auditor.observe(batch, outcomes)
        if self._sequences is not None:
            self._sequences.settle(batch, outcomes, time.monotonic())
        send(batch, outcomes)
        if self._gaps:
            self._report_learned(batch[0], outcomes[0])
        self._executor.last_run = None

    def _mark_busy(self, batch: Optional[Batch] = None) -> None:
        ids = [] if batch is None else batch.ids
        if self._calls is not None and batch is not None:
            self._calls.parents = batch.parents
        if self._running:
            ids = ids + [number for running in self._running for number in running.batch.ids]
        self._status.set_busy(ids, time.monotonic())

    def _report_learned(self, pending: Pending, outcome: Outcome) -> None:
        """Send the supervisor what the first successful request revealed about its signature."""
        seen = self._executor.last_run
        if isinstance(outcome, Failure) or seen is None:
            return
        name, inputs, outputs = seen
        signature = self._gaps.get(name)
        if signature is None or (pending.frame.outputs and not signature.outputs):
            return
        batch_dim = self._batcher.batching.dim if pending.rows else None
        refused = self._executor.model.signatures[name].refused
        found = probe.fill_gaps(signature, inputs, outputs, batch_dim, refused)
        if found == signature:
            return
        if probe.has_gaps(found):
            self._gaps[name] = found  # the request asked for some of the outputs only
        else:
            del self._gaps[name]
        self._control.queue([wire.pack_json(wire.LEARNED, Learned(name, found).to_json())])

    def _flush_one(self, connection: Connection) -> None:
        was_blocked, connection.blocked = connection.blocked, not connection.flush()
        if connection.blocked != was_blocked:
            self._poller.watch(connection.descriptor, READABLE | WRITABLE if connection.blocked else READABLE)


def _lateness_failure(pending: Pending, now: float) -> Failure:
    if pending.frame.deadline <= now:
        return Failure("deadline", "the deadline passed before the model could run")
    return Failure("overloaded", "the model is too busy to answer in time; try again later")
