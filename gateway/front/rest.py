"""The hot REST routes, as one plain ASGI callable in front of the FastAPI app.

    POST /v2/models/{model}[/versions/{version}]/infer
    POST /predict[/{model}[/versions/{version}]]

It translates only: v2_read, v2_write and predict know the dialects, the engine does the work.
"""

from dataclasses import dataclass, replace

from gateway.engine.protocol import Engine, Gone, Reading
from gateway.errors import ModelportError, Overloaded, TooLarge
from gateway.front import predict, v2_read, v2_write
from gateway.front.body import App, Body, Headers, Pauses, Receive, Scope, Send, infer_unless_gone, read_headers
from gateway.front.failures import as_told, sentence
from gateway.front.json_text import dumps
from gateway.front.limits import Limits, check_answer


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

    pauses = Pauses()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        route = match(scope["path"]) if scope["type"] == "http" else None
        if route is None:
            await fallback(scope, receive, send)
            return
        if scope["method"] != "POST":
            reply = Reply(405, _error(f"this path takes POST, not {scope['method']}"), headers=((b"allow", b"POST"),))
            await _send(send, reply)
            return
        body = Body(receive, pauses)
        answer = _answer_v2 if route.dialect == "v2" else _answer_predict
        try:
            reply = await answer(engine, limits, route, scope, body)
        except Gone:
            return
        except Exception as error:
            reply = _failure(as_told(error))
        if body.whole:
            await _send(send, reply)
        else:
            await _refuse(body, send, reply)

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


async def _answer_predict(engine: Engine, limits: Limits, route: Route, scope: Scope, body: Body) -> Reply:
    with engine.reading(route.model, route.version) as reading:
        headers = read_headers(scope)
        if predict.is_binary(headers.content_type):
            content = await _binary(body, headers, limits, reading)
        else:
            content = await _json(body, headers, limits, reading, "JSON; send npy or npz")
        content_type, most = headers.content_type, limits.binary_bytes
        request = predict.read_request(engine, route.model, route.version, content, content_type, most)
        predict.check_accept(engine, request, headers.accept)
        del content  # while the request waits, only its tensors are kept
    response = await infer_unless_gone(engine, request, body.receive)
    check_answer(response, limits)
    content_type, text = predict.write_response(response, headers.accept, limits)
    return Reply(200, text, content_type)


async def _answer_v2(engine: Engine, limits: Limits, route: Route, scope: Scope, body: Body) -> Reply:
    with engine.reading(route.model, route.version) as reading:
        headers = read_headers(scope)
        if headers.json_length is None:
            content = await _json(body, headers, limits, reading, "JSON; send tensors as binary data")
        elif headers.json_length > limits.json_bytes:
            raise TooLarge(
                f"the JSON part has {headers.json_length} bytes, over the limit of {limits.json_bytes}; "
                "send tensors as binary data"
            )
        else:
            content = await _binary(body, headers, limits, reading)
        request, wanted = v2_read.read_request(route.model, route.version, content, headers.json_length)
        del content
    response = await infer_unless_gone(engine, request, body.receive)
    check_answer(response, limits)
    text, json_length = v2_write.write_response(response, wanted, limits)
    if json_length is None:
        return Reply(200, text)
    told = ((b"inference-header-content-length", b"%d" % json_length),)
    return Reply(200, text, "application/octet-stream", told)


async def _json(body: Body, headers: Headers, limits: Limits, reading: Reading, what: str) -> bytes:
    return await body.read(headers.content_length, limits.json_bytes, what, reading.reserve)


async def _binary(body: Body, headers: Headers, limits: Limits, reading: Reading) -> bytes:
    return await body.read(headers.content_length, limits.binary_bytes, "binary bodies", reading.reserve)


async def _refuse(body: Body, send: Send, reply: Reply) -> None:
    """Answer at once, then close; what is still coming is not kept."""
    await _start(send, replace(reply, headers=(*reply.headers, (b"connection", b"close"))))
    await send({"type": "http.response.body", "body": reply.body, "more_body": True})
    await body.discard()
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
