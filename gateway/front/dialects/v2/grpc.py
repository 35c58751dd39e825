"""The Open Inference Protocol over gRPC: translates between messages and the engine's types."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from operator import attrgetter
from typing import Any

from google.protobuf.message import Message

from gateway.domain.control import UnloadModel
from gateway.domain.identity import Action, Identity
from gateway.engine.protocol import Engine
from gateway.errors import NotFound
from gateway.front.base.access import Check
from gateway.front.base.grpc_method import InferCall, Method, Service, no_model, parse, unary
from gateway.front.base.limits import Limits
from gateway.front.base.loading import loaded_model
from gateway.front.dialects.v2 import load_request, trace_settings
from gateway.front.dialects.v2.grpc_request import RequestReader
from gateway.front.dialects.v2.grpc_response import ResponseWriter
from gateway.front.dialects.v2.grpc_stream import Stream
from gateway.front.dialects.v2.log_settings import log_settings
from gateway.front.dialects.v2.metadata import model_metadata, server_metadata
from gateway.front.dialects.v2.model_config import read_configuration
from gateway.front.dialects.v2.output_options import OutputOptions
from gateway.front.dialects.v2.repository import check_dependents, read_index
from gateway.front.dialects.v2.shared_memory import cuda_status, register, status, unregister
from gateway.front.dialects.v2.statistics import read_statistics
from gateway.generated import open_inference_pb2 as pb

SERVICE = "inference.GRPCInferenceService"

_Answer = Callable[[Any, Identity | None], Awaitable[Message]]


class ModelInfer(InferCall[OutputOptions]):
    """The method of that name."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self.reader, self.writer = RequestReader(engine), ResponseWriter(engine, limits)
        super().__init__(engine, self.reader.read, self.writer.write, _model)


def _model(raw: bytes) -> str:
    name: str = parse(pb.ModelInferRequest, raw).model_name
    return name


def services(engine: Engine, limits: Limits) -> list[Service]:
    infer = ModelInfer(engine, limits)

    def stream(
        requests: AsyncIterator[bytes], seconds: Callable[[], float | None], check: Check | None = None
    ) -> AsyncGenerator[bytes, None]:
        return Stream(infer, seconds, check).run(requests)

    return [Service(SERVICE, {"ModelInfer": infer, **methods(engine)}, {"ModelStreamInfer": stream})]


