"""The hot REST routes, as one plain ASGI callable in front of the FastAPI app.

    POST /v2/models/{model}[/versions/{version}]/infer
    POST /predict[/{model}[/versions/{version}]]

It translates only: v2_read, v2_write and predict know the dialects, the engine does the work.
"""

from dataclasses import dataclass

from gateway.engine.protocol import Engine
from gateway.errors import ModelportError, Overloaded
from gateway.front import predict, v2_read, v2_write
from gateway.front.body import (
    App,
    Gone,
    Headers,
    Receive,
    Scope,
    Send,
    Unread,
    discard,
    infer_unless_gone,
    read_body,
    read_headers,
)
from gateway.front.failures import as_told, sentence
from gateway.front.json_text import dumps
from gateway.front.limits import Limits, check_answer

_LINGER_S = 2.0


@dataclass(frozen=True, slots=True)
class Route:
    dialect: str
    model: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


def build_rest(engine: Engine, limits: Limits, fallback: App) -> App:
    """The app of a front process; `fallback` gets every path that is not hot."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        route = match(scope["path"]) if scope["type"] == "http" else None
        if route is None:
            await fallback(scope, receive, send)
            return
        if scope["method"] != "POST":
            reply = Reply(405, _error(f"this path takes POST, not {scope['method']}"), headers=((b"allow", b"POST"),))
            await _send(send, reply)
            return
        try:
            reply = await _answer(engine, limits, route, read_headers(scope), receive)
        except Gone:
            return
        except Unread as error:
            await _refuse(receive, send, error)
            return
        except Exception as error:
            reply = _failure(as_told(error))
        await _send(send, reply)

    return app


def match(path: str) -> Route | None:
    """The hot route of a path, or None."""
    match path.split("/"):
        case ["", "v2", "models", model, "infer"] if model:
            return Route("v2", model)
        case ["", "v2", "models", model, "versions", version, "infer"] if model and version:
            return Route("v2", model, version)
        case ["", "predict"]:
            return Route("predict")
        case ["", "predict", model] if model:
            return Route("predict", model)
        case ["", "predict", model, "versions", version] if model and version:
            return Route("predict", model, version)
    return None


async def _answer(engine: Engine, limits: Limits, route: Route, headers: Headers, receive: Receive) -> Reply:
    if route.dialect == "v2":
        return await _answer_v2(engine, limits, route, headers, receive)
    with engine.reading(route.model, route.version):
        if predict.is_binary(headers.content_type):
            body = await read_body(receive, headers, limits.binary_bytes, "binary bodies")
        else:
            body = await read_body(receive, headers, limits.json_bytes, "JSON; send npy or npz")
        content_type, most = headers.content_type, limits.binary_bytes
        request = predict.read_request(engine, route.model, route.version, body, content_type, most)
    response = await infer_unless_gone(engine, request, receive)
    check_answer(response, limits)
    content_type, text = predict.write_response(response, headers.accept)
    return Reply(200, text, content_type)


async def _answer_v2(engine: Engine, limits: Limits, route: Route, headers: Headers, receive: Receive) -> Reply:
    with engine.reading(route.model, route.version):
        if headers.json_length is None:
            body = await read_body(receive, headers, limits.json_bytes, "JSON; send tensors as binary data")
        elif headers.json_length > limits.json_bytes:
            raise Unread(
                f"the JSON part has {headers.json_length} bytes, over the limit of {limits.json_bytes}; "
                "send tensors as binary data"
            )
        else:
            body = await read_body(receive, headers, limits.binary_bytes, "binary bodies")
        request, wanted = v2_read.read_request(route.model, route.version, body, headers.json_length)
    response = await infer_unless_gone(engine, request, receive)
    check_answer(response, limits)
    text, json_length = v2_write.write_response(response, wanted)
    if json_length is None:
        return Reply(200, text)
    told = ((b"inference-header-content-length", b"%d" % json_length),)
    return Reply(200, text, "application/octet-stream", told)


async def _refuse(receive: Receive, send: Send, error: Unread) -> None:
    """Answer at once, then close; what is still coming is not kept."""
    body = _error(sentence(error))
    await _start(send, Reply(error.status, body, headers=((b"connection", b"close"),)))
    await send({"type": "http.response.body", "body": body, "more_body": True})
    await discard(receive, _LINGER_S)
    await send({"type": "http.response.body", "body": b""})


def _failure(error: ModelportError) -> Reply:
    retry = ((b"retry-after", b"%d" % error.retry_after_s),) if isinstance(error, Overloaded) else ()
    return Reply(error.status, _error(sentence(error)), headers=retry)


def _error(text: str) -> bytes:
    return dumps({"error": text})


async def _send(send: Send, reply: Reply) -> None:
    await _start(send, reply)
    await send({"type": "http.response.body", "body": reply.body})


async def _start(send: Send, reply: Reply) -> None:
    headers = [
        (b"content-type", reply.content_type.encode()),
        (b"content-length", b"%d" % len(reply.body)),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
