"""/openapi.json: FastAPI's description of the app's routes, and of the hot ones. The page /docs shows it."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

import gateway
from gateway.front.base.app_routes import AppRoute
from gateway.front.base.body import Receive, Scope, Send
from gateway.front.base.openapi import FAILURES

if TYPE_CHECKING:
    from fastapi import FastAPI


class Documentation:
    """An ASGI app that answers at the path of `route`.

    FastAPI is imported when a client first asks, because it takes a third of a second and 16 MiB; and in a thread,
    because inference goes on meanwhile.

    described   the routes to document
    hot_paths   OpenAPI descriptions of the hot paths of each dialect, which the app does not serve
    """

    def __init__(self, described: Sequence[AppRoute], hot_paths: Iterable[Mapping[str, Any]]) -> None:
        self._described = described
        self._hot_paths = hot_paths
        self._app: FastAPI | None = None
        self._lock = asyncio.Lock()

    def route(self) -> Route:
        return Route("/openapi.json", self, methods=["GET"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._lock:
            if self._app is None:
                self._app = await asyncio.to_thread(_build, self._described, self._hot_paths)
        await self._app(scope, receive, send)


def _build(described: Sequence[AppRoute], hot_paths: Iterable[Mapping[str, Any]]) -> "FastAPI":
    from fastapi import FastAPI

    app = FastAPI(
        title="modelport",
        version=gateway.__version__,
        description="One gateway that serves what every deep learning framework saved.",
        responses=FAILURES,
        # Its pages load scripts from another server.
        docs_url=None,
        redoc_url=None,
    )
    for route in described:
        assert route.methods is not None
        app.add_api_route(route.path, route.endpoint, methods=sorted(route.methods), **route.documentation)
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        schema = generate()
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)  # FastAPI's status for invalid requests; the app answers 400
        for paths in hot_paths:
            schema["paths"].update(paths)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app
