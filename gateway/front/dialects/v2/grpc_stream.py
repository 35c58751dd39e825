"""ModelStreamInfer: any number of requests on one call, each answered as soon as it is done."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError

from gateway.codecs.protobuf_fields import field
from gateway.engine.protocol import RequestHandle
from gateway.front.base.access import Check
from gateway.front.base.client_errors import client_message, to_client_error
from gateway.front.base.grpc_method import InferCall
from gateway.generated import open_inference_pb2 as pb

# Under way at a time on one call: further requests are read when some of these are answered and taken.
_MAX_IN_PROGRESS = 256
# In ModelStreamInferResponse.
_INFER_RESPONSE = 2 << 3 | 2
# By whether an answer is its request's last: clients of models that give several answers look for it.
_FINAL: dict[bool, bytes] = {
    final: pb.ModelInferResponse(
        parameters={"triton_final_response": pb.InferParameter(bool_param=final)}
    ).SerializeToString()
    for final in (False, True)
}


class Stream:
    """One call. `seconds` tells what its deadline leaves; `check` is made for each request."""

    def __init__(self, infer: InferCall[Any], seconds: Callable[[], float | None], check: Check | None) -> None:
        self._infer, self._seconds, self._check = infer, seconds, check
        self._room = asyncio.Semaphore(_MAX_IN_PROGRESS)
        # Each with whether it is its request's last: then there is room for another request once it is taken.
        self._answers: asyncio.Queue[tuple[bytes, bool] | None] = asyncio.Queue()
        self._handles: dict[int, RequestHandle] = {}
        self._open = 0  # requests whose answers are not in the queue, and the reading of further ones

    async def run(self, requests: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """The answers, in the order in which they are ready. An error is an answer too, and ends nothing.

        A server that stops ends the call once it has answered all: the client may keep it open for ever.
        """
        reading = asyncio.ensure_future(self._read(requests))
        stopping = asyncio.ensure_future(self._infer.drained.wait())
        stopping.add_done_callback(lambda _: reading.cancel())
        try:
            while (next_answer := await self._answers.get()) is not None:
                answer, final = next_answer
                yield answer
                if final:
                    self._room.release()
            if not reading.cancelled():
                await reading  # for what went wrong with it
        finally:
            stopping.cancel()
            reading.cancel()
            for handle in self._handles.values():
                handle.cancel()

    async def _read(self, requests: AsyncIterator[bytes]) -> None:
        self._open = 1
        try:
            number = 0
            async for raw in requests:
                await self._room.acquire()
                self._open += 1
                number += 1
                self._submit(number, raw)
        finally:
            self._close()

    def _submit(self, number: int, raw: bytes) -> None:
        try:
            done = partial(self._answer, number, raw)
            self._handles[number] = self._infer.submit_each(raw, self._seconds(), done, self._check)
        except Exception as error:
            self._answer(number, raw, error, True)

    def _answer(self, number: int, raw: bytes, outcome: bytes | Exception, final: bool) -> None:
        if isinstance(outcome, Exception):
            answer = _failed(raw, outcome)
        else:
            answer = b"".join(field(_INFER_RESPONSE, outcome + _FINAL[final]))
        self._answers.put_nowait((answer, final))
        if final:
            self._handles.pop(number, None)
            self._close()

    def _close(self) -> None:
        self._open -= 1
        if not self._open:
            self._answers.put_nowait(None)


def _failed(raw: bytes, error: Exception) -> bytes:
    response = pb.ModelStreamInferResponse(error_message=client_message(to_client_error(error)))
    with contextlib.suppress(DecodeError):
        response.infer_response.id = pb.ModelInferRequest.FromString(raw).id
    told: bytes = response.SerializeToString()
    return told
