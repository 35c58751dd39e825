"""The statistics extension, for REST and gRPC alike."""

from typing import Any

from gateway.domain.control import GetStatistics
from gateway.engine.protocol import Engine


async def read_statistics(engine: Engine, name: str = "", version: str = "") -> dict[str, Any]:
    """Of one version; of all of a model; without a name of all models. Raises NotFound."""
    if name:
        found = engine.model(name, version)
        chosen = [found] if version else [status for status in engine.models() if status.name == name]
    else:
        chosen = list(engine.models())
    versions = [[status.name, status.version] for status in chosen if status.version]
    return await engine.control(GetStatistics(versions))
