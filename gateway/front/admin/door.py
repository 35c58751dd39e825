"""The admin app's door: every request to the app passes through it before a route runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute, Match

from gateway.domain.caller import Event
from gateway.errors import Forbidden, Internal, ModelportError, Overloaded, Unauthenticated, kind_of
from gateway.front.base.access import CERTIFICATE, IDENTITY, MODEL, OUTCOME, Access, action_of, challenge, http_caller
from gateway.front.base.body import App, Body, BodyTimeouts, Receive, Scope, Send
from gateway.front.base.dialect import encode_error

_REFUSED = (Unauthenticated.status, Forbidden.status, Overloaded.status)


class Door:
    """ASGI middleware. Requests for the documentation and for unknown paths pass through it as well."""

    def __init__(self, app: App, access: Access, routes: Sequence[BaseRoute], timeouts: BodyTimeouts) -> None:
        # The model of a request to a nested router would be unknown here, so its access check could not be made.
        if hidden := [route for route in routes if not hasattr(route, "endpoint")]:
            raise TypeError(f"the door cannot see which routes {hidden[0]!r} has; add them to the app itself")
        self._app = app
        self._access, self._routes, self._timeouts = access, routes, timeouts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            route, parameters = self._find(scope)
            if getattr(getattr(route, "endpoint", None), "is_public", False):
                await self._app(scope, receive, send)
                return
            action, model = action_of(getattr(route, "endpoint", None), scope["method"]), parameters.get("model", "")
            caller = http_caller(scope["client"], scope["headers"], scope.get(CERTIFICATE, ()))
            event = Event(action, model, caller.peer, "", f"{scope['method']} {scope['path']}")
            try:
                identity = self._access.identify(caller)
                event = event._replace(identity=identity.name)
                identity.check(action, model)
            except ModelportError as error:
                self._access.record(event._replace(outcome=error.kind))
                await Body(receive, self._timeouts).discard()
                encode = getattr(route, "encode_error", encode_error)
                headers = {"connection": "close", **challenge(error)}
                await Response(encode(error), error.status, headers, "application/json")(scope, receive, send)
                return
            scope[IDENTITY] = identity
            await self._run(event, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _run(self, event: Event, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app. Record the outcome once it is known, if it is of a change or a refusal."""
        began = False

        def record(outcome: str) -> None:
            self._access.record(event._replace(model=scope.get(MODEL) or event.model, outcome=outcome))

        async def recording(message: Any) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                if event.action == "admin" or message["status"] in _REFUSED:
                    record(scope.get(OUTCOME) or kind_of(message["status"]))
            await send(message)

        try:
            await self._app(scope, receive, recording)
        except Exception:
            if event.action == "admin" and not began:  # Starlette answers it outside of this door
                record(Internal.kind)
            raise

    def _find(self, scope: Scope) -> tuple[BaseRoute | None, Mapping[str, Any]]:
        """Return the route for the request and its path parameters; failing that, a route with other methods.

        The app finds it again. This costs microseconds on paths that are not hot, and only if there is an Access.
        """
        partly: tuple[BaseRoute | None, Mapping[str, Any]] = None, {}
        for route in self._routes:
            match, found = route.matches(scope)
            if match is Match.FULL:
                return route, found.get("path_params", {})
            if match is Match.PARTIAL and partly[0] is None:
                partly = route, found.get("path_params", {})
        return partly
