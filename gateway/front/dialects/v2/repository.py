"""The model_repository extension, for REST and gRPC."""

from collections.abc import Mapping
from typing import Any

from gateway.domain.control import GetIndex
from gateway.domain.identity import Identity
from gateway.engine.protocol import Engine
from gateway.errors import InvalidRequest, Unsupported
from gateway.front.base.access import may_read


async def read_index(engine: Engine, ready: bool, identity: Identity | None) -> list[dict[str, str]]:
    """Return every version that the client may read about, as {name, version, state, reason}.

    ready  whether only those that are READY are returned
    """
    entries = await engine.control(GetIndex())
    return [each for each in entries if may_read(identity, each["name"]) and (not ready or each["state"] == "READY")]


def check_dependents(engine: Engine, name: str, wanted: bool) -> None:
    """Check the parameter unload_dependents. Raises Unsupported if the model is a pipeline, which has some.

    A client that may unload a pipeline need not be allowed to unload its steps, which other models may use.
    """
    steps = sorted({step.model for status in engine.models() if status.name == name for step in status.steps})
    if wanted and steps:
        raise Unsupported(f"unload_dependents is not supported; unload the steps one by one: {', '.join(steps)}")


def parameters_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the parameters of a load or unload request over REST. Raises InvalidRequest."""
    parameters = body.get("parameters", {})
    if not isinstance(parameters, Mapping):
        raise InvalidRequest("'parameters' must be an object")
    return parameters
