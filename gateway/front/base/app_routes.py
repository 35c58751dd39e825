"""The routes of the admin app. Starlette serves them, and FastAPI documents them (admin/documentation.py)."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, request_response

from gateway.codecs.json_text import dumps
from gateway.domain.identity import Action
from gateway.front.base.access import action_of

_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])


class AppRoute(Route):
    """A route of the admin app.

    endpoint       gets its arguments by name: the request, and the texts of path and query parameters. It returns a
                   response, or what the response has as JSON
    documentation  further arguments of FastAPI's add_api_route, which describe the route
    """

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        methods: Sequence[str],
        check: Callable[[Request, Action], None],
        documentation: dict[str, Any],
    ) -> None:
        super().__init__(path, endpoint, methods=methods)
        self.documentation = documentation
        self.methods = set(methods)  # Starlette adds HEAD to GET
        self.app = request_response(self.answer)
        self._check = check
        self._parameters = inspect.signature(endpoint).parameters.values()

    async def answer(self, request: Request) -> Response:
        """Raises ModelportError."""
        self._check(request, action_of(self.endpoint, request.method))
        answer = await self.endpoint(**{each.name: _argument(request, each) for each in self._parameters})
        return answer if isinstance(answer, Response) else Response(dumps(answer), media_type="application/json")


def _argument(request: Request, parameter: inspect.Parameter) -> Any:
    if parameter.annotation is Request:
        return request
    text = request.path_params.get(parameter.name)
    return request.query_params.get(parameter.name, parameter.default) if text is None else text


class AppRoutes:
    """Collects routes, in the order in which they are tried. `check` is called before each of them."""

    def __init__(self, check: Callable[[Request, Action], None]) -> None:
        self.routes: list[AppRoute] = []
        self._check = check
        self.get = partial(self.add, ["GET"])
        self.head = partial(self.add, ["HEAD"])
        self.page = partial(self.add, ["GET", "HEAD"], include_in_schema=False)
        self.post = partial(self.add, ["POST"])
        self.delete = partial(self.add, ["DELETE"])

    def add(
        self, methods: Sequence[str], path: str, kind: type[AppRoute] = AppRoute, **documentation: Any
    ) -> Callable[[_Endpoint], _Endpoint]:
        """Return a decorator that adds its function as a route."""

        def decorate(endpoint: _Endpoint) -> _Endpoint:
            self.routes.append(kind(path, endpoint, methods, self._check, documentation))
            return endpoint

        return decorate
