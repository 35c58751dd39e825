"""The Open Inference Protocol over gRPC: messages <-> the engine's vocabulary. It translates only."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf.message import Message

from gateway.engine.protocol import Engine
from gateway.engine.types import InferRequest, InferResponse
from gateway.errors import InvalidRequest, NotFound, Unsupported
from gateway.front.grpc_tensors import has_field, read_typed, write_typed
from gateway.front.limits import Limits, check_answer
from gateway.front.metadata import model_metadata, server_metadata
from gateway.front.parameters import read_options
from gateway.front.repository import check_parameters, read_index
from gateway.front.tensors import raw_tensor
from gateway.generated import open_inference_pb2 as pb
from runtimes.wire import Tensor

SERVICE = "inference.GRPCInferenceService"
# The request's message, and what answers it.
Method = tuple[type[Message], Callable[[Any, Any], Awaitable[Message]]]


def methods(engine: Engine, limits: Limits) -> dict[str, Method]:
    """Every method of the service by name. They raise ModelportError."""

    async def model_infer(message: pb.ModelInferRequest, context: Any) -> Message:
        with engine.reading(message.model_name, message.model_version):
            request = read_request(message, context.time_remaining())
        response = await engine.infer(request)
        check_answer(response, limits)
        return write_response(response, raw=bool(message.raw_input_contents))

    async def server_live(message: Message, context: Any) -> Message:
        return pb.ServerLiveResponse(live=True)

    async def server_ready(message: Message, context: Any) -> Message:
        return pb.ServerReadyResponse(ready=engine.ready)

    async def model_ready(message: pb.ModelReadyRequest, context: Any) -> Message:
        try:
            status = engine.model(message.name, message.version)
        except NotFound:
            # As Triton answers it: its client's is_model_ready() says False, and does not raise.
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=status.state == "READY")

    async def describe_server(message: Message, context: Any) -> Message:
        return pb.ServerMetadataResponse(**server_metadata())

    async def describe_model(message: pb.ModelMetadataRequest, context: Any) -> Message:
        return pb.ModelMetadataResponse(**model_metadata(engine, message.name, message.version))

    async def repository_index(message: pb.RepositoryIndexRequest, context: Any) -> Message:
        entries = await read_index(engine, ready=message.ready)
        return pb.RepositoryIndexResponse(models=[pb.RepositoryIndexResponse.ModelIndex(**entry) for entry in entries])

    async def load(message: pb.RepositoryModelLoadRequest, context: Any) -> Message:
        check_parameters(message.parameters)
        await engine.control("load", name=message.model_name)
        return pb.RepositoryModelLoadResponse()

    async def unload(message: pb.RepositoryModelUnloadRequest, context: Any) -> Message:
        check_parameters(message.parameters)
        await engine.control("unload", name=message.model_name)
        return pb.RepositoryModelUnloadResponse()

    return {
        "ModelInfer": (pb.ModelInferRequest, model_infer),
        "ServerLive": (pb.ServerLiveRequest, server_live),
        "ServerReady": (pb.ServerReadyRequest, server_ready),
        "ModelReady": (pb.ModelReadyRequest, model_ready),
        "ServerMetadata": (pb.ServerMetadataRequest, describe_server),
        "ModelMetadata": (pb.ModelMetadataRequest, describe_model),
        "RepositoryIndex": (pb.RepositoryIndexRequest, repository_index),
        "RepositoryModelLoad": (pb.RepositoryModelLoadRequest, load),
        "RepositoryModelUnload": (pb.RepositoryModelUnloadRequest, unload),
    }


def read_request(message: pb.ModelInferRequest, seconds: float | None) -> InferRequest:
    """`seconds` is what the call's own deadline leaves; the sooner of it and `timeout` holds. Raises InvalidRequest."""
    options = read_options(_parameters(message.parameters))
    deadline = options.deadline
    if seconds is not None:
        deadline = min(time.monotonic() + seconds, deadline or float("inf"))
    return InferRequest(
        message.model_name,
        _raw_inputs(message) if message.raw_input_contents else [_typed_input(tensor) for tensor in message.inputs],
        message.model_version,
        message.id,
        [_output(output) for output in message.outputs],
        options.signature,
        options.priority,
        deadline,
    )


def write_response(response: InferResponse, raw: bool) -> pb.ModelInferResponse:
    """Raw if the request was, and where a datatype has no typed field: it is all or nothing."""
    message = pb.ModelInferResponse(model_name=response.model, model_version=response.version, id=response.id)
    raw = raw or not all(has_field(tensor.datatype) for tensor in response.outputs)
    for tensor in response.outputs:
        output = message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if raw:
            message.raw_output_contents.append(bytes(tensor.data))
        else:
            write_typed(tensor, output.contents)
    return message


def _parameters(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Any]:
    found = {}
    for name, parameter in parameters.items():
        field = parameter.WhichOneof("parameter_choice")
        if field is not None:
            found[name] = getattr(parameter, field)
    return found


def _raw_inputs(message: pb.ModelInferRequest) -> list[Tensor]:
    raw, inputs = message.raw_input_contents, message.inputs
    if len(raw) != len(inputs):
        raise InvalidRequest(f"there are {len(inputs)} inputs, but {len(raw)} raw_input_contents; send one for each")
    for tensor in inputs:
        _refuse_shared_memory(tensor)
        if tensor.HasField("contents") and tensor.contents.ListFields():
            raise InvalidRequest(f"input '{tensor.name}' has contents beside raw_input_contents; send only one of them")
    return [
        raw_tensor(tensor.name, tensor.datatype, tensor.shape, data) for tensor, data in zip(inputs, raw, strict=True)
    ]


def _typed_input(tensor: pb.ModelInferRequest.InferInputTensor) -> Tensor:
    _refuse_shared_memory(tensor)
    return read_typed(tensor)


def _refuse_shared_memory(tensor: pb.ModelInferRequest.InferInputTensor) -> None:
    if "shared_memory_region" in tensor.parameters:
        raise Unsupported(f"input '{tensor.name}' is in shared memory, which is not served; send its data")


def _output(output: pb.ModelInferRequest.InferRequestedOutputTensor) -> str:
    for key in ("classification", "shared_memory_region"):
        if key in output.parameters:
            raise Unsupported(f"output '{output.name}' asks for {key}, which is not served")
    return output.name
