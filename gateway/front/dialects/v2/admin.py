"""The protocol's routes in the admin app: health, metadata, statistics, configuration, repository, shared memory."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from gateway.domain.control import ChangeLogSettings, GetMetrics, GetSecurity, UnloadModel
from gateway.engine.protocol import Engine
from gateway.errors import InvalidRequest, TooLarge, Unsupported
from gateway.front.base.access import acts, identity_of, readable_models
from gateway.front.base.app_routes import AppRoutes
from gateway.front.base.body import MAX_OBJECT_BYTES, ReadObject, read_headers
from gateway.front.base.loading import loaded_model
from gateway.front.dialects.v2 import load_request, shared_memory
from gateway.front.dialects.v2.metadata import model_metadata, server_metadata
from gateway.front.dialects.v2.model_config import as_json, read_configuration
from gateway.front.dialects.v2.repository import check_dependents, parameters_of, read_index
from gateway.front.dialects.v2.statistics import read_statistics
from gateway.front.dialects.v2.trace_settings import trace_settings
from gateway.front.dialects.v2.traffic import add_traffic_routes


def add_routes(app: AppRoutes, engine: Engine, read_object: ReadObject) -> None:
    _add_health(app, engine)
    _add_models(app, engine)
    _add_repository(app, engine, read_object)
    _add_shared_memory(app, engine, read_object)
    _add_log_settings(app, engine, read_object)
    _add_trace_settings(app, engine, read_object)
    _add_configuration(app, engine)
    add_traffic_routes(app, engine, read_object)


def _add_health(app: AppRoutes, engine: Engine) -> None:
    @app.get("/v2", tags=["server"])
    async def metadata() -> dict[str, Any]:
        """Name, version and supported protocol extensions."""
        return server_metadata(engine)

    # Some load balancers send HEAD.
    @app.head("/v2/health/live", include_in_schema=False)
    @app.get("/v2/health/live", tags=["server"])
    @acts("health")
    async def live() -> dict[str, bool]:
        """Whether the process is running."""
        return {"live": True}

    @app.head("/v2/health/ready", include_in_schema=False)
    @app.get("/v2/health/ready", tags=["server"], responses={503: {"description": "Not ready"}})
    @acts("health")
    async def ready() -> JSONResponse:
        """Whether the server is ready for requests."""
        return _readiness({"ready": engine.ready})

    @app.get("/v2/security", tags=["server"])
    @acts("read")
    async def security() -> dict[str, Any]:
        """What protects the server, and why a protection is not in force: {feature: {"enforced", "reason"}}."""
        return await engine.control(GetSecurity())

    @app.get(
        "/metrics",
        tags=["server"],
        response_class=PlainTextResponse,
        responses={200: {"content": {"application/openmetrics-text": {"schema": {"type": "string"}}}}},
    )
    @acts("metrics")
    async def metrics(request: Request) -> Response:
        """Metrics in Prometheus' text format, or as OpenMetrics for clients that accept it."""
        identity = identity_of(request)
        patterns = ("*",) if identity is None else identity.patterns("metrics")
        accept = ", ".join(request.headers.getlist("accept"))
        content_type, text = await engine.control(GetMetrics(patterns, accept))
        return Response(text, headers={"Content-Type": content_type, "Vary": "Accept"})


def _add_models(app: AppRoutes, engine: Engine) -> None:
    @app.get("/v2/models", tags=["models"])
    async def models(request: Request) -> dict[str, list[str]]:
        """The names of all models."""
        return {"models": readable_models(engine, request)}

    @app.get("/v2/models/stats", tags=["models"])
    @app.get("/v2/models/{model}/stats", tags=["models"])
    @app.get("/v2/models/{model}/versions/{version}/stats", tags=["models"])
    async def statistics(request: Request, model: str = "", version: str = "") -> dict[str, Any]:
        """Triton's statistics: counts and total nanoseconds, also by batch size."""
        return await read_statistics(engine, model, version, identity_of(request))

    @app.get("/v2/models/{model}", tags=["models"])
    @app.get("/v2/models/{model}/versions/{version}", tags=["models"])
    async def metadata(request: Request, model: str, version: str = "") -> dict[str, Any]:
        """Inputs and outputs. -1 means any size. A datatype "" and a shape [-1] may be unknown as yet."""
        await loaded_model(engine, model, version, identity_of(request))
        return model_metadata(engine, model, version)

    @app.get("/v2/models/{model}/ready", tags=["models"], responses={503: {"description": "Not ready"}})
    @app.get(
        "/v2/models/{model}/versions/{version}/ready", tags=["models"], responses={503: {"description": "Not ready"}}
    )
    @acts("health")
    async def ready(model: str, version: str = "") -> JSONResponse:
        """Whether the model is ready for requests."""
        status = engine.model(model, version)
        return _readiness({"name": status.name, "ready": status.state == "READY"})


