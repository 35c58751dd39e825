"""Answers preflight requests, and adds the headers of CORS to what uvicorn answers."""

from typing import Any

from gateway.codecs.json_text import dumps
from gateway.front.base.body import App, Receive, Scope, Send
from gateway.front.base.cors import Cors

_REFUSED = {"error": "the server's setting cors_origin does not allow pages of this origin"}


class CorsApp:
    """ASGI middleware, for all paths. A browser sends no credentials in a preflight request, and needs none."""

    def __init__(self, app: App, cors: Cors) -> None:
        self._app, self._cors = app, cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = scope["headers"]
        names = {name for name, _ in headers}
        if scope["method"] == "OPTIONS" and {b"origin", b"access-control-request-method"} <= names:
            await self._preflight(scope, send)
            return
        added = self._cors.headers(headers)

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        await self._app(scope, receive, sending if added else send)

    async def _preflight(self, scope: Scope, send: Send) -> None:
        headers = scope["headers"]
        origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
        if len(origins) == 1 and self._cors.allows(origins[0]):
            status, body, answer = 204, b"", self._cors.preflight(headers)
        else:
            body = dumps(_REFUSED)
            status, answer = 403, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": answer})
        await send({"type": "http.response.body", "body": body})
