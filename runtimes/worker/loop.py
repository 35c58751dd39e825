"""The worker's one loop: poll all sockets, take what is there, form a batch, run it, answer.

While the model runs, requests gather in the sockets; the next batch is what gathered. So no
timer is needed when busy, and no lock ever.

A pipelined model gets a second batch while it computes one, but only a full one: any other would
still get company, for which the end of the running one is soon enough.
"""

import selectors
import socket
import time
from itertools import groupby
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from runtimes import wire
from runtimes.contract import Signature
from runtimes.control import BatchingOff, Learned
from runtimes.status_page import StatusPage
from runtimes.wire import Frame
from runtimes.worker import probe
from runtimes.worker.audit import Auditor
from runtimes.worker.batcher import Batcher, Pending
from runtimes.worker.budget import Budget
from runtimes.worker.connection import Connection
from runtimes.worker.execute import Begun, Executor, Failure, Outcome
from runtimes.worker.facts import Facts
from runtimes.worker.mapping import map_arena

_IDLE_S = 1.0
# Of answers in one frame: a front shall have the first of large ones before the last is written.
_MAX_BYTES = 1 << 16


class Loop:
    """facts: the body of the READY frame that was sent, which is sent again when one of them changes.

    audit_share: of the model's time that may be spent on running batched requests again by themselves.
    """

    def __init__(
        self,
        executor: Executor,
        listener: socket.socket,
        control: Connection,
        status: StatusPage,
        facts: Facts,
        audit_share: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._executor = executor
        executor.on_run = self._mark_busy
        executor.on_batching_off = self._on_batching_off
        self._facts = facts
        self._auditor = Auditor(executor.pieces, executor.batching.dim, Budget(audit_share))
        self._batcher = Batcher(executor.batching)
        self._listener = listener
        self._control = control
        self._status = status
        self._clock = clock
        self._fronts: List[Connection] = []
        self._stopping = False
        self._begun: List[Begun] = []  # batches under way in a pipelined model
        self._free_at = 0.0  # when the answers of the last batch had left
        self._gaps: Dict[str, Signature] = {
            name: signature for name, signature in executor.model.signatures.items() if probe.has_gaps(signature)
        }
        self._selector = selectors.DefaultSelector()
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, None)
        self._selector.register(control.sock, selectors.EVENT_READ, control)

    def learn(self, rows: int, seconds: float) -> None:
        """What a batch of so many rows took while warming up."""
        self._batcher.learn(rows, seconds)

    def run(self) -> None:
        """Until the supervisor has gone, or has said STOP and every front has taken its answers and left."""
        timeout = _IDLE_S
        while not self._control.closed:
            self._poll(timeout)
            busy = self._fronts or self._begun or len(self._batcher)
            if self._stopping and not busy and not self._accept():
                return
            now = self._clock()
            for late in self._batcher.expired(now):
                self._fail(late.source, late.id, _too_late(late, now))
            batch: List[Pending] = []
            wait: Optional[float] = None
            if not self._begun or self._batcher.is_full():
                batch, wait = self._batcher.next(now)
            if batch and self._batcher.batching.target:
                self._status.set_pace(self._batcher.pace(batch))
            done = self._run(batch)
            self._flush()
            if done is not None:
                ended = self._clock()
                self._batcher.ran(done.batch, ended - max(done.began, self._free_at))
                self._free_at = ended
            is_idle = not self._begun and not len(self._batcher) and not self._stopping
            if is_idle and done is None and self._auditor.is_due:
                self._audit()
            at_once = self._begun or (len(self._batcher) and wait is None) or (is_idle and self._auditor.is_due)
            timeout = 0.0 if at_once else (_IDLE_S if wait is None else wait)

    def _poll(self, timeout: float) -> None:
        for key, events in self._selector.select(timeout):
            connection = key.data
            if connection is None:
                self._accept()
                continue
            if events & selectors.EVENT_WRITE:
                self._flush_one(connection)
            if events & selectors.EVENT_READ:
                try:
                    for frame in connection.receive():
                        self._take(connection, frame)
                except wire.WireError as error:
                    print(error)
                    connection.closed = True
            if connection.closed:
                self._leave(connection)

    def _accept(self) -> bool:
        """Take in one front, if one waits at the door."""
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError):
            return False
        connection = Connection(sock)
        self._fronts.append(connection)
        self._selector.register(sock, selectors.EVENT_READ, connection)
        return True

    def _leave(self, connection: Connection) -> None:
        self._selector.unregister(connection.sock)
        self._batcher.forget(connection)
        self._status.clear_rows()
        if connection in self._fronts:
            self._fronts.remove(connection)
        connection.close()

    def _take(self, connection: Connection, frame: Frame) -> None:
        if frame.kind == wire.INFER:
            alone = bool(frame.flags & wire.ISOLATED)
            arena = connection.arena if frame.flags & wire.IN_ARENA else None
            now = self._clock()
            for number, request in wire.unpack_infer(frame.body, arena):
                self._batcher.add(connection, number, request, alone, now)
        elif frame.kind == wire.CANCEL:
            # Always answered, so that the front can count the room in its window.
            if self._batcher.cancel(connection, frame.id):
                self._fail(connection, frame.id, Failure("cancelled", "cancelled"))
        elif frame.kind == wire.ARENA:
            connection.arena = map_arena(**wire.unpack_json(frame.body))
            if connection.arena is not None:
                connection.queue([wire.pack_json(wire.ARENA, {})])
        elif frame.kind == wire.BATCHING_OFF:
            self._executor.switch_batching_off(*BatchingOff(**wire.unpack_json(frame.body)))
        elif frame.kind == wire.STOP:
            self._stopping = True

    def _audit(self) -> None:
        self._mark_busy([])  # it may hang; nobody waits for it
        found = self._auditor.step()
        self._status.set_idle()
        self._status.set_audits(self._auditor.runs, self._auditor.differences)
        if found is not None:
            self._executor.switch_batching_off("audit", found)

    def _on_batching_off(self, reason: str, note: str) -> None:
        self._batcher.follow(self._executor.batching)
        self._facts = self._facts.without_batching(reason, note)
        self._executor.model.signatures = self._facts.signatures
        self._control.queue([wire.pack_json(wire.READY, self._facts.ready().to_json())])

    def _run(self, batch: List[Pending]) -> Optional[Begun]:
        """Begin this batch, if any; then finish and answer what is due, this one or the one before, and give it."""
        if batch:
            begun = self._executor.begin(batch)
            self._begun.append(begun)
            if begun.started and len(self._begun) == 1:
                return None  # another may be begun beside it
        if not self._begun:
            return None
        begun = self._begun.pop(0)
        self._answer(begun)
        return begun

    def _answer(self, begun: Begun) -> None:
        batch = begun.batch
        if begun.started:
            self._mark_busy(batch)  # its time counts from now: until now, the model may have been at the one before
        outcomes = self._executor.finish(begun)
        if self._begun:
            self._mark_busy([])
        else:
            self._status.set_idle()
        self._auditor.ran(batch, outcomes)
        flag = wire.FIRST_OF_BATCH
        for (source, kind), run in groupby(zip(batch, outcomes), _source_and_kind):
            each = [(pending.id, outcome) for pending, outcome in run]
            if kind is None:
                for number, failure in each:
                    self._fail(source, number, failure)
                continue
            together = max(1, _MAX_BYTES // max(1, sum([size for _, _, _, size in kind[0][2]])))
            for start in range(0, len(each), together):
                source.queue(wire.pack_result(each[start : start + together], flag))
                flag = 0
        if self._gaps:
            self._learn(batch[0], outcomes[0])
        self._executor.seen = None

    def _mark_busy(self, batch: Sequence[Pending]) -> None:
        others = [pending.id for begun in self._begun for pending in begun.batch]
        self._status.set_busy([pending.id for pending in batch] + others, self._clock())

    def _fail(self, connection: Connection, request_id: int, failure: Failure) -> None:
        connection.queue([wire.pack_json(wire.ERROR, failure._asdict(), request_id)])

    def _learn(self, pending: Pending, outcome: Outcome) -> None:
        """Tell the supervisor what the first request that worked showed."""
        seen = self._executor.seen
        if isinstance(outcome, Failure) or seen is None:
            return
        name, inputs, outputs = seen
        signature = self._gaps.get(name)
        if signature is None or (pending.frame.outputs and not signature.outputs):
            return
        batch_dim = self._batcher.batching.dim if pending.rows else None
        refused = self._executor.model.signatures[name].refused
        found = probe.learned(signature, inputs, outputs, batch_dim, refused)
        if found == signature:
            return
        if probe.has_gaps(found):
            self._gaps[name] = found  # the request asked for some outputs only
        else:
            del self._gaps[name]
        self._control.queue([wire.pack_json(wire.LEARNED, Learned(name, found).to_json())])

    def _flush(self) -> None:
        self._flush_one(self._control)
        for connection in list(self._fronts):
            self._flush_one(connection)

    def _flush_one(self, connection: Connection) -> None:
        done = connection.flush()
        if connection.closed:
            return  # the next poll sees its end and takes it off the list
        events = selectors.EVENT_READ if done else selectors.EVENT_READ | selectors.EVENT_WRITE
        key = self._selector.get_key(connection.sock)
        if key.events != events:
            self._selector.modify(connection.sock, events, connection)


def _too_late(pending: Pending, now: float) -> Failure:
    if pending.frame.deadline <= now:
        return Failure("deadline", "the deadline passed before the model could run")
    return Failure("overloaded", "the model has too much to do to answer in time; try again later")


def _source_and_kind(answered: Tuple[Pending, Outcome]) -> Tuple[Connection, Any]:
    """Neighbours of which these are equal can share a frame.

    The kind is form, whether it is final, and durations; or None: a failure.
    """
    pending, outcome = answered
    return pending.source, None if isinstance(outcome, Failure) else (outcome.layout, outcome.final, outcome[1:5])