def _add_repository(app: AppRoutes, engine: Engine, read_object: ReadObject) -> None:
    @app.post("/v2/repository/index", tags=["repository"])
    @acts("read")
    async def index(request: Request) -> list[dict[str, str]]:
        """Every version with its state; with {"ready": true}, only those that are READY."""
        ready = (await read_object(request)).get("ready", False)
        if not isinstance(ready, bool):
            raise InvalidRequest("'ready' must be true or false")
        return await read_index(engine, ready, identity_of(request))

    @app.post("/v2/repository/models/{model}/load", tags=["repository"])
    async def load(model: str, request: Request) -> Response:
        """Load the model from the current state of the repository.

        If uploads are allowed, with {"parameters": {"config": …, "file:1/model.onnx": …}}: a configuration in JSON that
        replaces the model's, and files in base64 that replace its files.
        """
        await load_request.load(engine, model, parameters_of(await _read_load(engine, request, read_object)))
        return Response(status_code=200)

    @app.get("/v2/repository/models/{model}/load", tags=["repository"])
    @acts("admin")
    async def limits(model: str) -> dict[str, int]:
        """How many bytes of files a load request may bring: {"max_bytes"}, which is 0 if it may bring nothing."""
        return {"max_bytes": 0 if engine.uploads is None else engine.uploads.max_bytes}

    @app.post("/v2/repository/models/{model}/unload", tags=["repository"])
    async def unload(model: str, request: Request) -> Response:
        """Wait for the model's requests, then stop its workers."""
        parameters = parameters_of(await read_object(request))
        check_dependents(engine, model, bool(parameters.get("unload_dependents")))
        await engine.control(UnloadModel(model))
        return Response(status_code=200)


async def _read_load(engine: Engine, request: Request, read_object: ReadObject) -> dict[str, Any]:
    """Read the body of a load request, which may be large if it brings files."""
    uploads = engine.uploads
    length = read_headers(request.scope["headers"]).content_length
    if length is not None and length <= MAX_OBJECT_BYTES:
        return await read_object(request)
    if uploads is None:
        try:
            return await read_object(request)
        except TooLarge:  # it has files
            uploads = load_request.uploads_of(engine)
    async with uploads.turn:
        return await read_object(request, limit=uploads.json_bytes)


def _add_shared_memory(app: AppRoutes, engine: Engine, read_object: ReadObject) -> None:
    prefix = "/v2/systemsharedmemory"

    @app.get(prefix + "/status", tags=["shared memory"])
    @app.get(prefix + "/region/{region}/status", tags=["shared memory"])
    @acts("admin")  # whoever knows the name of a region can have its tensors read
    async def status(region: str = "") -> list[dict[str, Any]]:
        """The registered regions."""
        return shared_memory.status(engine, region)

    @app.post(prefix + "/region/{region}/register", tags=["shared memory"])
    async def register(region: str, request: Request) -> Response:
        """Register a region, with {"key", "offset", "byte_size"}, for use by tensors."""
        await shared_memory.register(engine, region, await read_object(request))
        return Response(status_code=200)

    @app.post(prefix + "/unregister", tags=["shared memory"])
    @app.post(prefix + "/region/{region}/unregister", tags=["shared memory"])
    async def unregister(request: Request, region: str = "") -> Response:
        """Unregister one region, or all of them."""
        await read_object(request)
        await shared_memory.unregister(engine, region)
        return Response(status_code=200)

    # CUDA regions cannot be registered, but Triton's clients unregister all of them at the start.
    cuda = "/v2/cudasharedmemory"

    @app.get(cuda + "/status", tags=["shared memory"])
    @app.get(cuda + "/region/{region}/status", tags=["shared memory"])
    @acts("admin")
    async def cuda_status(region: str = "") -> list[dict[str, Any]]:
        """Always empty: CUDA shared memory is not supported."""
        return shared_memory.cuda_status(engine, region)

    # Not documented, because documented paths do not answer with 5xx. It exists for its error message.
    @app.post(cuda + "/region/{region}/register", include_in_schema=False)
    async def cuda_register(region: str) -> None:
        """501: CUDA shared memory is not supported."""
        raise Unsupported("CUDA shared memory is not supported; use system shared memory")

    @app.post(cuda + "/unregister", tags=["shared memory"])
    @app.post(cuda + "/region/{region}/unregister", tags=["shared memory"])
    async def cuda_unregister(request: Request, region: str = "") -> Response:
        """Does nothing: no region is registered."""
        await read_object(request)
        shared_memory.cuda_status(engine)
        return Response(status_code=200)


def _add_log_settings(app: AppRoutes, engine: Engine, read_object: ReadObject) -> None:
    @app.get("/v2/logging", tags=["server"])
    async def read() -> dict[str, Any]:
        """What is logged, as in Triton."""
        return await engine.control(ChangeLogSettings({}))

    @app.post("/v2/logging", tags=["server"])
    async def change(request: Request) -> dict[str, Any]:
        """Change what is logged, with those of the settings that change. It holds for the server and its workers."""
        return await engine.control(ChangeLogSettings(await read_object(request)))


def _add_trace_settings(app: AppRoutes, engine: Engine, read_object: ReadObject) -> None:
    @app.get("/v2/trace/setting", tags=["server"])
    @app.get("/v2/models/{model}/trace/setting", tags=["models"])
    async def read(model: str = "") -> dict[str, Any]:
        """Which requests are traced, as in Triton."""
        return await trace_settings(engine, model, {})

    @app.post("/v2/trace/setting", tags=["server"])
    @app.post("/v2/models/{model}/trace/setting", tags=["models"])
    async def change(request: Request, model: str = "") -> dict[str, Any]:
        """Change which requests are traced. A null clears a setting: that of all models holds, or the server's."""
        return await trace_settings(engine, model, await read_object(request, nulls=True))


def _add_configuration(app: AppRoutes, engine: Engine) -> None:
    @app.get("/v2/models/{model}/config", tags=["models"])
    @app.get("/v2/models/{model}/versions/{version}/config", tags=["models"])
    async def config(request: Request, model: str, version: str = "") -> dict[str, Any]:
        """The configuration in the form of Triton's config.pbtxt; dims do not include the batch dimension."""
        return as_json(await read_configuration(engine, model, version, identity_of(request)))


def _readiness(body: dict[str, Any]) -> JSONResponse:
    return JSONResponse(body, 200 if body["ready"] else 503)
