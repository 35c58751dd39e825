"""The FastAPI app: every route that is not hot. It also documents the hot routes, which do not reach it."""

from collections.abc import Awaitable, Collection
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

import gateway
from gateway.engine.protocol import ClientDisconnected, Engine
from gateway.errors import ModelportError, NotFound
from gateway.front.admin.door import Door
from gateway.front.admin.exports import add_exports
from gateway.front.admin.openapi import document_hot_paths
from gateway.front.admin.origin import check_origin
from gateway.front.base.access import Access
from gateway.front.base.body import BodyTimeouts, read_object
from gateway.front.base.client_errors import client_message
from gateway.front.base.limits import Limits
from gateway.front.base.openapi import FAILURES
from gateway.front.dialects.registry import DIALECTS


def build_admin(
    engine: Engine, limits: Limits, allowed_hosts: Collection[str] = (), access: Access | None = None
) -> FastAPI:
    """`allowed_hosts`: names under which browsers may change the gateway, besides its addresses and host name."""

    async def check(request: Request) -> None:
        check_origin(request.method, request.headers, allowed_hosts)

    app = FastAPI(
        title="modelport",
        version=gateway.__version__,
        description="One gateway that serves what every deep learning framework saved.",
        redirect_slashes=False,
        responses=FAILURES,
        dependencies=[Depends(check)],
        exception_handlers={
            ModelportError: _model_error,
            ClientDisconnected: _no_answer,
            HTTPException: _http_error,
            RequestValidationError: _validation_error,
            Exception: _internal_error,
        },
    )
    timeouts = BodyTimeouts()

    def read(request: Request) -> Awaitable[dict[str, Any]]:
        return read_object(request, limits, timeouts)

    parts = [dialect.app_part() for dialect in DIALECTS]
    for part in parts:
        if part.add_routes is not None:
            part.add_routes(app, engine, read)
    add_exports(app, engine, read)
    document_hot_paths(app, [part.hot_paths for part in parts])
    if access is not None:
        app.add_middleware(Door, access=access, routes=app.router.routes, timeouts=timeouts)
    return app


async def _model_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ModelportError)
    body = getattr(request.state, "body", None)
    if body is None or body.complete:
        return JSONResponse({"error": client_message(error)}, error.status)
    await body.discard()
    return JSONResponse({"error": client_message(error)}, error.status, {"connection": "close"})


async def _no_answer(request: Request, error: Exception) -> Response:
    return Response()  # the client does not receive it


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        not_found = NotFound("this path does not exist; /docs lists the paths that do")
        return JSONResponse({"error": client_message(not_found)}, 404)
    headers = dict(error.headers or {})
    text = f"this path accepts {headers['Allow']}, not {request.method}" if "Allow" in headers else error.detail
    return JSONResponse({"error": text}, error.status_code, headers)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": "the request does not have the form that /docs describes"}, 400)


async def _internal_error(request: Request, error: Exception) -> JSONResponse:
    # Starlette raises it again after this answer, and uvicorn logs it with its traceback.
    return JSONResponse({"error": "internal error"}, 500)
