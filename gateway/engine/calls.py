"""The calls of one worker: requests that its model sends to other models while it runs requests of this front."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from gateway.domain.types import InferRequest, InferResponse
from gateway.engine.protocol import AnswerCallback, RequestHandle
from gateway.errors import ModelportError, Overloaded
from runtimes import result_frames, wire
from runtimes.calls import MAX_CALLS, unpack_call
from runtimes.contract import Call
from runtimes.result_frames import ResultFrame
from runtimes.tensor_bytes import Buffer, Tensor
from runtimes.wire import Frame

if TYPE_CHECKING:
    from gateway.engine.servable import QueuedRequest

# Bytes of the tensors of all calls that a worker has in progress, in multiples of those that one call may have. More
# calls with large tensors can run at once with a higher limit, and a hostile worker can use more of the front's memory.
_MAX_LARGE_CALLS = 4
# The kind of error with which a call ends because its request has ended: it was answered, or its client has left. The
# worker sends it again for another request.
_CANCELLED = "cancelled"


class SubmitChild(Protocol):
    """FrontEngine.submit_child."""

    def __call__(
        self, parent: "QueuedRequest", request: InferRequest, on_answer: AnswerCallback, takes_many: bool = False
    ) -> RequestHandle: ...


class _CallInProgress:
    """handle: None until the call was submitted."""

    __slots__ = ("handle", "number", "parent", "size")

    def __init__(self, number: int, parent: int, size: int) -> None:
        self.number, self.parent, self.size = number, parent, size
        self.handle: RequestHandle | None = None


class Calls:
    """Submits calls as children of the requests that the worker runs, and sends their answers to it.

    A worker may be hostile. It can call models only in the name of a request that it has and that is not settled, it
    can have MAX_CALLS calls per request in progress, and what it sends beyond that is refused.
    """

    def __init__(
        self,
        submit: SubmitChild,
        max_body_bytes: int,
        in_flight: "Mapping[int, QueuedRequest]",
        write: Callable[[Sequence[Buffer]], None],
    ) -> None:
        """in_flight: the requests that the worker has, by id. write: sends the buffers of a frame to it."""
        self._submit, self.max_bytes = submit, max_body_bytes
        self._in_flight, self._write = in_flight, write
        # By the numbers that the worker gave to them, and these by the id of the request that they are made for.
        self._calls: dict[int, _CallInProgress] = {}
        self._numbers: dict[int, set[int]] = {}
        self._bytes = 0

    def __bool__(self) -> bool:
        """Whether a call is in progress."""
        return bool(self._calls)

    def on_frame(self, frame: Frame) -> None:
        """Handle a CALL, CALL_ACK or CALL_CANCEL frame. Raises one of wire.MALFORMED."""
        if frame.kind == wire.CALL:
            number, call, inputs = unpack_call(frame.body)
            if number in self._calls:
                raise wire.WireError("a call has the number of another one")
            self._begin(frame.id, number, call, inputs)
            return
        in_progress = self._calls.get(frame.id)
        if in_progress is None or in_progress.handle is None:
            return
        if frame.kind == wire.CALL_ACK:
            in_progress.handle.acknowledge()
        else:
            self._end(in_progress)
            in_progress.handle.cancel()

    def _begin(self, parent_id: int, number: int, call: Call, inputs: Sequence[Tensor]) -> None:
        size = sum(len(tensor.data) for tensor in inputs)
        if size > self.max_bytes:
            raise wire.WireError("a call has more bytes than a request may have")
        parent = self._in_flight.get(parent_id)
        if parent is None:
            self._fail(number, _CANCELLED, "the request for which the model calls others was answered already")
            return
        if parent.settled:
            self._fail(number, _CANCELLED, "the request for which the model calls others has ended")
            return
        in_progress = _CallInProgress(number, parent_id, size)
        try:
            self._check_room(in_progress)
        except ModelportError as error:
            self._fail(number, error.kind, str(error))
            return
        self._calls[number] = in_progress
        self._numbers.setdefault(parent_id, set()).add(number)
        self._bytes += size
        request = InferRequest(
            model=call.model,
            inputs=inputs,
            version=call.version,
            id=call.id,
            outputs=call.outputs,
            priority=call.priority,
            deadline=time.monotonic() + call.timeout_s if call.timeout_s else None,
            parameters=call.parameters,
            sequence=call.sequence,
        )
        try:
            handle = self._submit(parent, request, partial(self._on_answer, in_progress), call.takes_many)
        except ModelportError as error:
            self._on_answer(in_progress, error)
            return
        in_progress.handle = handle

    def _check_room(self, call: _CallInProgress) -> None:
        """Raises Overloaded if the worker has too many calls, or too many of their bytes, in progress."""
        if len(self._numbers.get(call.parent, ())) >= MAX_CALLS:
            raise Overloaded(f"{MAX_CALLS} calls of this request are in progress, which is the limit; wait for one")
        limit = _MAX_LARGE_CALLS * self.max_bytes
        if self._bytes + call.size > limit:
            raise Overloaded(f"calls with {self._bytes} bytes are in progress, and the limit is {limit}; wait for one")

    def _on_answer(self, call: _CallInProgress, outcome: InferResponse | Exception) -> None:
        if self._calls.get(call.number) is not call:
            return
        if isinstance(outcome, InferResponse):
            if outcome.final:
                self._end(call)
            result = ResultFrame(0, 0, 0, 0, 1, list(outcome.outputs), None, outcome.final)
            self._write(result_frames.pack_result([(call.number, result)], kind=wire.CALL_RESULT))
            return
        self._end(call)
        kind = outcome.kind if isinstance(outcome, ModelportError) else "internal"
        self._fail(call.number, kind, str(outcome))

    def _end(self, call: _CallInProgress) -> None:
        """Stop counting a call."""
        del self._calls[call.number]
        self._bytes -= call.size
        numbers = self._numbers[call.parent]
        numbers.remove(call.number)
        if not numbers:
            del self._numbers[call.parent]

    def _fail(self, number: int, kind: str, message: str) -> None:
        self._write([wire.pack_json(wire.CALL_ERROR, {"kind": kind, "message": message}, number)])

    def end_for(self, parent_id: int) -> None:
        """End the calls that are made for a request which was settled, and which its engine has cancelled."""
        for number in list(self._numbers.get(parent_id, ())):
            call = self._calls[number]
            self._end(call)
            if call.handle is not None:
                call.handle.cancel()
            self._fail(number, _CANCELLED, "the request for which the model calls others has ended")

    def close(self) -> None:
        """Cancel all calls, because the worker has gone."""
        calls, self._calls, self._numbers, self._bytes = list(self._calls.values()), {}, {}, 0
        for call in calls:
            if call.handle is not None:
                call.handle.cancel()
