"""The trace extension, for REST and gRPC."""

from collections.abc import Mapping
from typing import Any

from gateway.domain.control import ChangeTraceSettings
from gateway.engine.protocol import Engine
from gateway.errors import InvalidRequest
from gateway.front.dialects.v2.traffic import check_known
from gateway.generated import open_inference_pb2 as pb


async def trace_settings(engine: Engine, model: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Change the settings of a model, or of all, and return them. Raises NotFound, InvalidRequest, Unsupported."""
    if model:
        check_known(engine, model)
    return await engine.control(ChangeTraceSettings(model, changes))


async def answer(engine: Engine, message: pb.TraceSettingRequest) -> pb.TraceSettingResponse:
    """Answer the gRPC method. Raises NotFound, InvalidRequest, Unsupported."""
    changes = {name: _value(name, list(setting.value)) for name, setting in message.settings.items()}
    settings = await trace_settings(engine, message.model_name, changes)
    values = {name: value if isinstance(value, list) else [value] for name, value in settings.items()}
    return pb.TraceSettingResponse(
        settings={name: pb.TraceSettingResponse.SettingValue(value=value) for name, value in values.items()}
    )


def _value(name: str, values: list[str]) -> Any:
    """Return the value as REST has it."""
    if not values:
        return None
    if name == "trace_level":
        return values
    if len(values) > 1:
        raise InvalidRequest(f"'{name}' must have one value, not {len(values)}")
    return values[0]
