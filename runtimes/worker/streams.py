"""The requests in progress of a decoupled model, each with an iterator over its answers.

The worker has one thread, so it computes one answer at a time, of the requests in turn, and polls its sockets after
each. A request whose client has answers left to read waits until they are acknowledged.
"""

import time
import traceback
from collections import deque
from typing import Any, Deque, Dict, Iterator, List, Optional, Tuple

from runtimes.status_page import StatusPage
from runtimes.tensors import from_array
from runtimes.worker.calls import Calls, run_in
from runtimes.worker.connection import Connection
from runtimes.worker.execute import Executor
from runtimes.worker.pending import Batch
from runtimes.worker.requests import request_of
from runtimes.worker.results import one_result, send_answer
from runtimes.worker.rows import Arrays
from runtimes.worker.unread import Unread


def close(answers: Iterator[Any]) -> None:
    """Close a model's iterator, if it can be closed."""
    method = getattr(answers, "close", None)
    if method is not None:
        method()


class Stream:
    """One request, and its answers.

    input_s, infer_s  how long preparing its inputs took, and all answers until now
    """

    __slots__ = ("answers", "batch", "began", "infer_s", "input_s", "pending", "unread")

    def __init__(self, batch: Batch, executor: Executor) -> None:
        self.batch = batch
        self.pending = batch[0]
        self.began = time.monotonic()
        self.input_s = self.infer_s = 0.0
        self.unread = Unread()
        self.answers = self._run(executor)

    def _run(self, executor: Executor) -> Iterator[Arrays]:
        """Do everything in the first step, so that whatever fails does so in a step."""
        model, signature = executor.model, self.batch.signature
        if model.takes_requests:
            request = request_of(self.pending)
            self.input_s = time.monotonic() - self.began
            answers = model.stream_request(request, signature)
        else:
            inputs = executor.inputs(self.batch)
            self.input_s = time.monotonic() - self.began
            answers = model.stream(inputs, self.batch.outputs, signature)
        try:
            for answer in answers:
                yield answer
        finally:
            close(answers)


class Streams:
    """Runs the requests. A request is known by its connection and its id.

    descriptor  becomes readable when `advance` has something to do, and `wake` has to be called; -1: never
    """

    descriptor = -1

    def __init__(self, executor: Executor, status: StatusPage, calls: Optional[Calls] = None) -> None:
        self._executor, self._status, self._calls = executor, status, calls
        self._streams: Dict[Tuple[Connection, int], Stream] = {}
        # Those that may compute their next answer, in turn. The others wait for their clients.
        self._next: Deque[Stream] = deque()

    @property
    def can_advance(self) -> bool:
        """Whether `advance` has something to do."""
        return bool(self._next)

    def in_progress(self) -> List[Tuple[Connection, int]]:
        """Return the requests in progress, by their connections and ids."""
        return list(self._streams)

    def start(self, batch: Batch) -> None:
        """Accept a request, which is alone in its batch."""
        stream = Stream(batch, self._executor)
        self._streams[stream.pending.source, stream.pending.id] = stream
        self._next.append(stream)

    def advance(self) -> None:
        """Compute and queue one answer, or the end, of the next request."""
        if not self._next:
            return
        stream = self._next.popleft()
        self._status.set_busy(stream.batch.ids, time.monotonic())
        is_over = self._step(stream)
        if is_over:
            self._end(stream)
        elif stream.unread.has_room:
            self._next.append(stream)
        self._status.set_idle()

    def _step(self, stream: Stream) -> bool:
        """Return whether that was the last step."""
        source, number = stream.pending.source, stream.pending.id
        began = time.monotonic()
        try:
            if self._calls is not None:
                self._calls.parents = stream.batch.parents
            answer = run_in(self._calls, next, stream.answers, None)
            seconds = time.monotonic() - began
            stream.infer_s += seconds
            tensors = [from_array(name, array) for name, array in (answer or {}).items()]
            infer_s = stream.infer_s if answer is None else seconds
            queue_s = stream.began - stream.pending.arrived
            result = one_result(tensors, queue_s, stream.input_s, infer_s, final=answer is None)
            outcome = self._executor.limited(result)
        except Exception as error:  # noqa: BLE001 - frameworks raise anything, and the worker must survive it
            outcome = self._executor.failed(stream.batch, error, began)[0]
        is_over = send_answer(source, number, outcome)
        if not is_over:
            stream.unread.add(sum([len(tensor.data) for tensor in tensors]))
        return is_over

    def acknowledge(self, source: Connection, number: int) -> None:
        """Note that the client has read one more answer to a request."""
        stream = self._streams.get((source, number))
        if stream is None:
            return
        could_advance = stream.unread.has_room
        stream.unread.acknowledge()
        if not could_advance and stream.unread.has_room:
            self._next.append(stream)

    def cancel(self, source: Connection, number: int) -> bool:
        """End a request whose client has left. Return whether it was in progress."""
        stream = self._streams.get((source, number))
        if stream is None:
            return False
        self._status.set_busy((), time.monotonic())  # with no ids: closing may hang, but no client is waiting for it
        self._end(stream)
        self._status.set_idle()
        return True

    def drop_source(self, source: Connection) -> None:
        """End all requests of a connection that has closed."""
        for connection, number in list(self._streams):
            if connection is source:
                self.cancel(source, number)

    def wake(self) -> None:
        """Do nothing: there are no threads."""

    def close(self) -> None:
        """Do nothing: requests end with their connections."""

    def _end(self, stream: Stream) -> None:
        del self._streams[stream.pending.source, stream.pending.id]
        if stream in self._next:
            self._next.remove(stream)
        try:
            run_in(self._calls, close, stream.answers)
        except Exception:  # noqa: BLE001 - as above; no client is waiting for it
            traceback.print_exc()
