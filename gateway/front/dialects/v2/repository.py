"""The model_repository extension, for REST and gRPC."""

from collections.abc import Mapping
from typing import Any

from gateway.domain.control import GetIndex
from gateway.engine.protocol import Engine
from gateway.errors import InvalidRequest, Unsupported


async def read_index(engine: Engine, ready: bool) -> list[dict[str, str]]:
    """Return every version as {name, version, state, reason}; if `ready` is set, only those that are READY."""
    return [entry for entry in await engine.control(GetIndex()) if not ready or entry["state"] == "READY"]


def check_parameters(parameters: Any) -> None:
    """Check the parameters of a load or unload request.

    Raises Unsupported for Triton's overrides, which would otherwise be ignored silently, and InvalidRequest.
    """
    if parameters is None:
        return
    if not isinstance(parameters, Mapping):
        raise InvalidRequest("'parameters' must be an object")
    for name in parameters:
        if name == "config" or name.startswith("file:"):
            raise Unsupported("a model cannot be changed while it is loaded; edit its model.toml, then load it again")
