"""The names of requests: the header x-request-id, or metadata of that name over gRPC.

A client's name comes back with the answer. If there is none, and someone observes requests, the front makes one.
"""

import itertools
import re
import secrets
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any

from gateway.domain.request_record import RequestRecord
from gateway.front.base.body import App, Receive, Scope, Send

HEADER = "x-request-id"
_NAME = HEADER.encode()
# No character that could end a header, and no more of them than a name needs. Others are ignored.
_FORM = re.compile(rb"[!-~]{1,128}")
# The key of the RequestRecord in the scope of a request to the admin app.
RECORD = "modelport.record"
# Of the request that the current task answers; "" if it has none. Requests that are answered without a task say it
# where they log something.
CURRENT_ID: ContextVar[str] = ContextVar("request_id", default="")

# Random, so that no other front, and no other server, makes the same names.
_PREFIX = secrets.token_hex(8)
_NUMBERS = itertools.count(1)


def new_id() -> str:
    return f"{_PREFIX}-{next(_NUMBERS):x}"


def valid_id(value: bytes) -> bytes:
    """Return the id in the value of a header; b"" if it is none."""
    value = value.strip(b" \t")
    return value if _FORM.fullmatch(value) else b""


def header_id(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the id in the headers of a request, whose names are in lower case; b"" without one."""
    for name, value in headers:
        if name == _NAME:
            return valid_id(value)
    return b""


def metadata_id(metadata: Sequence[Any]) -> str:
    """Return the id in the metadata of a gRPC call; "" without one."""
    for name, value in metadata:
        if name == HEADER and isinstance(value, str):
            return valid_id(value.encode("utf-8", "replace")).decode()
    return ""


def header_line(request_id: bytes) -> bytes:
    return b"x-request-id: %b\r\n" % request_id


class NamedApp:
    """ASGI middleware that answers with the id of the request."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            record: RequestRecord | None = scope.get(RECORD)
            request_id = header_id(scope["headers"]) if record is None else record.request_id.encode()
            if request_id:
                CURRENT_ID.set(request_id.decode())  # for as long as the task runs, which is of this request
                send = partial(_send, send, request_id)
        await self._app(scope, receive, send)


async def _send(send: Send, request_id: bytes, message: Any) -> None:
    if message["type"] == "http.response.start":
        message = {**message, "headers": [*message.get("headers", ()), (_NAME, request_id)]}
    await send(message)
