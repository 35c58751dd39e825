"""ModelStreamInfer."""

import asyncio
import queue
from collections.abc import Iterator
from typing import get_args

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.engine.fake import FakeEngine
from gateway.front.dialects.v2.grpc_stream import _MAX_IN_PROGRESS
from gateway.front.grpc.server import build_server
from gateway.generated import open_inference_pb2 as pb
from gateway.process.address import GrpcServer
from tests.support.bad_inputs import Subject, good_call
from tests.support.front_server import LIMITS, WAIT_S, Serving, answer, models
from tests.support.v2_calls import as_message

PATH = "/inference.GRPCInferenceService/ModelStreamInfer"


@pytest.fixture
def serving(grpc_serving: Serving) -> Serving:
    """All tests here run with both servers."""
    return grpc_serving


def request(name: str, raw: bool = True, model: str = "doubler") -> bytes:
    message = as_message(good_call(Subject()), raw=raw)
    message.id, message.model_name = name, model
    written: bytes = message.SerializeToString()
    return written


class Call:
    """A stream that a test writes and reads."""

    def __init__(self, serving: Serving) -> None:
        self._requests: queue.Queue[bytes | None] = queue.Queue()
        self.call = serving.channel.stream_stream(PATH)(self._feed(), timeout=WAIT_S)

    def _feed(self) -> Iterator[bytes]:
        yield from iter(self._requests.get, None)

    def send(self, *messages: bytes) -> None:
        for message in messages:
            self._requests.put(message)

    def end(self) -> None:
        self._requests.put(None)

    def next(self) -> pb.ModelStreamInferResponse:
        return pb.ModelStreamInferResponse.FromString(next(self.call))


def test_each_request_is_answered_with_its_id(serving: Serving) -> None:
    call = Call(serving)
    call.send(request("a"))
    first = call.next()
    assert (first.error_message, first.infer_response.id) == ("", "a")
    assert first.infer_response.raw_output_contents[0] == np.ones(3, np.float32).tobytes()
    assert first.infer_response.parameters["triton_final_response"].bool_param
    call.send(request("b", raw=False))
    assert call.next().infer_response.raw_output_contents[0] == np.ones(3, np.float32).tobytes()
    call.end()
    assert list(call.call) == []


def test_an_error_is_an_answer_and_ends_nothing(serving: Serving) -> None:
    call = Call(serving)
    call.send(request("a", model="nobody"), b"\xff" * 5, request("b"))
    answers = [call.next() for _ in range(3)]
    call.end()
    assert list(call.call) == []
    by_id = {answer.infer_response.id: answer.error_message for answer in answers}
    assert by_id == {
        "a": "Request for unknown model: there is no model 'nobody'; the repository index lists what is served",
        "": "the message is not a valid inference.ModelInferRequest",
        "b": "",
    }


def test_answers_are_in_the_order_in_which_they_are_ready(serving: Serving) -> None:
    serving.open_gate(False)
    call = Call(serving)
    call.send(request("waits"))
    assert serving.engine.arrived.wait(WAIT_S)
    call.send(request("fails", model="nobody"))
    assert call.next().infer_response.id == "fails"
    serving.open_gate()
    assert call.next().infer_response.id == "waits"
    call.end()
    assert list(call.call) == []


def test_a_cancelled_stream_is_not_waited_for(serving: Serving) -> None:
    serving.open_gate(False)
    call = Call(serving)
    call.send(request("waits"))
    assert serving.engine.arrived.wait(WAIT_S)
    call.call.cancel()
    assert serving.engine.left.wait(WAIT_S)
    serving.open_gate()


def test_more_requests_than_may_be_under_way(serving: Serving) -> None:
    count = 3 * _MAX_IN_PROGRESS
    call = Call(serving)
    call.send(*(request(str(number)) for number in range(count)))
    call.end()
    answers = [pb.ModelStreamInferResponse.FromString(each) for each in call.call]
    assert {answer.infer_response.id for answer in answers} == {str(number) for number in range(count)}


def test_a_stream_without_requests(serving: Serving) -> None:
    call = Call(serving)
    call.end()
    assert list(call.call) == []
    assert call.call.code() == grpc.StatusCode.OK


@pytest.mark.parametrize("kind", get_args(GrpcServer))
def test_a_stopping_server_waits_neither_for_idle_streams_nor_for_health_watches(kind: GrpcServer) -> None:
    async def main() -> None:
        engine = FakeEngine(models(), answer)
        server = build_server(engine, LIMITS, kind)
        port = server.add_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stream = channel.stream_stream(PATH)()
            await stream.write(request("a"))
            assert pb.ModelStreamInferResponse.FromString(await stream.read()).infer_response.id == "a"
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            engine.ready = False
            engine.drained.set()
            await server.stop(10 * WAIT_S)
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert await watch.read() == grpc.aio.EOF
            assert await stream.read() == grpc.aio.EOF
            assert await stream.code() == grpc.StatusCode.OK

    asyncio.run(asyncio.wait_for(main(), WAIT_S))
