"""The requests in progress of a model that sends its answers itself, from whatever threads it likes.

The model runs on a thread of its own, so that it may wait for a slow client while the worker's loop serves the others.
What it sends waits in an outbox, from which the loop takes it; an answer that cannot be sent yet stays with whoever
sends it. So a request takes as much memory as one in streams.py.
"""

import queue
import threading
import time
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Tuple

from runtimes.contract import DeviceLost, Request, ResponseSender
from runtimes.status_page import StatusPage
from runtimes.tensors import Tensor, from_array
from runtimes.worker.calls import Calls
from runtimes.worker.connection import Connection
from runtimes.worker.execute import Executor
from runtimes.worker.pending import Batch, Pending
from runtimes.worker.requests import request_of
from runtimes.worker.results import Failure, Outcome, one_result, send_answer
from runtimes.worker.unread import Unread
from runtimes.worker.wake import Wake


class Sender(ResponseSender):
    """One request. Its fields change under the lock of its `Senders`.

    since    when the model was last given control over it: its duration does not include waiting for the client
    infer_s  how long the model has taken, until now
    unread   includes the answers in the outbox
    ended    whether the model has ended it, or failed
    dropped  whether nobody waits for it any more
    """

    def __init__(self, owner: "Senders", batch: Batch) -> None:
        self._owner = owner
        self.pending: Pending = batch[0]
        self.began = self.since = time.monotonic()
        self.infer_s = 0.0
        self.unread = Unread()
        self.ended = self.dropped = False

    @property
    def cancelled(self) -> bool:
        return self.dropped

    def send(self, outputs: Dict[str, Any]) -> None:
        tensors = [from_array(name, array) for name, array in outputs.items()]
        # The model may change its arrays afterwards.
        copies = [tensor._replace(data=bytes(tensor.data)) for tensor in tensors]
        self._owner.send(self, copies)

    def end(self) -> None:
        self._owner.send(self, None)

    def fail(self, error: Exception) -> None:
        self._owner.fail(self, error)


