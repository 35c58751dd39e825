"""Triton's business logic scripting: what `exec` and `async_exec` of an InferenceRequest do."""

import json
from typing import Any, Dict, List, Optional

from runtimes.contract import Call, CallFailed, SequenceControl

from . import pb_utils
from .calls import Waiter, begin

# Set by the model that is loaded, since Triton's classes have no model that they belong to.
calls: Any = None

_CODES = {
    "invalid": pb_utils.TritonError.INVALID_ARG,
    "too_large": pb_utils.TritonError.INVALID_ARG,
    "not_found": pb_utils.TritonError.NOT_FOUND,
    "unsupported": pb_utils.TritonError.UNSUPPORTED,
    "cancelled": pb_utils.TritonError.CANCELLED,
    "unavailable": pb_utils.TritonError.UNAVAILABLE,
    "overloaded": pb_utils.TritonError.UNAVAILABLE,
    "deadline": pb_utils.TritonError.UNAVAILABLE,
}


def execute(request: "pb_utils.InferenceRequest", decoupled: bool) -> Any:
    """Return the response, or an iterator over the responses if `decoupled`."""
    if decoupled:
        return ResponseIterator(request)
    try:
        return _response(begin(calls, _call(request, False), _inputs(request)).next())
    except CallFailed as error:
        return _failed(error)


async def execute_async(request: "pb_utils.InferenceRequest", waiter: Waiter, answers: Any) -> Any:
    """Return the response to a call that `begin_async` has sent."""
    try:
        if isinstance(answers, CallFailed):
            raise answers
        await arrival(waiter, answers)
        return _response(answers.next())
    except CallFailed as error:
        return _failed(error)
    finally:
        if not isinstance(answers, CallFailed):
            answers.cancel()  # does nothing unless the coroutine was cancelled


def begin_async(request: "pb_utils.InferenceRequest", decoupled: bool) -> Any:
    """Send the request at once, and return what to await for the response or the iterator over them."""
    if decoupled:
        return _iterator(ResponseIterator(request))
    waiter = Waiter(calls)
    try:
        answers = begin(calls, _call(request, False), _inputs(request), waiter.on_answer, copies=True)
    except CallFailed as error:
        answers = error
    return execute_async(request, waiter, answers)


async def _iterator(iterator: "ResponseIterator") -> "ResponseIterator":
    return iterator


async def arrival(waiter: Waiter, answers: Any) -> None:
    """Wait until `answers.next` would return at once."""
    while not answers.has_arrived:
        future = waiter.future()
        if answers.has_arrived:  # meanwhile, and perhaps before the future was there
            waiter.on_answer()
        await future


class ResponseIterator:
    """The responses to one request, for `for` and `async for`.

    A last one without tensors, as Triton has it, is left out: some programs do not expect it, and none needs it.
    """

    def __init__(self, request: "pb_utils.InferenceRequest") -> None:
        self._waiter = Waiter(calls)
        self._error: Optional[CallFailed] = None
        self._answers: Any = None
        try:
            self._answers = begin(calls, _call(request, True), _inputs(request), self._waiter.on_answer, copies=True)
        except CallFailed as error:
            self._error = error

    def cancel(self) -> None:
        """Want no more responses."""
        if self._answers is not None:
            self._answers.cancel()

    def __iter__(self) -> "ResponseIterator":
        return self

    def __next__(self) -> "pb_utils.InferenceResponse":
        error, self._error = self._error, None
        if error is not None:
            return _failed(error)
        if self._answers is None:
            raise StopIteration
        try:
            answer = self._answers.next()
        except CallFailed as failure:
            return _failed(failure)
        if not answer:  # the end, which programs need not tell from an answer
            raise StopIteration
        return _response(answer)

    def __aiter__(self) -> "ResponseIterator":
        return self

    async def __anext__(self) -> "pb_utils.InferenceResponse":
        if self._answers is not None and self._error is None:
            await arrival(self._waiter, self._answers)
        try:
            return next(self)
        except StopIteration:
            raise StopAsyncIteration from None


def _call(request: "pb_utils.InferenceRequest", takes_many: bool) -> Call:
    flags, correlation = request.flags(), request.correlation_id()
    correlation = correlation if isinstance(correlation, int) else _text(correlation)
    start = bool(flags & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START)
    end = bool(flags & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END)
    version = request.model_version()
    return Call(
        _text(request.model_name()),
        "" if version < 0 else str(version),
        [_text(name) for name in request.requested_output_names()],
        _text(request.request_id()),
        json.loads(request.parameters()),
        SequenceControl(correlation, start, end) if correlation else None,
        timeout_s=request.timeout() / 1e6,
        takes_many=takes_many,
    )


def _text(name: Any) -> str:
    """Return a name, which may come from a tensor, as a text."""
    return name.decode() if isinstance(name, bytes) else str(name)


def _inputs(request: "pb_utils.InferenceRequest") -> Dict[str, Any]:
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}


def _response(answer: Any) -> "pb_utils.InferenceResponse":
    tensors: List[pb_utils.Tensor] = [pb_utils.Tensor(name, array) for name, array in (answer or {}).items()]
    return pb_utils.InferenceResponse(tensors)


def _failed(error: CallFailed) -> "pb_utils.InferenceResponse":
    code = _CODES.get(error.kind, pb_utils.TritonError.INTERNAL)
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))
