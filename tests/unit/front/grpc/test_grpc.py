"""gRPC: valid calls, deadlines, errors, health and reflection."""

import time
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gateway.errors import DeadlineExceeded, OutOfMemory, Overloaded, Unavailable
from gateway.front.dialects.v2.metadata import EXTENSIONS
from gateway.generated import open_inference_pb2 as pb
from tests.support.bad_inputs import Subject, good_call
from tests.support.front_server import LIMITS, WAIT_S, Serving
from tests.support.v2_calls import Call, Value, as_message

GOOD = good_call(Subject())
SERVICE = "inference.GRPCInferenceService"


@pytest.fixture
def serving(grpc_serving: Serving) -> Serving:
    """All tests here run with both servers."""
    return grpc_serving


def infer(serving: Serving, message: pb.ModelInferRequest) -> pb.ModelInferResponse:
    return pb.ModelInferResponse.FromString(serving.call("ModelInfer", message.SerializeToString()))


def ask(serving: Serving, method: str, message: Message, kind: type[Any]) -> Any:
    return kind.FromString(serving.call(method, message.SerializeToString()))


def test_an_answer_is_raw_for_any_kind_of_inputs(serving: Serving) -> None:
    call = Call("doubler", GOOD.inputs, version="1", id="seven", outputs=("y",))
    for raw in (False, True):
        found = infer(serving, as_message(call, raw=raw))
        assert (found.model_name, found.model_version, found.id) == ("doubler", "1", "seven")
        assert (found.outputs[0].name, found.outputs[0].datatype) == ("y", "FP32")
        assert found.raw_output_contents[0] == np.ones(3, np.float32).tobytes()
        assert not found.outputs[0].HasField("contents")


@pytest.mark.parametrize(("sent", "level"), [(2**64 - 1, 2**31 - 1), (2**40, 2**31 - 1), (1, 1), (0, 0)])
def test_priorities_of_64_bits_are_accepted(serving: Serving, sent: int, level: int) -> None:
    serving.engine.requests.clear()
    message = as_message(GOOD, raw=True)
    message.parameters["priority"].uint64_param = sent  # as tritonclient sends it
    infer(serving, message)
    assert [request.priority for request in serving.engine.requests] == [level]


def test_there_are_no_cuda_regions(serving: Serving) -> None:
    serving.engine.shared_memory.enabled = True
    status, empty = pb.CudaSharedMemoryStatusRequest, pb.CudaSharedMemoryStatusResponse()
    assert ask(serving, "CudaSharedMemoryStatus", status(), pb.CudaSharedMemoryStatusResponse) == empty
    serving.call("CudaSharedMemoryUnregister", pb.CudaSharedMemoryUnregisterRequest().SerializeToString())
    serving.engine.shared_memory.enabled = False


def test_parameters_reach_the_engine_and_the_sooner_deadline_holds(serving: Serving) -> None:
    for timeout_us, sooner in ((5_000_000, 5.0), (500_000_000, WAIT_S), (0, WAIT_S)):
        serving.engine.requests.clear()
        parameters = {"priority": 3, "timeout": timeout_us, "signature": "default", "custom": 1.5}
        before = time.monotonic()
        infer(serving, as_message(Call("doubler", GOOD.inputs, parameters=parameters), raw=True))
        (request,) = serving.engine.requests
        assert (request.priority, request.signature) == (3, "default")
        assert request.deadline is not None
        assert before + sooner - 1 <= request.deadline <= time.monotonic() + sooner + 1


def test_a_call_without_deadline_has_none(serving: Serving) -> None:
    path = f"/{SERVICE}/ModelInfer"
    serving.channel.unary_unary(path)(as_message(GOOD, raw=True).SerializeToString())
    assert serving.engine.requests[0].deadline is None


@pytest.mark.parametrize(
    "failure", [Unavailable("later"), Overloaded("later"), OutOfMemory("less"), DeadlineExceeded("late")]
)
def test_errors_of_the_engine_keep_their_code(serving: Serving, failure: Any) -> None:
    serving.engine.failure = failure
    with pytest.raises(grpc.RpcError) as caught:
        infer(serving, as_message(GOOD, raw=True))
    assert (caught.value.code().name, caught.value.details()) == (failure.code, str(failure))
    assert dict(caught.value.trailing_metadata()).get("retry-after") == (
        "1" if isinstance(failure, Overloaded) else None
    )


