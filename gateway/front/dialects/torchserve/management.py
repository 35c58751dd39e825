"""TorchServe's routes in the admin app: /ping, and read-only /models."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from gateway.domain.types import ModelStatus
from gateway.engine.protocol import Engine
from gateway.errors import InvalidRequest, ModelportError, NotAllowed, NotFound
from gateway.front.base.access import OUTCOME, acts, readable_models
from gateway.front.base.app_routes import AppRoute, AppRoutes
from gateway.front.base.body import ReadObject
from gateway.front.dialects.torchserve.inference import encode_error

_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])

_DEFAULT_LIMIT = 100  # TorchServe's
_WRITE_METHODS = ["POST", "PUT", "DELETE"]
_ALL_METHODS = ["GET", "HEAD", "PATCH", "OPTIONS", *_WRITE_METHODS]


class _Route(AppRoute):
    """A route that answers with errors in TorchServe's form, including 405."""

    encode_error = staticmethod(encode_error)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.methods and scope["method"] not in self.methods:
            error = NotAllowed(f"this path accepts {_allowed(self.path)}, not {scope['method']}")
            await _error_response(error, self.path)(scope, receive, send)
        else:
            await super().handle(scope, receive, send)

    async def answer(self, request: Request) -> Response:
        try:
            return await super().answer(request)
        except ModelportError as error:
            request.scope[OUTCOME] = error.kind
            return _error_response(error, self.path)


def _allowed(path: str) -> str:
    return "GET, HEAD" if path == "/ping" else "GET"


def _error_response(error: ModelportError, path: str) -> Response:
    headers = {"allow": _allowed(path)} if isinstance(error, NotAllowed) else {}
    return Response(encode_error(error), error.status, headers, media_type="application/json")


def add_routes(app: AppRoutes, engine: Engine, read_object: ReadObject) -> None:
    def add(path: str, methods: list[str], **options: Any) -> Callable[[_Endpoint], _Endpoint]:
        return app.add(methods, path, _Route, tags=["TorchServe"], **options)

    # Some load balancers send HEAD.
    @add("/ping", ["HEAD"], include_in_schema=False)
    @add("/ping", ["GET"], responses={503: {"description": "Not ready"}})
    @acts("health")
    async def ping() -> JSONResponse:
        """Whether the server is ready for requests."""
        return JSONResponse({"status": "Healthy"}) if engine.ready else JSONResponse({"status": "Unhealthy"}, 503)

    @add("/models", ["GET"])
    async def models(request: Request, limit: str = "", next_page_token: str = "") -> dict[str, Any]:
        """The names of the models: at most `limit` of them (100), starting at `next_page_token`."""
        size = _count("limit", limit, 1) if limit else _DEFAULT_LIMIT
        start = _count("next_page_token", next_page_token, 0) if next_page_token else 0
        names = readable_models(engine, request)
        listed = [{"modelName": name} for name in names[start : start + size]]
        more = {"nextPageToken": str(start + size)} if start + size < len(names) else {}
        return {**more, "models": listed}

    @add("/models/{model}", ["GET"])
    @add("/models/{model}/{version}", ["GET"])
    async def model(model: str, version: str = "") -> list[dict[str, Any]]:
        """One version, by default the newest, or `all`."""
        if version == "all":
            found: Iterable[ModelStatus] = [status for status in engine.models() if status.name == model]
            return [_record(status) for status in found or [engine.model(model)]]
        return [_record(engine.model(model, version))]

    @add("/models", _WRITE_METHODS, include_in_schema=False)
    @add("/models/{rest:path}", _WRITE_METHODS, include_in_schema=False)
    async def write(rest: str = "") -> None:
        raise NotAllowed(
            "models cannot be changed here: the folders of the model repository determine what is served, "
            "and POST /v2/repository/models/{model}/load reads them immediately"
        )

    @add("/models/{rest:path}", ["GET"], include_in_schema=False)
    @add("/predictions", _ALL_METHODS, include_in_schema=False)
    @add("/predictions/{rest:path}", _ALL_METHODS, include_in_schema=False)
    @add("/explanations/{rest:path}", _ALL_METHODS, include_in_schema=False)
    async def nothing(rest: str = "") -> None:
        raise NotFound("this path does not exist; /docs lists the paths that do")


def _count(name: str, text: str, minimum: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < minimum:
        raise InvalidRequest(f"'{name}' must be a whole number of at least {minimum}")
    return int(text)


def _record(status: ModelStatus) -> dict[str, Any]:
    """Describe a version. One entry represents all workers, because fronts do not know their number."""
    if not status.version:
        raise NotFound(f"model '{status.name}' has no version: {status.reason}")
    worker = {"status": status.state, **({"reason": status.reason} if status.reason else {})}
    return {
        "modelName": status.name,
        "modelVersion": status.version,
        "runtime": status.platform,
        "batchSize": max(status.max_batch_size, 1),
        "workers": [worker],
    }
