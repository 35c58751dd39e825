"""The admin app: every route that is not hot. It also documents the hot routes, which do not reach it."""

from collections.abc import Awaitable, Collection
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.access.credentials import NAMES as CREDENTIALS
from gateway.domain.identity import Action
from gateway.domain.request_record import CANCELLED
from gateway.engine.protocol import ClientDisconnected, Engine
from gateway.errors import ModelportError, NotFound
from gateway.front.admin.console import add_console
from gateway.front.admin.documentation import Documentation
from gateway.front.admin.door import Door
from gateway.front.admin.exports import add_exports
from gateway.front.admin.origin import check_origin, check_page, is_allowed_page
from gateway.front.base.access import OUTCOME, Access, identity_of
from gateway.front.base.app_routes import AppRoutes
from gateway.front.base.body import MAX_OBJECT_BYTES, BodyTimeouts, read_object
from gateway.front.base.client_errors import client_message
from gateway.front.base.cors import Cors
from gateway.front.base.limits import Limits
from gateway.front.dialects.registry import DIALECTS


def build_admin(
    engine: Engine,
    limits: Limits,
    allowed_hosts: Collection[str] = (),
    access: Access | None = None,
    console: bool = True,
    cors: Cors | None = None,
) -> Starlette:
    """Return the app.

    allowed_hosts  names under which browsers may change the gateway, besides its addresses and host name
    console        whether browsers get the console's pages
    cors           which pages of other origins may read answers
    """

    def check(request: Request, action: Action) -> None:
        identity = identity_of(request)
        if cors is not None and is_allowed_page(request.headers, cors, allowed_hosts):
            # A browser may have sent a certificate, of which the page knows nothing.
            sent = any(name in request.headers for name in CREDENTIALS)
            check_page(action, has_credentials=sent and identity is not None and not identity.anonymous)
        else:
            check_origin(request.method, request.headers, allowed_hosts)

    timeouts = BodyTimeouts()

    def read(request: Request, nulls: bool = False, limit: int = MAX_OBJECT_BYTES) -> Awaitable[dict[str, Any]]:
        return read_object(request, limits, timeouts, nulls, limit)

    collected = AppRoutes(check)
    parts = [dialect.app_part() for dialect in DIALECTS]
    for part in parts:
        if part.add_routes is not None:
            part.add_routes(collected, engine, read)
    add_console(collected, engine, console)
    add_exports(collected, engine, read)
    documentation = Documentation(collected.routes, [part.hot_paths for part in parts])
    app = Starlette(
        routes=[documentation.route(), *collected.routes],
        exception_handlers={
            ModelportError: _model_error,
            ClientDisconnected: _no_answer,
            HTTPException: _http_error,
            Exception: _internal_error,
        },
    )
    app.router.redirect_slashes = False
    if access is not None:
        app.add_middleware(Door, access=access, routes=app.router.routes, timeouts=timeouts)
    return app


async def _model_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ModelportError)
    request.scope[OUTCOME] = error.kind
    body = getattr(request.state, "body", None)
    if body is None or body.complete:
        return JSONResponse({"error": client_message(error)}, error.status)
    await body.discard()
    return JSONResponse({"error": client_message(error)}, error.status, {"connection": "close"})


async def _no_answer(request: Request, error: Exception) -> Response:
    request.scope[OUTCOME] = CANCELLED
    return Response()  # the client does not receive it


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        not_found = NotFound("this path does not exist; /docs lists the paths that do")
        return JSONResponse({"error": client_message(not_found)}, 404)
    headers = dict(error.headers or {})
    text = f"this path accepts {headers['Allow']}, not {request.method}" if "Allow" in headers else error.detail
    return JSONResponse({"error": text}, error.status_code, headers)


async def _internal_error(request: Request, error: Exception) -> JSONResponse:
    # Starlette raises it again after this answer, and uvicorn logs it with its traceback.
    return JSONResponse({"error": "internal error"}, 500)