def methods(engine: Engine) -> dict[str, Method]:
    """Return the other methods of the service by name. They raise ModelportError."""

    async def server_live(message: Message, identity: Identity | None) -> Message:
        return pb.ServerLiveResponse(live=True)

    async def server_ready(message: Message, identity: Identity | None) -> Message:
        return pb.ServerReadyResponse(ready=engine.ready)

    async def model_ready(message: pb.ModelReadyRequest, identity: Identity | None) -> Message:
        try:
            status = engine.model(message.name, message.version)
        except NotFound:
            # As Triton does: its client's is_model_ready() then returns False instead of raising.
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=status.state == "READY")

    async def describe_server(message: Message, identity: Identity | None) -> Message:
        return pb.ServerMetadataResponse(**server_metadata(engine))

    async def describe_model(message: pb.ModelMetadataRequest, identity: Identity | None) -> Message:
        await loaded_model(engine, message.name, message.version, identity)
        return pb.ModelMetadataResponse(**model_metadata(engine, message.name, message.version))

    async def statistics(message: pb.ModelStatisticsRequest, identity: Identity | None) -> Message:
        return pb.ModelStatisticsResponse(**await read_statistics(engine, message.name, message.version, identity))

    async def shared_status(message: pb.SystemSharedMemoryStatusRequest, identity: Identity | None) -> Message:
        return pb.SystemSharedMemoryStatusResponse(
            regions={
                region["name"]: pb.SystemSharedMemoryStatusResponse.RegionStatus(**region)
                for region in status(engine, message.name)
            }
        )

    async def shared_register(message: pb.SystemSharedMemoryRegisterRequest, identity: Identity | None) -> Message:
        record = {"key": message.key, "offset": message.offset, "byte_size": message.byte_size}
        await register(engine, message.name, record)
        return pb.SystemSharedMemoryRegisterResponse()

    async def shared_unregister(message: pb.SystemSharedMemoryUnregisterRequest, identity: Identity | None) -> Message:
        await unregister(engine, message.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    async def cuda_shared_status(message: pb.CudaSharedMemoryStatusRequest, identity: Identity | None) -> Message:
        cuda_status(engine, message.name)
        return pb.CudaSharedMemoryStatusResponse()

    async def cuda_unregister(message: pb.CudaSharedMemoryUnregisterRequest, identity: Identity | None) -> Message:
        cuda_status(engine)
        return pb.CudaSharedMemoryUnregisterResponse()

    async def log(message: pb.LogSettingsRequest, identity: Identity | None) -> Message:
        return await log_settings(engine, message)

    async def trace(message: pb.TraceSettingRequest, identity: Identity | None) -> Message:
        return await trace_settings.answer(engine, message)

    async def model_config(message: pb.ModelConfigRequest, identity: Identity | None) -> Message:
        return pb.ModelConfigResponse(config=await read_configuration(engine, message.name, message.version, identity))

    async def repository_index(message: pb.RepositoryIndexRequest, identity: Identity | None) -> Message:
        entries = await read_index(engine, message.ready, identity)
        return pb.RepositoryIndexResponse(models=[pb.RepositoryIndexResponse.ModelIndex(**entry) for entry in entries])

    async def load(message: pb.RepositoryModelLoadRequest, identity: Identity | None) -> Message:
        await load_request.load(engine, message.model_name, _parameters(message.parameters))
        return pb.RepositoryModelLoadResponse()

    async def unload(message: pb.RepositoryModelUnloadRequest, identity: Identity | None) -> Message:
        wanted = "unload_dependents" in message.parameters and message.parameters["unload_dependents"].bool_param
        check_dependents(engine, message.model_name, wanted)
        await engine.control(UnloadModel(message.model_name))
        return pb.RepositoryModelUnloadResponse()

    table: dict[str, tuple[Action | Callable[[Any], Action], type[Message], Callable[[Any], str], _Answer]] = {
        "ServerLive": ("health", pb.ServerLiveRequest, no_model, server_live),
        "ServerReady": ("health", pb.ServerReadyRequest, no_model, server_ready),
        "ModelReady": ("health", pb.ModelReadyRequest, _NAME, model_ready),
        "ServerMetadata": ("read", pb.ServerMetadataRequest, no_model, describe_server),
        "ModelMetadata": ("read", pb.ModelMetadataRequest, _NAME, describe_model),
        "ModelStatistics": ("read", pb.ModelStatisticsRequest, _NAME, statistics),
        "SystemSharedMemoryStatus": ("admin", pb.SystemSharedMemoryStatusRequest, no_model, shared_status),
        "SystemSharedMemoryRegister": ("admin", pb.SystemSharedMemoryRegisterRequest, no_model, shared_register),
        "SystemSharedMemoryUnregister": ("admin", pb.SystemSharedMemoryUnregisterRequest, no_model, shared_unregister),
        "CudaSharedMemoryStatus": ("admin", pb.CudaSharedMemoryStatusRequest, no_model, cuda_shared_status),
        "CudaSharedMemoryUnregister": ("admin", pb.CudaSharedMemoryUnregisterRequest, no_model, cuda_unregister),
        "LogSettings": (_settings_action, pb.LogSettingsRequest, no_model, log),
        "TraceSetting": (_settings_action, pb.TraceSettingRequest, _MODEL_NAME, trace),
        "ModelConfig": ("read", pb.ModelConfigRequest, _NAME, model_config),
        "RepositoryIndex": ("read", pb.RepositoryIndexRequest, no_model, repository_index),
        "RepositoryModelLoad": ("admin", pb.RepositoryModelLoadRequest, _MODEL_NAME, load),
        "RepositoryModelUnload": ("admin", pb.RepositoryModelUnloadRequest, _MODEL_NAME, unload),
    }
    return {name: _method(*each) for name, each in table.items()}


# The field of a message that names its model.
_NAME: Callable[[Any], str] = attrgetter("name")
_MODEL_NAME: Callable[[Any], str] = attrgetter("model_name")


def _settings_action(message: Any) -> Action:
    """A message without settings only reads them."""
    return "admin" if message.settings else "read"


def _parameters(parameters: Mapping[str, pb.ModelRepositoryParameter]) -> dict[str, Any]:
    """Return the values of a load request's parameters; None for those without one."""
    chosen = {key: value.WhichOneof("parameter_choice") for key, value in parameters.items()}
    return {key: getattr(parameters[key], kind) if kind else None for key, kind in chosen.items()}


def _method(
    action: Action | Callable[[Any], Action], kind: type[Message], model: Callable[[Any], str], answer: _Answer
) -> Method:
    return unary(action, kind, model, lambda message, seconds, identity: answer(message, identity))
