"""Requests of the worker's model to other models, over the connections of the fronts whose requests it runs.

The loop's thread is in the model while that waits for an answer, and so may be other threads of the model. So a thread
of its own, `_transfer_all`, sends calls and receives their answers while the loop is in the model. At all other times,
the loop does both. Connections are used by one of the two at a time: the loop has them unless it is in `running`.
"""

import os
import select
import sys
import threading
import time
import traceback
import weakref
from collections import deque
from functools import partial
from typing import Any, Callable, Deque, Dict, Iterable, List, Optional, Sequence, Set, Tuple

import numpy as np

from runtimes import result_frames, wire
from runtimes.calls import MAX_CALLS, pack_call
from runtimes.contract import Call, CallFailed
from runtimes.status_page import StatusPage
from runtimes.tensors import Buffer, Tensor, from_array, to_array
from runtimes.wire import Frame
from runtimes.worker.connection import Connection
from runtimes.worker.threads import Requests, pass_on, requests_of_thread
from runtimes.worker.wake import Wake

Arrays = Dict[str, np.ndarray]
# Requests that are in progress: their connection and their ids.
Parents = Sequence[Tuple[Connection, Sequence[int]]]

_NO_REQUEST = "a model can call other models only while it answers a request"


def run_in(calls: "Optional[Calls]", function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns that runs the model, which calls others by `calls` meanwhile; None: it cannot."""
    if calls is None:
        return function(*arguments)
    with calls:
        return function(*arguments)


def _each(parents: Parents) -> Requests:
    return [(source, number) for source, ids in parents for number in ids]


class _Progress:
    """A call that has no final answer.

    parents  the requests in whose name it may be sent, without those in whose name it was. If the client of one of
             several leaves, the call is sent again for the next
    arrived  answers that the model has not read: tensors, or the exception with which the call ends
    number   of the call; 0 while it is held back because its request has too many in progress
    """

    def __init__(
        self,
        call: Call,
        inputs: Sequence[Tensor],
        parents: Deque[Tuple[Connection, int]],
        on_answer: Callable[[], None],
    ) -> None:
        self.call, self.inputs, self.parents, self.on_answer = call, inputs, parents, on_answer
        self.parent = parents.popleft()
        self.number = 0
        self.arrived: Deque[Any] = deque()
        self.has_answers = self.is_over = False


class Answers:
    """The answers to a call. If it is dropped before the last one, the call is cancelled."""

    def __init__(self, calls: "Calls", progress: _Progress) -> None:
        self._calls, self._progress = calls, progress
        self._end = weakref.finalize(self, calls.cancel, progress)
        self._end.atexit = False

    @property
    def has_arrived(self) -> bool:
        """Whether `next` would return at once."""
        return bool(self._progress.arrived) or self._progress.is_over

    def next(self) -> Optional[Arrays]:
        """Wait for the next answer and return its outputs; None after the final one, which may have none.

        Raises CallFailed.
        """
        return self._calls.take(self._progress)

    def cancel(self) -> None:
        """Want no more answers."""
        self._end()


class Calls:
    """Sends the calls of one worker. `begin` and Answers can be used by any thread, the rest by the loop's only.

    max_bytes    of the tensors of one call
    parents      the requests that the model runs; none outside of the context
    in_progress  returns the requests in progress while the model runs none of them, for calls of its own threads
    status       where the clock of execution_timeout_s is

    As a context, it is what the loop runs the model in: the loop leaves its connections alone meanwhile.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.in_progress: Callable[[], Iterable[Tuple[Connection, int]]] = tuple
        self.status: Optional[StatusPage] = None
        self.parents: Parents = ()
        self._changed = threading.Condition()
        self._local = threading.local()
        self._loop_thread = threading.get_ident()
        self._is_running = self._is_transferring = False
        self._thread: Optional[threading.Thread] = None
        self._by_number: Dict[int, _Progress] = {}
        self._held: Deque[_Progress] = deque()  # calls that wait because their request has too many in progress
        self._counts: Dict[Tuple[Connection, int], int] = {}
        self._last = 0
        # Frames to send, by any thread; and frames that are not for this class, which the loop takes.
        self._unsent: Deque[Tuple[Connection, Sequence[Buffer]]] = deque()
        self._cancelled: Deque[_Progress] = deque()
        self._kept: Deque[Tuple[Connection, Frame]] = deque()
        self._waiting = self._run = 0  # threads that wait for an answer in this run of the model; number of the run
        self._used = 0.0  # seconds that this run has taken before the model began to wait
        # Wakes whoever uses the connections.
        self._user = Wake()
        self.wake_descriptor = self._user.descriptor

    # For the loop

    def watch_threads(self) -> None:
        """Have the threads that the model starts make calls for the requests for which it does so."""
        pass_on(self._own_requests)

    def __enter__(self) -> None:
        with self._changed:
            self._is_running = True
            self._run += 1
            self._waiting = 0
            if self._by_number or self._unsent:
                self._changed.notify_all()

    def __exit__(self, *exception: Any) -> None:
        with self._changed:
            self._is_running = False
            self.parents = ()
            while self._is_transferring:
                self._user.wake()
                self._changed.wait()

    @property
    def has_kept(self) -> bool:
        """Whether frames for the loop have arrived while the model ran."""
        return bool(self._kept)

    def take_kept(self) -> List[Tuple[Connection, Frame]]:
        kept, self._kept = list(self._kept), deque()
        return kept

    def queue_unsent(self) -> Set[Connection]:
        """Add the frames that wait to the output of their connections, and return these."""
        self._user.clear()
        while self._cancelled:
            progress = self._cancelled.popleft()
            with self._changed:
                if not progress.is_over:
                    if progress.number:
                        self._send(progress.parent[0], wire.pack(wire.CALL_CANCEL, progress.number))
                    self._end(progress)
        touched = set()
        while self._unsent:
            source, buffers = self._unsent.popleft()
            if not source.closed:
                source.queue(buffers)
                touched.add(source)
        return touched

    def receive(self, source: Connection, frame: Frame) -> None:
        """Take an answer to a call."""
        progress = self._by_number.get(frame.id)
        if progress is None or progress.parent[0] is not source:
            return  # the call was cancelled meanwhile
        if frame.kind == wire.CALL_ERROR:
            kind, message, _ = result_frames.unpack_failure(frame.body)
            self._fail(progress, CallFailed(kind, message, progress.call.model))
            return
        results = result_frames.unpack_result(frame.body, frame.flags)
        with self._changed:
            if progress.is_over:
                return
            for _, result in results:
                progress.arrived.append(result)
                progress.has_answers = True
                if result.final:
                    self._end(progress)
            self._changed.notify_all()
        progress.on_answer()

    def drop_source(self, source: Connection) -> None:
        """Fail the calls over a connection that has closed."""
        for progress in list(self._by_number.values()) + list(self._held):
            if progress.parent[0] is source:
                error = CallFailed("cancelled", "the front of the gateway has ended", progress.call.model)
                self._fail(progress, error)

    # For the model

    def adopt(self, parents: Parents, clock: Any) -> None:
        """Have this thread, which is not the loop's, make calls for these requests. While it waits, `clock` pauses."""
        self._local.parents, self._local.clock = parents, clock

    def begin(
        self,
        call: Call,
        inputs: Arrays,
        on_answer: Callable[[], None] = lambda: None,
        copies: bool = False,
    ) -> Answers:
        """Send a call with these inputs.

        on_answer  called by any thread when an answer has arrived
        copies     whether the model may change its inputs before they have been sent

        Raises CallFailed.
        """
        tensors = [from_array(name, array) for name, array in inputs.items()]
        size = sum([len(tensor.data) for tensor in tensors])
        if size > self.max_bytes:
            message = "the inputs of the call have %d bytes, and the limit is %d" % (size, self.max_bytes)
            raise CallFailed("too_large", message, call.model)
        if copies:
            tensors = [tensor._replace(data=bytes(tensor.data)) for tensor in tensors]
        with self._changed:
            candidates = self._candidates()
            if not candidates:
                raise CallFailed("unavailable", _NO_REQUEST, call.model)
            progress = _Progress(call, tensors, deque(candidates), on_answer)
            self._start(progress)
            if self._thread is None:
                self._thread = threading.Thread(target=self._transfer_all, name="calls", daemon=True)
                self._thread.start()
        return Answers(self, progress)

    def take(self, progress: _Progress) -> Optional[Arrays]:
        """See Answers.next."""
        with self._changed:
            if not progress.arrived:
                if progress.is_over:
                    return None
                if threading.get_ident() == self._loop_thread and not self._is_running:
                    raise CallFailed("unavailable", _NO_REQUEST, progress.call.model)
                end_waiting = self.begin_waiting()
                try:
                    while not progress.arrived and not progress.is_over:
                        self._changed.wait()
                finally:
                    end_waiting()
                if not progress.arrived:
                    return None
            answer = progress.arrived.popleft()
        if isinstance(answer, CallFailed):
            raise answer
        if not answer.final:
            self._send(progress.parent[0], wire.pack(wire.CALL_ACK, progress.number))
        try:
            return {tensor.name: to_array(tensor) for tensor in answer.outputs}
        except ValueError as error:
            message = "model '%s' gave an answer that is malformed: %s" % (progress.call.model, error)
            raise CallFailed("internal", message, progress.call.model) from None

    def begin_waiting(self) -> Callable[[], None]:
        """Stop the clock of execution_timeout_s, because the model waits. Returns what lets it go on."""
        clock = getattr(self._local, "clock", None)
        if clock is not None:
            clock.pause()
            return clock.resume  # type: ignore[no-any-return]
        with self._changed:
            self._waiting += 1
            if self._waiting == 1 and self._is_running and self.status is not None:
                self._used = time.monotonic() - self.status.busy_since()
                self.status.set_since(0.0)
            return partial(self._end_waiting, self._run)

    def cancel(self, progress: _Progress) -> None:
        """See Answers.cancel. It takes no lock, because the garbage collector calls it as well."""
        if not progress.is_over:
            self._cancelled.append(progress)
            self._user.wake()

    # Inside

    def _candidates(self) -> List[Tuple[Connection, int]]:
        """Return the requests in whose name this thread may make a call, the best first."""
        adopted = _each(getattr(self._local, "parents", ()))
        if adopted:
            return adopted
        running = _each(self.parents)
        if threading.get_ident() == self._loop_thread:
            return running if self._is_running else []
        in_progress = running + [each for each in self.in_progress() if each not in running]
        own = [each for each in requests_of_thread() if each in in_progress]
        return own + [each for each in in_progress if each not in own]

    def _own_requests(self) -> Requests:
        """Return the requests for which this thread runs."""
        if threading.get_ident() == self._loop_thread:
            return _each(self.parents)
        return _each(getattr(self._local, "parents", ())) or requests_of_thread()

    def _end_waiting(self, run: int) -> None:
        """`run`: what the model did when it began to wait. The clock is that of another run if it has ended since."""
        with self._changed:
            if run != self._run:
                return
            self._waiting -= 1
            if not self._waiting and self._is_running and self.status is not None:
                self.status.set_since(time.monotonic() - self._used)

    def _start(self, progress: _Progress) -> None:
        """Send a call in the name of its parent, or hold it back. Only with the lock."""
        count = self._counts.get(progress.parent, 0)
        if count >= MAX_CALLS:
            self._held.append(progress)
            return
        self._counts[progress.parent] = count + 1
        self._last += 1
        progress.number = self._last
        self._by_number[progress.number] = progress
        source, request_id = progress.parent
        self._send(source, pack_call(request_id, progress.number, progress.call, progress.inputs))
        self._changed.notify_all()

    def _end(self, progress: _Progress) -> None:
        """Forget a call that has its final answer, and begin one that it has held back. Only with the lock."""
        progress.is_over = True
        if not progress.number:
            self._held.remove(progress)
            return
        del self._by_number[progress.number]
        parent = progress.parent
        self._counts[parent] -= 1
        if not self._counts[parent]:
            del self._counts[parent]
        held = next((each for each in self._held if each.parent == parent), None)
        if held is not None:
            self._held.remove(held)
            self._start(held)

    def _fail(self, progress: _Progress, error: CallFailed) -> None:
        """End a call with an error, or send it again for another request if the client of this one has left."""
        with self._changed:
            if progress.is_over:
                return  # it was cancelled meanwhile
            self._end(progress)
            while progress.parents and error.kind == "cancelled" and not progress.has_answers:
                progress.parent = progress.parents.popleft()
                if not progress.parent[0].closed:
                    progress.is_over, progress.number = False, 0
                    self._start(progress)
                    return
            progress.is_over = True
            progress.arrived.append(error)
            self._changed.notify_all()
        progress.on_answer()

    def _send(self, source: Connection, buffers: Sequence[Buffer]) -> None:
        self._unsent.append((source, buffers))
        self._user.wake()

    def _transfer_all(self) -> None:
        """The thread's program. Without it, the model would wait for ever, so the process ends with it."""
        try:
            self._transfer_for_ever()
        except BaseException:  # noqa: BLE001 - whatever it was, it must be in the log
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    def _transfer_for_ever(self) -> None:
        while True:
            with self._changed:
                while not (self._is_running and (self._by_number or self._unsent)):
                    self._changed.wait()
                self._is_transferring = True
            try:
                self._transfer()
            finally:
                with self._changed:
                    self._is_transferring = False
                    self._changed.notify_all()

    def _transfer(self) -> None:
        """Send what waits, and receive what has arrived next."""
        touched = self.queue_unsent()
        with self._changed:
            touched.update([progress.parent[0] for progress in self._by_number.values()])
            is_running = self._is_running
        sources = {source.descriptor: source for source in touched if not source.closed}
        poll = select.poll()
        poll.register(self.wake_descriptor, select.POLLIN)
        for descriptor, source in sources.items():
            source.flush()
            poll.register(descriptor, select.POLLIN | (select.POLLOUT if source.output else 0))
        # If the model has ended already, `queue_unsent` may have taken what should wake this thread.
        for descriptor, events in poll.poll(None if is_running else 0):
            source = sources.get(descriptor)
            if source is None or not events & ~select.POLLOUT:
                continue
            try:
                for frame in source.receive():
                    if frame.kind in (wire.CALL_RESULT, wire.CALL_ERROR):
                        self.receive(source, frame)
                    else:
                        self._kept.append((source, frame))
            except wire.WireError as error:
                print(error)
                source.closed = True
            if source.closed:
                self.drop_source(source)
