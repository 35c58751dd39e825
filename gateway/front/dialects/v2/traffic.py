"""modelport's own extension of the protocol: how a model's requests are divided among its versions, and copied."""

from contextlib import suppress
from typing import Any

from starlette.requests import Request

from gateway.domain.control import ChangeTraffic, GetTraffic, PromoteVersion, RollBackTraffic
from gateway.engine.protocol import Engine
from gateway.errors import InvalidRequest, Unavailable
from gateway.front.base.app_routes import AppRoutes
from gateway.front.base.body import ReadObject


def check_known(engine: Engine, model: str) -> None:
    """Raises NotFound if there is no such model. One whose weights let no version answer is known nevertheless."""
    with suppress(Unavailable):
        engine.model(model)


def add_traffic_routes(app: AppRoutes, engine: Engine, read_object: ReadObject) -> None:
    prefix = "/v2/models/{model}/traffic"

    @app.get(prefix, tags=["models"])
    async def read(model: str) -> dict[str, Any]:
        """The weights of the model's versions, the share that each of them gets now, and its shadow."""
        check_known(engine, model)
        return await engine.control(GetTraffic(model))

    @app.post(prefix, tags=["models"])
    async def change(model: str, request: Request) -> dict[str, Any]:
        """Change "weights", "shadow", "sticky_header" or "sticky_identity"; a null clears one.

        It holds until the model's configuration changes, or the server restarts.
        """
        check_known(engine, model)
        return await engine.control(ChangeTraffic(model, await read_object(request, nulls=True)))

    @app.post(prefix + "/promote", tags=["models"])
    async def promote(model: str, request: Request) -> dict[str, Any]:
        """Have {"version": "4"} get all requests that name no version."""
        check_known(engine, model)
        document = await read_object(request)
        version = document.get("version")
        if type(version) is int:
            version = str(version)
        if not isinstance(version, str) or set(document) != {"version"}:
            raise InvalidRequest('the body must name the version to promote, and nothing else: {"version": "4"}')
        return await engine.control(PromoteVersion(model, version))

    @app.post(prefix + "/rollback", tags=["models"])
    async def roll_back(model: str, request: Request) -> dict[str, Any]:
        """Return to what was in force before the newest change, promotions included."""
        check_known(engine, model)
        await read_object(request)
        return await engine.control(RollBackTraffic(model))