def test_an_unexpected_error_is_logged_but_not_sent(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    serving.engine.failure = RuntimeError("/secret/path is broken")
    with pytest.raises(grpc.RpcError) as caught:
        infer(serving, as_message(GOOD, raw=True))
    assert (caught.value.code().name, caught.value.details()) == ("INTERNAL", "internal error")
    assert "/secret/path is broken" in caplog.text


def test_a_cancelled_call_cancels_its_request(serving: Serving) -> None:
    serving.open_gate(False)
    path = f"/{SERVICE}/ModelInfer"
    call = serving.channel.unary_unary(path).future(as_message(GOOD, raw=True).SerializeToString())
    assert serving.engine.arrived.wait(WAIT_S)
    call.cancel()
    assert serving.engine.left.wait(WAIT_S)
    serving.open_gate()
    infer(serving, as_message(GOOD, raw=True))


def test_a_message_over_the_limit_is_rejected(serving: Serving) -> None:
    rows = LIMITS.binary_bytes // 8
    wide = Call("echo_FP64", (Value("x", "FP64", (rows,), [0.0] * rows),))
    with pytest.raises(grpc.RpcError) as caught:
        infer(serving, as_message(wide, raw=True))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not serving.engine.requests
    infer(serving, as_message(GOOD, raw=True))


def test_an_answer_over_the_limit_is_rejected(serving: Serving) -> None:
    size = LIMITS.response_bytes + 1
    with pytest.raises(grpc.RpcError) as caught:
        infer(serving, as_message(Call("echo_INT8", (Value("x", "INT8", (size,), [0] * size),)), raw=True))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "the answer has" in caught.value.details()


def test_fp16_is_answered_raw(serving: Serving) -> None:
    call = Call("echo_FP16", (Value("x", "FP16", (2,), [1.5, 2.5]),))
    answer = infer(serving, as_message(call, raw=True))
    assert np.frombuffer(answer.raw_output_contents[0], np.float16).tolist() == [1.5, 2.5]


def test_server_metadata(serving: Serving) -> None:
    assert ask(serving, "ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse).live
    assert ask(serving, "ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse).ready
    serving.engine.ready = False
    assert not ask(serving, "ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse).ready
    metadata = ask(serving, "ServerMetadata", pb.ServerMetadataRequest(), pb.ServerMetadataResponse)
    assert (metadata.name, list(metadata.extensions)) == (
        "modelport",
        list(EXTENSIONS),
    )


def test_model_metadata(serving: Serving) -> None:
    for name, ready in (("doubler", True), ("broken", False)):
        assert ask(serving, "ModelReady", pb.ModelReadyRequest(name=name), pb.ModelReadyResponse).ready == ready
    metadata = ask(serving, "ModelMetadata", pb.ModelMetadataRequest(name="doubler"), pb.ModelMetadataResponse)
    assert (metadata.name, list(metadata.versions), metadata.platform) == ("doubler", ["1"], "fake")
    assert [(spec.name, spec.datatype, list(spec.shape)) for spec in metadata.inputs] == [("x", "FP32", [-1, 3])]
    assert [(spec.name, spec.datatype, list(spec.shape)) for spec in metadata.outputs] == [("y", "FP32", [-1, 3])]


def test_the_repository_can_be_listed_and_changed(serving: Serving) -> None:
    every = ask(serving, "RepositoryIndex", pb.RepositoryIndexRequest(), pb.RepositoryIndexResponse).models
    ready = ask(serving, "RepositoryIndex", pb.RepositoryIndexRequest(ready=True), pb.RepositoryIndexResponse).models
    assert {model.name for model in every} - {model.name for model in ready} == {"broken"}
    assert [model.reason for model in every if model.name == "broken"] == ["its artifact is cut off"]
    load = pb.RepositoryModelLoadRequest(model_name="doubler")
    serving.call("RepositoryModelLoad", load.SerializeToString())
    serving.call("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="doubler").SerializeToString())
    load.parameters["config"].string_param = "{}"
    with pytest.raises(grpc.RpcError) as caught:
        serving.call("RepositoryModelLoad", load.SerializeToString())
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_an_unknown_method_is_unimplemented(serving: Serving) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        serving.call("ModelInferTomorrow", b"")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_health_follows_the_engine(serving: Serving) -> None:
    stub = health_pb2_grpc.HealthStub(serving.channel)
    for service in ("", SERVICE):
        asked = health_pb2.HealthCheckRequest(service=service)
        assert stub.Check(asked).status == health_pb2.HealthCheckResponse.SERVING
        watch = stub.Watch(asked, timeout=WAIT_S)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        serving.engine.ready = False
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert stub.Check(asked).status == health_pb2.HealthCheckResponse.NOT_SERVING
        serving.engine.ready = True
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


def test_reflection_describes_every_service(serving: Serving) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(serving.channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = list(stub.ServerReflectionInfo(iter([asked]), timeout=WAIT_S))
    names = [service.name for service in answer.list_services_response.service]
    assert {SERVICE, "grpc.health.v1.Health", "tensorflow.serving.PredictionService"} < set(names)
    for name in names:
        described = reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
        (answer,) = list(stub.ServerReflectionInfo(iter([described]), timeout=WAIT_S))
        assert answer.file_descriptor_response.file_descriptor_proto, name


def test_reflection_refuses_what_is_not_a_message(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    call = serving.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    with pytest.raises(grpc.RpcError) as caught:
        list(call(iter([b"\xff"]), timeout=WAIT_S))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == ("the message is not a valid grpc.reflection.v1alpha.ServerReflectionRequest")
    assert not caplog.records
