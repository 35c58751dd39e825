"""The logging extension, for REST and gRPC."""

from collections.abc import Mapping
from typing import Any

from gateway.domain.control import ChangeLogSettings
from gateway.engine.protocol import Engine
from gateway.generated import open_inference_pb2 as pb


async def log_settings(engine: Engine, message: pb.LogSettingsRequest) -> pb.LogSettingsResponse:
    """Answer the gRPC method. Raises InvalidRequest, Unsupported."""
    settings = await engine.control(ChangeLogSettings(_values(message)))
    return pb.LogSettingsResponse(settings={name: _setting(value) for name, value in settings.items()})


def _values(message: pb.LogSettingsRequest) -> Mapping[str, Any]:
    chosen = {name: (setting, setting.WhichOneof("parameter_choice")) for name, setting in message.settings.items()}
    return {name: choice and getattr(setting, choice) for name, (setting, choice) in chosen.items()}


def _setting(value: bool | int | str) -> pb.LogSettingsResponse.SettingValue:
    if isinstance(value, bool):
        return pb.LogSettingsResponse.SettingValue(bool_param=value)
    if isinstance(value, int):
        return pb.LogSettingsResponse.SettingValue(uint32_param=value)
    return pb.LogSettingsResponse.SettingValue(string_param=value)
