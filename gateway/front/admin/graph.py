"""The graph of a model: Netron's viewer, and the files of the model's artifact, which it reads in the browser."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from gateway.domain.control import GetArtifact
from gateway.engine.protocol import Engine
from gateway.errors import NotFound, Unsupported
from gateway.front.admin.pages import HEADERS, Pages
from gateway.front.base.access import acts, public
from gateway.front.base.app_routes import AppRoutes

# Netron's own start file asks who the user is, reports what it opens, and refuses to run when it is half a year old.
_START = re.compile(r'<script [^>]*src="index\.js"[^>]*></script>')
_OUR_START = '<script type="module" src="/console/files/graph_viewer.js"></script>'
# A file of a model is never shown or run by a browser, whatever it contains.
_FILE_HEADERS = {
    "content-security-policy": "default-src 'none'; sandbox",
    "x-content-type-options": "nosniff",
    "cache-control": "private, no-cache",
}


def add_graph(app: AppRoutes, engine: Engine, console: Pages) -> None:
    @app.page("/console/models/{model}/graph")
    @app.page("/console/models/{model}/versions/{version}/graph")
    @public
    async def graph(request: Request) -> Response:
        return await console.send("graph.html", request)

    @app.page("/console/netron/")
    @public
    async def viewer(request: Request) -> Response:
        return HTMLResponse(_viewer(), headers=HEADERS)

    @app.page("/console/netron/{path:path}")
    @public
    async def viewer_file(request: Request, path: str) -> Response:
        return await Pages(_netron()).send(path, request)

    @app.get("/console/models/{model}/artifact", include_in_schema=False)
    @app.get("/console/models/{model}/versions/{version}/artifact", include_in_schema=False)
    @acts("read")
    async def artifact(model: str, version: str = "") -> dict[str, Any]:
        """The names of the artifact's files, without their contents. version: a number or a label."""
        if version and not version.isdigit():
            version = engine.model(model, version).version
        found = await engine.control(GetArtifact(model, version))
        return {**found, "files": sorted(found["files"])}

    @app.get("/console/models/{model}/versions/{version}/artifact/{path:path}", include_in_schema=False)
    @acts("admin")  # it contains the model
    async def artifact_file(model: str, version: str, path: str) -> Response:
        files = (await engine.control(GetArtifact(model, version)))["files"]
        if path not in files:
            raise NotFound(f"the artifact of model '{model}' has no file '{path}'")
        name = path.rpartition("/")[2]
        return FileResponse(files[path], headers=_FILE_HEADERS, media_type="application/octet-stream", filename=name)


@cache
def _netron() -> Path:
    """Return the folder of the installed viewer, which is found without importing its server. Raises Unsupported."""
    spec = find_spec("netron")
    if spec is None or spec.origin is None:
        raise Unsupported("graphs cannot be drawn, because the package netron is missing: install modelport again")
    return Path(spec.origin).parent


@cache
def _viewer() -> str:
    """Return Netron's page with our start file."""
    text, count = _START.subn(_OUR_START, (_netron() / "index.html").read_text("utf-8"))
    assert count == 1
    return text