class Senders:
    """Runs the requests, and has the methods of streams.Streams. Only `send` and `fail` are for other threads."""

    def __init__(self, executor: Executor, status: StatusPage, calls: Optional[Calls] = None) -> None:
        self._executor, self._status, self._calls = executor, status, calls
        self._senders: Dict[Tuple[Connection, int], Sender] = {}
        self._changed = threading.Condition()
        self._outbox: Deque[Tuple[Sender, Outcome]] = deque()
        self._lost: Optional[BaseException] = None
        self._waiting: "queue.Queue[Optional[Tuple[Sender, Request, str]]]" = queue.Queue()
        # Ids of the requests that the model has begun, and since when its thread runs; 0.0 if it does not.
        self._begun: Dict[Sender, int] = {}
        self._busy_since = 0.0
        self._pauses, self._used = 0, 0.0  # see `pause`
        self._loop = Wake()
        self.descriptor = self._loop.descriptor
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def can_advance(self) -> bool:
        return bool(self._outbox) or self._lost is not None

    def in_progress(self) -> List[Tuple[Connection, int]]:
        """Return the requests in progress, by their connections and ids."""
        return list(self._senders)

    def start(self, batch: Batch) -> None:
        """Accept a request, which is alone in its batch."""
        sender = Sender(self, batch)
        self._senders[sender.pending.source, sender.pending.id] = sender
        try:
            request = request_of(sender.pending)
        except Exception as error:  # noqa: BLE001 - for example, there is no memory for them
            self.fail(sender, error)
            return
        # The front may use their memory for other requests when this one was cancelled, while the model still runs.
        inputs = {name: array.copy() for name, array in request.inputs.items()}
        self._waiting.put((sender, request._replace(inputs=inputs), batch.signature))

    def _run(self) -> None:
        """Run requests, one after the other, on the model's thread."""
        while True:
            waiting = self._waiting.get()
            if waiting is None:
                return
            sender, request, signature = waiting
            with self._changed:
                if sender.dropped:
                    continue
                self._begun[sender] = sender.pending.id
                sender.began = sender.since = self._busy_since = time.monotonic()
                self._pauses = 0
                self._publish()
            if self._calls is not None:
                self._calls.adopt([(sender.pending.source, (sender.pending.id,))], self)
            try:
                self._executor.model.serve_request(request, sender, signature)
            except Exception as error:  # noqa: BLE001 - frameworks raise anything, and the worker must survive it
                if isinstance(error, DeviceLost):
                    self._lose(error)
                    return
                self._end(sender, self._executor.failure(error))  # which logs it, also if the request has ended
            except BaseException as error:  # noqa: BLE001 - the model ends its process, for example by sys.exit
                self._lose(error)
                return
            del waiting, request  # the next one may be long in coming
            with self._changed:
                self._busy_since, self._pauses = 0.0, 0
                self._publish()

    def _lose(self, error: BaseException) -> None:
        """Have the loop raise an exception that ends the worker."""
        self._lost = error
        self._loop.wake()

    def _publish(self) -> None:
        """Name all requests that the model has begun, of which any thread may end the process."""
        self._status.set_busy(list(self._begun.values()), self._busy_since)

    def send(self, sender: Sender, tensors: Optional[List[Tensor]]) -> None:
        """Put an answer, or the end, into the outbox when there is room for it. Raises RuntimeError after the end."""
        with self._changed:
            if sender.ended:
                raise RuntimeError("the request has ended already")
            seconds = max(0.0, time.monotonic() - sender.since)
            sender.infer_s += seconds
            if tensors is not None:
                self._wait_for_room(sender)
                if sender.ended:
                    raise RuntimeError("the request has ended already")
            else:
                sender.ended, seconds = True, sender.infer_s
                self._forget(sender)
            sender.since = time.monotonic()
            if sender.dropped:
                return
            queue_s = sender.began - sender.pending.arrived
            result = one_result(tensors or [], queue_s, 0.0, seconds, final=tensors is None)
            outcome = self._executor.limited(result)
            if isinstance(outcome, Failure):
                sender.ended = True
                self._forget(sender)
            elif tensors is not None:
                sender.unread.add(sum([len(tensor.data) for tensor in tensors]))
            self._outbox.append((sender, outcome))
            if sender.ended:
                self._changed.notify_all()
        self._loop.wake()

    def pause(self) -> None:
        """Stop the clock of execution_timeout_s, because the model's thread waits for another model."""
        with self._changed:
            self._pauses += 1
            if self._pauses == 1 and self._busy_since:
                self._used = time.monotonic() - self._busy_since
                self._busy_since = 0.0
                self._publish()

    def resume(self) -> None:
        with self._changed:
            if not self._pauses:
                return  # the request that has waited is over
            self._pauses -= 1
            if not self._pauses:
                self._busy_since = time.monotonic() - self._used
                self._publish()

    def _wait_for_room(self, sender: Sender) -> None:
        is_models = threading.current_thread() is self._thread
        if is_models and not sender.unread.has_room:
            self._busy_since = 0.0  # the client's time does not count as the model's
            self._publish()
        while not (sender.unread.has_room or sender.dropped or sender.ended):
            self._changed.wait()
        if is_models and not self._busy_since:
            self._busy_since = time.monotonic()
            self._publish()

    def fail(self, sender: Sender, error: Exception) -> None:
        """End a request with an error. Raises RuntimeError if it has ended."""
        if not self._end(sender, self._executor.failure(error)):
            raise RuntimeError("the request has ended already")

    def _end(self, sender: Sender, failure: Failure) -> bool:
        """End a request with an error. Return False if it has ended already."""
        with self._changed:
            if sender.ended:
                return False
            sender.ended = True
            self._forget(sender)
            if not sender.dropped:
                self._outbox.append((sender, failure.after(time.monotonic() - sender.since)))
            self._changed.notify_all()
        self._loop.wake()
        return True

    def _forget(self, sender: Sender) -> None:
        if self._begun.pop(sender, None) is not None:
            self._publish()

    def wake(self) -> None:
        """Note that the loop has woken up."""
        self._loop.clear()

    def advance(self) -> None:
        """Queue everything in the outbox for the fronts."""
        if self._lost is not None:
            raise self._lost
        while self._outbox:
            sender, outcome = self._outbox.popleft()
            source, number = sender.pending.source, sender.pending.id
            if self._senders.get((source, number)) is not sender:
                continue  # it was cancelled meanwhile
            if send_answer(source, number, outcome):
                del self._senders[source, number]

    def acknowledge(self, source: Connection, number: int) -> None:
        """Note that the client has read one more answer to a request."""
        sender = self._senders.get((source, number))
        with self._changed:
            if sender is not None:
                sender.unread.acknowledge()
                self._changed.notify_all()

    def cancel(self, source: Connection, number: int) -> bool:
        """End a request whose client has left. Return whether it was in progress."""
        sender = self._senders.pop((source, number), None)
        if sender is None:
            return False
        with self._changed:
            sender.dropped = True
            self._forget(sender)
            self._changed.notify_all()
        return True

    def drop_source(self, source: Connection) -> None:
        """End all requests of a connection that has closed."""
        for connection, number in list(self._senders):
            if connection is source:
                self.cancel(source, number)

    def close(self) -> None:
        """Drop all requests, so that no thread of the model waits for a client any more."""
        for source, number in list(self._senders):
            self.cancel(source, number)
        self._waiting.put(None)
