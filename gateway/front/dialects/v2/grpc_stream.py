"""ModelStreamInfer: any number of requests in one call, each answered as soon as its answer is ready."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError

from gateway.codecs.protobuf_fields import field
from gateway.domain.request_record import CANCELLED, CURRENT, RequestRecord
from gateway.engine.protocol import RequestHandle
from gateway.errors import ModelportError
from gateway.front.base.access import Check
from gateway.front.base.client_errors import client_message, to_client_error
from gateway.front.base.grpc_code import Code
from gateway.front.base.grpc_method import InferCall
from gateway.generated import open_inference_pb2 as pb

# Requests in progress per call. Further ones are read when answers have been sent. A smaller number keeps batches small
# for a client with one stream; a larger one lets one stream fill the server's queue.
_MAX_IN_PROGRESS = 256
# The key of infer_response in ModelStreamInferResponse.
_INFER_RESPONSE = 2 << 3 | 2
# The parameter of a request that wants its final answer even if it has no outputs, as that of a decoupled model.
_WANTS_EMPTY = "triton_enable_empty_final_response"
# The parameter that marks the last answer to a request, which clients of models with several answers look for.
_FINAL: dict[bool, bytes] = {
    final: pb.ModelInferResponse(
        parameters={"triton_final_response": pb.InferParameter(bool_param=final)}
    ).SerializeToString()
    for final in (False, True)
}


class Stream:
    """One call. `seconds` returns the time until its deadline; `check` is called for each request."""

    def __init__(self, infer: InferCall[Any], seconds: Callable[[], float | None], check: Check | None) -> None:
        self._infer, self._seconds, self._check = infer, seconds, check
        self._slots = asyncio.Semaphore(_MAX_IN_PROGRESS)
        # Answers, each with the number of its request, and whether it is the last one to it; b"" if nothing is sent.
        # None ends the call.
        self._answers: asyncio.Queue[tuple[int, bytes, bool] | None] = asyncio.Queue()
        self._handles: dict[int, RequestHandle] = {}
        # The record of the call, and those of its requests in progress.
        self._record, self._records = CURRENT.get(), dict[int, RequestRecord]()
        # How many sources can still add answers: the requests in progress, and the task that reads further ones.
        self._sources = 0

    async def run(self, requests: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Yield answers as soon as they are ready. An error is an answer as well, and does not end the call.

        A server that stops ends the call after the last answer, because the client could keep it open forever.
        """
        reading = asyncio.ensure_future(self._read(requests))
        stopping = asyncio.ensure_future(self._infer.drained.wait())
        stopping.add_done_callback(lambda _: reading.cancel())
        try:
            while (next_answer := await self._answers.get()) is not None:
                number, answer, final = next_answer
                if answer:
                    yield answer
                if final:
                    self._slots.release()
                elif (handle := self._handles.get(number)) is not None:
                    handle.acknowledge()  # this generator continues when the client has room for more
            if not reading.cancelled():
                await reading  # raises its exception, if any
        finally:
            stopping.cancel()
            reading.cancel()
            for handle in self._handles.values():
                handle.cancel()
            for record in self._records.values():
                record.end(Code.CANCELLED, CANCELLED)

    async def _read(self, requests: AsyncIterator[bytes]) -> None:
        self._sources = 1
        try:
            number = 0
            async for raw in requests:
                await self._slots.acquire()
                self._sources += 1
                number += 1
                self._submit(number, raw)
        finally:
            self._end_source()

    def _submit(self, number: int, raw: bytes) -> None:
        record = None
        if self._record is not None:
            record = self._records[number] = self._record.of_message(len(raw))
        try:
            done = partial(self._answer, number, raw)
            self._handles[number] = self._infer.submit_each(raw, self._seconds(), done, self._check, record)
        except Exception as error:
            self._answer(number, raw, error, True, False)

    def _answer(self, number: int, raw: bytes, outcome: bytes | Exception, final: bool, is_empty: bool) -> None:
        if isinstance(outcome, Exception) and not final:
            self._handles[number].cancel()
            final = True
        record = self._records.get(number)
        code = Code.OK
        if isinstance(outcome, Exception):
            error = to_client_error(outcome)
            code = Code[error.code]
            if record is not None:
                record.outcome = error.kind
            answer = _error_answer(raw, error)
        elif final and is_empty and not _wants_empty(raw):
            answer = b""
        else:
            answer = b"".join(field(_INFER_RESPONSE, outcome + _FINAL[final]))
        self._answers.put_nowait((number, answer, final))
        if record is not None:
            record.bytes_out += len(answer)
        if final:
            if record is not None:
                self._records.pop(number).end(code, bytes_out=record.bytes_out)
            self._handles.pop(number, None)
            self._end_source()

    def _end_source(self) -> None:
        self._sources -= 1
        if not self._sources:
            self._answers.put_nowait(None)


def _wants_empty(raw: bytes) -> bool:
    parameter = pb.ModelInferRequest.FromString(raw).parameters
    return _WANTS_EMPTY in parameter and bool(parameter[_WANTS_EMPTY].bool_param)


def _error_answer(raw: bytes, error: ModelportError) -> bytes:
    response = pb.ModelStreamInferResponse(error_message=client_message(error))
    with contextlib.suppress(DecodeError):
        response.infer_response.id = pb.ModelInferRequest.FromString(raw).id
    answer: bytes = response.SerializeToString()
    return answer
