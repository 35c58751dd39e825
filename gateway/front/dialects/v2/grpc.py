"""The Open Inference Protocol over gRPC: translates between messages and the engine's types."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import lru_cache
from operator import attrgetter
from typing import Any

from google.protobuf.message import Message

from gateway.domain.control import LoadModel, UnloadModel
from gateway.domain.shared_memory import RegionRange, SharedMemory
from gateway.domain.types import InferRequest, InferResponse
from gateway.engine.protocol import Engine
from gateway.errors import NotFound
from gateway.front.base.access import Action, Check
from gateway.front.base.grpc_method import InferCall, Method, Service, no_model, unary
from gateway.front.base.limits import Limits, check_answer
from gateway.front.dialects.v2.classification import classify
from gateway.front.dialects.v2.grpc_message import raw_output
from gateway.front.dialects.v2.grpc_request import RequestReader
from gateway.front.dialects.v2.grpc_stream import Stream
from gateway.front.dialects.v2.metadata import model_metadata, server_metadata
from gateway.front.dialects.v2.model_config import read_configuration
from gateway.front.dialects.v2.output_options import OutputOptions
from gateway.front.dialects.v2.repository import check_parameters, read_index
from gateway.front.dialects.v2.shared_memory import cuda_status, region_parameters, register, status, unregister
from gateway.front.dialects.v2.statistics import read_statistics
from gateway.generated import open_inference_pb2 as pb
from runtimes.tensors import Buffer, Tensor

SERVICE = "inference.GRPCInferenceService"


class ModelInfer(InferCall[OutputOptions]):
    def __init__(self, engine: Engine, limits: Limits) -> None:
        super().__init__(engine, limits)
        self._reader = RequestReader(engine)

    def _read(self, raw: bytes, seconds: float | None) -> tuple[InferRequest, OutputOptions]:
        return self._reader.read(raw, seconds)

    def _write(self, options: OutputOptions, response: InferResponse) -> bytes:
        response = classify(self._engine, response, options.class_counts)
        check_answer(response, self._limits)
        return write_response(response, options, self._engine.shared_memory)


def services(engine: Engine, limits: Limits) -> list[Service]:
    infer = ModelInfer(engine, limits)

    def stream(
        requests: AsyncIterator[bytes], seconds: Callable[[], float | None], check: Check | None = None
    ) -> AsyncGenerator[bytes, None]:
        return Stream(infer, seconds, check).run(requests)

    return [Service(SERVICE, {"ModelInfer": infer, **methods(engine)}, {"ModelStreamInfer": stream})]


def methods(engine: Engine) -> dict[str, Method]:
    """Return the other methods of the service by name. They raise ModelportError."""

    async def server_live(message: Message) -> Message:
        return pb.ServerLiveResponse(live=True)

    async def server_ready(message: Message) -> Message:
        return pb.ServerReadyResponse(ready=engine.ready)

    async def model_ready(message: pb.ModelReadyRequest) -> Message:
        try:
            status = engine.model(message.name, message.version)
        except NotFound:
            # As Triton does: its client's is_model_ready() then returns False instead of raising.
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

    table: dict[str, tuple[Action, type[Message], Callable[[Any], str], Callable[[Any], Awaitable[Message]]]] = {
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
    return {name: _method(*each) for name, each in table.items()}


# The field of a message that names its model.
_NAME: Callable[[Any], str] = attrgetter("name")
_MODEL_NAME: Callable[[Any], str] = attrgetter("model_name")


def write_response(response: InferResponse, options: OutputOptions, shared: SharedMemory) -> bytes:
    """Write a ModelInferResponse. It has raw_output_contents even for typed inputs, as Triton's clients require.

    An output in shared memory is written there, and its raw content is empty. Raises InvalidRequest.
    """
    parts: list[Buffer] = [_model_fields(response.model, response.version)]
    if response.id:
        parts.append(pb.ModelInferResponse(id=response.id).SerializeToString())
    ranges = options.region_ranges
    for tensor in response.outputs:
        name, datatype, shape, _ = tensor
        parts.append(_write_shared(tensor, ranges[name], shared) if name in ranges else _output(name, datatype, shape))
    for tensor in response.outputs:
        # Also for outputs in shared memory, because clients find raw contents by the index of the output.
        parts += raw_output(b"" if tensor.name in ranges else tensor.data)
    return b"".join(parts)


def _write_shared(tensor: Tensor, region_range: RegionRange, shared: SharedMemory) -> bytes:
    """Write a tensor to shared memory. Returns its output field."""
    shared.write(region_range, tensor.data)
    output = pb.ModelInferResponse.InferOutputTensor(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    for key, value in region_parameters(region_range, len(tensor.data)).items():
        parameter = output.parameters[key]
        if isinstance(value, str):
            parameter.string_param = value
        else:
            parameter.int64_param = value
    raw: bytes = pb.ModelInferResponse(outputs=[output]).SerializeToString()
    return raw


# These fields are the same in most answers, so their bytes are cached. Concatenated protobuf messages merge into one:
# repeated fields are joined (protobuf encoding guide, "Last One Wins").
@lru_cache(1024)
def _model_fields(name: str, version: str) -> bytes:
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
