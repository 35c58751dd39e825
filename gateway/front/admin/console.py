"""The console: pages for a browser, and the figures that they show."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import gateway.console
from gateway.domain.control import ExplainConfiguration, GetOverview
from gateway.domain.identity import Action, Identity
from gateway.domain.types import ModelStatus, complete_specs, runs_sequences
from gateway.engine.protocol import Engine
from gateway.errors import NotFound, Unavailable
from gateway.front.admin.graph import add_graph
from gateway.front.admin.pages import Pages
from gateway.front.base.access import acts, identity_of, may_read, public
from gateway.front.base.app_routes import AppRoutes
from runtimes.contract import Signature, TensorSpec

_FOLDER = Path(gateway.console.__file__).parent


def add_console(app: AppRoutes, engine: Engine, enabled: bool = True) -> None:
    """Add the routes. If the console is disabled, only KServe's answer at `/` and the page of the API remain."""
    pages = Pages(_FOLDER)

    @app.head("/", include_in_schema=False)
    @app.get("/", tags=["KServe v1"])
    @public
    async def root(request: Request) -> Response:
        """Browsers get the console. Other clients get whether the server is live, in KServe's v1 protocol."""
        if enabled and "text/html" in request.headers.get("accept", ""):
            return await pages.send("index.html", request)
        return JSONResponse({"status": "alive"}, headers={"vary": "accept"})

    @app.page("/docs")
    @public
    async def docs(request: Request) -> Response:
        return await pages.send("docs.html", request)

    @app.page("/console/files/{path:path}")
    @public
    async def file(request: Request, path: str) -> Response:
        return await pages.send(path, request)

    if not enabled:
        return
    add_graph(app, engine, pages)

    @app.page("/console")
    @public
    async def overview(request: Request) -> Response:
        return await pages.send("index.html", request)

    @app.page("/console/models/{model}")
    @app.page("/console/models/{model}/versions/{version}")
    @public
    async def model_page(request: Request) -> Response:
        """The same file for every model, whether or not it exists: the script asks for what it may show."""
        return await pages.send("model.html", request)

    @app.get("/console/data", include_in_schema=False)
    @acts("read")
    async def data(request: Request, model: str = "") -> dict[str, Any]:
        """What `GetOverview` describes, of the models that the client may read about, or of one of them.

        Each model also has `may`: which actions the client may perform on it.
        """
        overview = await engine.control(GetOverview())
        identity = identity_of(request)
        models = [
            {**each, "may": _permitted(identity, each["name"])}
            for each in overview["models"]
            if may_read(identity, each["name"]) and model in ("", each["name"])
        ]
        return {**overview, "models": models}

    @app.get("/console/models/{model}/configuration", include_in_schema=False)
    @app.get("/console/models/{model}/versions/{version}/configuration", include_in_schema=False)
    @acts("read")
    async def configuration(model: str, version: str = "") -> dict[str, Any]:
        """What requests to a version look like, and its configuration in force (`ExplainConfiguration`)."""
        status = engine.model(model, version)
        values = await engine.control(ExplainConfiguration(status.name, status.version))
        return {**_interface(status), "sequence": runs_sequences(status, partial(_find, engine)), "values": values}


def _permitted(identity: Identity | None, model: str) -> list[Action]:
    actions: tuple[Action, ...] = ("infer", "read", "admin")
    return [action for action in actions if identity is None or identity.allows(action, model)]


def _find(engine: Engine, model: str, version: str) -> ModelStatus | None:
    """Return the version that a step of a pipeline runs; None if it was unloaded."""
    try:
        return engine.model(model, version)
    except (NotFound, Unavailable):
        return None


def _interface(status: ModelStatus) -> dict[str, Any]:
    """Return what a client must know in order to send requests to a version. A shape is null if it is not known."""
    return {
        "name": status.name,
        "version": status.version,
        "version_labels": list(status.version_labels),
        "signatures": [
            {"name": name, **_describe(each, status.learned if name == status.default_signature else None)}
            for name, each in status.signatures.items()
        ],
        "class_labels": status.class_labels,
        "batch_dim": status.batch_dim if status.has_rows else None,
        "preprocess": status.preprocess and status.preprocess._asdict(),
        "postprocess": status.postprocess and status.postprocess._asdict(),
    }


def _describe(signature: Signature, learned: Signature | None) -> dict[str, Any]:
    revealed = learned or Signature((), ())
    inputs = [
        {**each, "optional": each["name"] in signature.optional, "has_rows": True}
        for each in _tensors(signature.inputs, revealed.inputs)
    ]
    return {
        "inputs": inputs + [{**spec._asdict(), "optional": True, "has_rows": False} for spec in signature.unbatched],
        "outputs": _tensors(signature.outputs or revealed.outputs, revealed.outputs),
        "refused": {name: why for name, why in signature.refused.items() if name not in signature.json},
        "json": signature.json,
    }


def _tensors(specs: Sequence[TensorSpec], learned: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    return [spec._asdict() for spec in complete_specs(specs, learned)]
