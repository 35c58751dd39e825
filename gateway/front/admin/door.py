"""The FastAPI app's door: every request for the app passes here, before any route of it runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute, Match

from gateway.errors import ModelportError
from gateway.front.base.access import Access, action_of, http_caller
from gateway.front.base.body import App, Body, Pauses, Receive, Scope, Send
from gateway.front.base.dialect import tell


class Door:
    """ASGI middleware. The documentation's pages and paths at which there is nothing pass it too."""

    def __init__(self, app: App, access: Access, routes: Sequence[BaseRoute], pauses: Pauses) -> None:
        # What a router within the app takes cannot be seen from here, by which model it is for.
        if hidden := [route for route in routes if not hasattr(route, "endpoint")]:
            raise TypeError(f"the door cannot see which routes {hidden[0]!r} has; add them to the app itself")
        self._app = app
        self._access, self._routes, self._pauses = access, routes, pauses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            route, parameters = self._find(scope)
            action = action_of(getattr(route, "endpoint", None), scope["method"])
            caller = http_caller(scope["client"], scope["headers"])
            try:
                self._access.check(action, parameters.get("model", ""), caller)
            except ModelportError as error:
                await Body(receive, self._pauses).discard()
                write = getattr(route, "tell", tell)
                answer = Response(write(error), error.status, {"connection": "close"}, "application/json")
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _find(self, scope: Scope) -> tuple[BaseRoute | None, Mapping[str, Any]]:
        """What will take the request, with the parameters in its path; a route that takes other methods at the worst.

        The app finds it again: this costs microseconds on paths that are not hot, and only where there is an Access.
        """
        partly: tuple[BaseRoute | None, Mapping[str, Any]] = None, {}
        for route in self._routes:
            match, found = route.matches(scope)
            if match is Match.FULL:
                return route, found.get("path_params", {})
            if match is Match.PARTIAL and partly[0] is None:
                partly = route, found.get("path_params", {})
        return partly
