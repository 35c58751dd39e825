"""The statistics extension, for REST and gRPC."""

from typing import Any

from gateway.domain.control import GetStatistics
from gateway.domain.identity import Identity
from gateway.engine.protocol import Engine
from gateway.front.base.access import may_read
from gateway.front.dialects.v2.traffic import check_known


async def read_statistics(engine: Engine, name: str, version: str, identity: Identity | None) -> dict[str, Any]:
    """Return the statistics of one version, of all versions of a model, or of all models. Raises NotFound.

    The last have only those that the client may read about.
    """
    if name and version:
        selected = [engine.model(name, version)]
    elif name:
        check_known(engine, name)
        selected = [status for status in engine.models() if status.name == name]
    else:
        selected = [status for status in engine.models() if may_read(identity, status.name)]
    versions = [[status.name, status.version] for status in selected if status.version]
    return await engine.control(GetStatistics(versions))
