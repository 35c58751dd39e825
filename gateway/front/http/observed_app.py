"""Records the requests that the admin app answers."""

import time
from typing import Any

from gateway.domain.request_record import CANCELLED, CURRENT, SUCCESS, Observer
from gateway.errors import kind_of
from gateway.front.base.access import IDENTITY
from gateway.front.base.body import App, Receive, Scope, Send
from gateway.front.base.records import http_record
from gateway.front.base.request_ids import RECORD


class ObservedApp:
    """ASGI middleware around everything that uvicorn answers."""

    def __init__(self, app: App, observer: Observer) -> None:
        self._app, self._observer = app, observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = http_record(
            self._observer, scope["method"].encode(), scope["path"], scope["client"], scope["headers"], time.monotonic()
        )
        scope[RECORD] = record
        status = size = received = 0
        complete = False

        async def receiving() -> Any:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if not message.get("more_body"):
                    record.receive(received)
            return message

        async def sending(message: Any) -> None:
            nonlocal status, size, complete
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                size += len(message.get("body", b""))
                complete = not message.get("more_body")
            await send(message)

        token = CURRENT.set(record)
        try:
            await self._app(scope, receiving, sending)
        finally:
            CURRENT.reset(token)
            record.model = record.model or scope.get("path_params", {}).get("model", "")
            identity = scope.get(IDENTITY)
            if identity is not None:
                record.identity = identity.name
            kind = kind_of(status)
            record.end(status, CANCELLED if not complete else SUCCESS if kind == "ok" else kind, size)
