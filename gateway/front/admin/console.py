"""The console: pages for a browser, and the figures that they show."""

from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles

import gateway.console
from gateway.domain.control import GetOverview
from gateway.engine.protocol import Engine
from gateway.front.base.access import acts, identity_of, may_read, public
from gateway.front.base.app_routes import AppRoutes

_FOLDER = Path(gateway.console.__file__).parent
# Scripts and style sheets come from this server only. Charts and Netron set styles of elements, images are dropped by
# the user.
_HEADERS = {
    "content-security-policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    # A browser asks each time whether a file has changed: after an update, old scripts must not meet a new server.
    "cache-control": "no-cache",
}


def add_console(app: AppRoutes, engine: Engine, enabled: bool = True) -> None:
    """Add the routes. If the console is disabled, only KServe's answer at `/` remains."""

    @app.get("/", tags=["KServe v1"])
    @public
    async def root(request: Request) -> Response:
        """Browsers get the console. Other clients get whether the server is live, in KServe's v1 protocol."""
        if enabled and "text/html" in request.headers.get("accept", ""):
            return await page("index.html", request)
        return JSONResponse({"status": "alive"}, headers={"vary": "accept"})

    if not enabled:
        return
    files = StaticFiles(directory=_FOLDER)

    async def page(name: str, request: Request) -> Response:
        try:
            response = await files.get_response(name, request.scope)
        except HTTPException as error:
            return Response(f"there is no file '{name}' in the console\n", error.status_code, media_type="text/plain")
        response.headers.update({**_HEADERS, "vary": "accept"})
        return response

    @app.get("/console", include_in_schema=False)
    @public
    async def overview(request: Request) -> Response:
        return await page("index.html", request)

    @app.get("/console/models/{model}", include_in_schema=False)
    @app.get("/console/models/{model}/versions/{version}", include_in_schema=False)
    @public
    async def model_page(request: Request) -> Response:
        """The same file for every model, whether or not it exists: the script asks for what it may show."""
        return await page("model.html", request)

    @app.get("/console/files/{path:path}", include_in_schema=False)
    @public
    async def file(request: Request, path: str) -> Response:
        return await page(path, request)

    @app.get("/console/data", include_in_schema=False)
    @acts("read")
    async def data(request: Request) -> dict[str, Any]:
        """What `GetOverview` describes, of the models that the client may read about."""
        overview = await engine.control(GetOverview())
        identity = identity_of(request)
        return {**overview, "models": [each for each in overview["models"] if may_read(identity, each["name"])]}
