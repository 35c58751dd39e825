"""The statistics extension, for REST and gRPC."""

from typing import Any

from gateway.domain.control import GetStatistics
from gateway.engine.protocol import Engine


async def read_statistics(engine: Engine, name: str = "", version: str = "") -> dict[str, Any]:
    """Return the statistics of one version, of all versions of a model, or of all models. Raises NotFound."""
    if name:
        found = engine.model(name, version)
        selected = [found] if version else [status for status in engine.models() if status.name == name]
    else:
        selected = list(engine.models())
    versions = [[status.name, status.version] for status in selected if status.version]
    return await engine.control(GetStatistics(versions))
