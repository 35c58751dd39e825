"""MLflow's routes in the admin app: /health and /version, and the health route that Vertex AI chooses.

/ping, which MLflow, SageMaker and TorchServe share, is in the dialect of TorchServe.
"""

from starlette.responses import JSONResponse, PlainTextResponse

import gateway
from gateway.engine.protocol import Engine
from gateway.front.base.access import acts
from gateway.front.base.app_routes import AppRoutes
from gateway.front.base.body import ReadObject


def add_routes(app: AppRoutes, engine: Engine, read_object: ReadObject) -> None:
    responses = {503: {"description": "Not ready"}}

    @acts("health")
    async def health() -> JSONResponse:
        """Whether the server is ready for requests."""
        return JSONResponse({"status": "Healthy"}) if engine.ready else JSONResponse({"status": "Unhealthy"}, 503)

    app.head("/health", include_in_schema=False)(health)
    app.get("/health", tags=["MLflow"], responses=responses)(health)
    if engine.deployment.health_route:
        app.page(engine.deployment.health_route)(health)

    @app.get("/version", tags=["MLflow"])
    @acts("health")
    async def version() -> PlainTextResponse:
        """The version of modelport, as text."""
        return PlainTextResponse(gateway.__version__)
