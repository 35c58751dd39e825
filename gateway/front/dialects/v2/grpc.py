"""The Open Inference Protocol over gRPC: messages <-> the engine's vocabulary. It translates only."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import lru_cache
from operator import attrgetter
from typing import Any

from google.protobuf.message import Message

from gateway.domain.control import LoadModel, UnloadModel
from gateway.domain.shared_memory import Place, SharedMemory
from gateway.domain.types import InferRequest, InferResponse
from gateway.engine.protocol import Engine
from gateway.errors import NotFound
from gateway.front.base.access import Action, Check
from gateway.front.base.grpc_method import InferCall, Method, Service, no_model, unary
from gateway.front.base.limits import Limits, check_answer
from gateway.front.dialects.v2.classification import classify
from gateway.front.dialects.v2.grpc_message import raw_output
from gateway.front.dialects.v2.grpc_request import RequestReader, Wanted
from gateway.front.dialects.v2.grpc_stream import Stream
from gateway.front.dialects.v2.metadata import model_metadata, server_metadata
from gateway.front.dialects.v2.model_config import read_configuration
from gateway.front.dialects.v2.repository import check_parameters, read_index
from gateway.front.dialects.v2.shared_memory import cuda_status, place_parameters, register, status, unregister
from gateway.front.dialects.v2.statistics import read_statistics
from gateway.generated import open_inference_pb2 as pb
from runtimes.tensors import Buffer, Tensor

SERVICE = "inference.GRPCInferenceService"


class ModelInfer(InferCall[Wanted]):
    def __init__(self, engine: Engine, limits: Limits) -> None:
        super().__init__(engine, limits)
        self._reader = RequestReader(engine)

    def _read(self, raw: bytes, seconds: float | None) -> tuple[InferRequest, Wanted]:
        return self._reader.read(raw, seconds)

    def _write(self, wanted: Wanted, response: InferResponse) -> bytes:
        response = classify(self._engine, response, wanted.classes)
        check_answer(response, self._limits)
        return write_response(response, wanted, self._engine.shared_memory)


def services(engine: Engine, limits: Limits) -> list[Service]:
    infer = ModelInfer(engine, limits)

    def stream(
        requests: AsyncIterator[bytes], seconds: Callable[[], float | None], check: Check | None = None
    ) -> AsyncGenerator[bytes, None]:
        return Stream(infer, seconds, check).run(requests)

    return [Service(SERVICE, {"ModelInfer": infer, **methods(engine)}, {"ModelStreamInfer": stream})]


def methods(engine: Engine) -> dict[str, Method]:
    """Every other method of the service by name. They raise ModelportError."""

    async def server_live(message: Message) -> Message:
        return pb.ServerLiveResponse(live=True)

    async def server_ready(message: Message) -> Message:
        return pb.ServerReadyResponse(ready=engine.ready)

    async def model_ready(message: pb.ModelReadyRequest) -> Message:
        try:
            status = engine.model(message.name, message.version)
        except NotFound:
            # As Triton answers it: its client's is_model_ready() says False, and does not raise.
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=status.state == "READY")

    async def describe_server(message: Message) -> Message:
        return pb.ServerMetadataResponse(**server_metadata(engine))

    async def describe_model(message: pb.ModelMetadataRequest) -> Message:
        return pb.ModelMetadataResponse(**model_metadata(engine, message.name, message.version))

    async def statistics(message: pb.ModelStatisticsRequest) -> Message:
        return pb.ModelStatisticsResponse(**await read_statistics(engine, message.name, message.version))

    async def shared_status(message: pb.SystemSharedMemoryStatusRequest) -> Message:
        return pb.SystemSharedMemoryStatusResponse(
            regions={
                region["name"]: pb.SystemSharedMemoryStatusResponse.RegionStatus(**region)
                for region in status(engine, message.name)
            }
        )

    async def shared_register(message: pb.SystemSharedMemoryRegisterRequest) -> Message:
        record = {"key": message.key, "offset": message.offset, "byte_size": message.byte_size}
        await register(engine, message.name, record)
        return pb.SystemSharedMemoryRegisterResponse()

    async def shared_unregister(message: pb.SystemSharedMemoryUnregisterRequest) -> Message:
        await unregister(engine, message.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    async def cuda_shared_status(message: pb.CudaSharedMemoryStatusRequest) -> Message:
        cuda_status(engine, message.name)
        return pb.CudaSharedMemoryStatusResponse()

    async def cuda_unregister(message: pb.CudaSharedMemoryUnregisterRequest) -> Message:
        cuda_status(engine)
        return pb.CudaSharedMemoryUnregisterResponse()

    async def model_config(message: pb.ModelConfigRequest) -> Message:
        return pb.ModelConfigResponse(config=await read_configuration(engine, message.name, message.version))

    async def repository_index(message: pb.RepositoryIndexRequest) -> Message:
        entries = await read_index(engine, ready=message.ready)
        return pb.RepositoryIndexResponse(models=[pb.RepositoryIndexResponse.ModelIndex(**entry) for entry in entries])

    async def load(message: pb.RepositoryModelLoadRequest) -> Message:
        check_parameters(message.parameters)
        await engine.control(LoadModel(message.model_name))
        return pb.RepositoryModelLoadResponse()

    async def unload(message: pb.RepositoryModelUnloadRequest) -> Message:
        check_parameters(message.parameters)
        await engine.control(UnloadModel(message.model_name))
        return pb.RepositoryModelUnloadResponse()

    spoken: dict[str, tuple[Action, type[Message], Callable[[Any], str], Callable[[Any], Awaitable[Message]]]] = {
        "ServerLive": ("health", pb.ServerLiveRequest, no_model, server_live),
        "ServerReady": ("health", pb.ServerReadyRequest, no_model, server_ready),
        "ModelReady": ("health", pb.ModelReadyRequest, _NAME, model_ready),
        "ServerMetadata": ("read", pb.ServerMetadataRequest, no_model, describe_server),
        "ModelMetadata": ("read", pb.ModelMetadataRequest, _NAME, describe_model),
        "ModelStatistics": ("read", pb.ModelStatisticsRequest, _NAME, statistics),
        "SystemSharedMemoryStatus": ("read", pb.SystemSharedMemoryStatusRequest, no_model, shared_status),
        "SystemSharedMemoryRegister": ("admin", pb.SystemSharedMemoryRegisterRequest, no_model, shared_register),
        "SystemSharedMemoryUnregister": ("admin", pb.SystemSharedMemoryUnregisterRequest, no_model, shared_unregister),
        "CudaSharedMemoryStatus": ("read", pb.CudaSharedMemoryStatusRequest, no_model, cuda_shared_status),
        "CudaSharedMemoryUnregister": ("admin", pb.CudaSharedMemoryUnregisterRequest, no_model, cuda_unregister),
        "ModelConfig": ("read", pb.ModelConfigRequest, _NAME, model_config),
        "RepositoryIndex": ("read", pb.RepositoryIndexRequest, no_model, repository_index),
        "RepositoryModelLoad": ("admin", pb.RepositoryModelLoadRequest, _MODEL_NAME, load),
        "RepositoryModelUnload": ("admin", pb.RepositoryModelUnloadRequest, _MODEL_NAME, unload),
    }
    return {name: _method(*each) for name, each in spoken.items()}


# Which field of a message names its model.
_NAME: Callable[[Any], str] = attrgetter("name")
_MODEL_NAME: Callable[[Any], str] = attrgetter("model_name")


def write_response(response: InferResponse, wanted: Wanted, shared: SharedMemory) -> bytes:
    """A ModelInferResponse with raw_output_contents, whichever way the inputs came: Triton's clients index into it.

    What the client wants in shared memory is written there, and its raw content is empty. Raises InvalidRequest.
    """
    parts: list[Buffer] = [_model(response.model, response.version)]
    if response.id:
        parts.append(pb.ModelInferResponse(id=response.id).SerializeToString())
    places = wanted.places
    for tensor in response.outputs:
        name, datatype, shape, _ = tensor
        parts.append(_put(tensor, places[name], shared) if name in places else _output(name, datatype, shape))
    for tensor in response.outputs:
        # One for each output, as clients count them.
        parts += raw_output(b"" if tensor.name in places else tensor.data)
    return b"".join(parts)


def _put(tensor: Tensor, place: Place, shared: SharedMemory) -> bytes:
    shared.write(place, tensor.data)
    output = pb.ModelInferResponse.InferOutputTensor(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    for key, value in place_parameters(place, len(tensor.data)).items():
        parameter = output.parameters[key]
        if isinstance(value, str):
            parameter.string_param = value
        else:
            parameter.int64_param = value
    raw: bytes = pb.ModelInferResponse(outputs=[output]).SerializeToString()
    return raw


# What differs from answer to answer is the data; the rest is written once. Messages one behind the other are one.
@lru_cache(1024)
def _model(name: str, version: str) -> bytes:
    raw: bytes = pb.ModelInferResponse(model_name=name, model_version=version).SerializeToString()
    return raw


@lru_cache(1024)
def _output(name: str, datatype: str, shape: tuple[int, ...]) -> bytes:
    output = pb.ModelInferResponse.InferOutputTensor(name=name, datatype=datatype, shape=shape)
    raw: bytes = pb.ModelInferResponse(outputs=[output]).SerializeToString()
    return raw


def _method(
    action: Action, kind: type[Message], model: Callable[[Any], str], answer: Callable[[Any], Awaitable[Message]]
) -> Method:
    return unary(action, kind, model, lambda message, seconds: answer(message))
