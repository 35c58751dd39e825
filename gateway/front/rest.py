"""The hot REST routes: which dialect a path speaks, and how that dialect reads requests and writes answers.

    POST /v2/models/{model}[/versions/{version}]/infer
    POST /predict[/{model}[/versions/{version}]]
    POST /v1/models/{model}[/versions/{version}|/labels/{label}]:predict|:classify|:regress
    POST, PUT /predictions/{model}[/{version}]       TorchServe's

It translates only: v2_*, predict, image_request, tfs_* and torchserve know the dialects, the engine does
the work, and exchange.py drives each request through.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple
from urllib.parse import unquote

from gateway.engine.protocol import Engine
from gateway.engine.types import InferRequest, InferResponse, ModelStatus
from gateway.errors import ModelportError, TooLarge
from gateway.front import predict, tfs_classify, tfs_examples, tfs_predict, tfs_spec, torchserve, v2_read, v2_write
from gateway.front.body import Headers
from gateway.front.classification import classify
from gateway.front.failures import sentence
from gateway.front.image_request import ImageRequest, read_images
from gateway.front.image_types import is_image_type
from gateway.front.json_text import dumps
from gateway.front.limits import Limits, check_answer
from runtimes.wire import Buffer


class Reply(NamedTuple):
    """`body` in parts, so that large tensors need not be copied together."""

    status: int
    body: list[Buffer]
    content_type: bytes = b"application/json"
    headers: bytes = b""  # further ones, as they are written


Writer = Callable[[InferResponse], Reply]

# From so many bytes of them on, they are read in a thread.
_MANY_EXAMPLES = 8192


def _tell(error: ModelportError) -> bytes:
    return dumps({"error": sentence(error)})


def _never(headers: Headers) -> bool:
    return False


class Dialect(NamedTuple):
    """The first two raise ModelportError.

    limit    how many bytes a body may have by its headers, and of what kind it is, in words
    read     the request, and what will write its answer
    tell     an error as the body of an answer, in JSON
    is_slow  whether `read` takes milliseconds for a body with such headers: then it is called in a thread
    methods  of HTTP, that the path takes
    """

    limit: Callable[[Headers, Limits], tuple[int, str]]
    read: Callable[[Engine, Limits, "Route", Headers, Buffer], tuple[InferRequest, Writer]]
    tell: Callable[[ModelportError], bytes] = _tell
    is_slow: Callable[[Headers], bool] = _never
    methods: tuple[bytes, ...] = (b"POST",)


class Route(NamedTuple):
    """`model` and `version` are "" where the path does not name them. is_label: the path calls the version a label."""

    dialect: Dialect
    model: str = ""
    version: str = ""
    is_label: bool = False


def _limit_predict(headers: Headers, limits: Limits) -> tuple[int, str]:
    if predict.is_binary(headers.content_type) or is_image_type(headers.content_type):
        return limits.binary_bytes, "binary bodies"
    return limits.json_bytes, "JSON; send npy or npz"


def _read_predict(
    engine: Engine, limits: Limits, route: Route, headers: Headers, body: Buffer
) -> tuple[InferRequest, Writer]:
    if is_image_type(headers.content_type):
        asked = read_images(engine, route.model, route.version, body, headers.content_type, limits.binary_bytes)
        if headers.accept:
            predict.check_accept(engine, asked.request, headers.accept)
        return asked.request, partial(_write_images, limits, headers.accept, asked)
    request = predict.read_request(engine, route.model, route.version, body, headers.content_type, limits.binary_bytes)
    if headers.accept:
        predict.check_accept(engine, request, headers.accept)
    return request, partial(_write_predict, limits, headers.accept)


def _write_predict(limits: Limits, accept: str, response: InferResponse) -> Reply:
    check_answer(response, limits)
    content_type, text = predict.write_response(response, accept, limits)
    return Reply(200, [text], content_type.encode())


def _write_images(limits: Limits, accept: str, asked: ImageRequest, response: InferResponse) -> Reply:
    if not asked.is_classified or predict.is_numpy(accept):
        return _write_predict(limits, accept, response)
    check_answer(response, limits)
    return Reply(200, [predict.write_predictions(response, asked.predictions(response))])


def _images_are_slow(headers: Headers) -> bool:
    return is_image_type(headers.content_type)


def _limit_torchserve(headers: Headers, limits: Limits) -> tuple[int, str]:
    if torchserve.is_json(headers.content_type):
        return limits.json_bytes, "JSON"
    return limits.binary_bytes, "images"


def _read_torchserve(
    engine: Engine, limits: Limits, route: Route, headers: Headers, body: Buffer
) -> tuple[InferRequest, Writer]:
    request, write = torchserve.read_request(engine, route.model, route.version, body, headers.content_type, limits)
    return request, partial(_write_torchserve, limits, write)


def _write_torchserve(limits: Limits, write: torchserve.Write, response: InferResponse) -> Reply:
    check_answer(response, limits)
    return Reply(200, [write(response)])


def _torchserve_is_slow(headers: Headers) -> bool:
    return not torchserve.is_json(headers.content_type)


def _limit_v2(headers: Headers, limits: Limits) -> tuple[int, str]:
    if headers.json_length is None:
        return limits.json_bytes, "JSON; send tensors as binary data"
    if headers.json_length > limits.json_bytes:
        raise TooLarge(
            f"the JSON part has {headers.json_length} bytes, over the limit of {limits.json_bytes}; "
            "send tensors as binary data"
        )
    return limits.binary_bytes, "binary bodies"


def _read_v2(
    engine: Engine, limits: Limits, route: Route, headers: Headers, body: Buffer
) -> tuple[InferRequest, Writer]:
    request, wanted = v2_read.read_request(engine, route.model, route.version, body, headers.json_length)
    return request, partial(_write_v2, engine, limits, wanted)


def _write_v2(engine: Engine, limits: Limits, wanted: v2_read.Wanted, response: InferResponse) -> Reply:
    response = classify(engine, response, wanted.classes)
    check_answer(response, limits)
    parts, json_length = v2_write.write_response(response, wanted, limits, engine.shared_memory)
    if json_length is None:
        return Reply(200, parts)
    told = b"inference-header-content-length: %d\r\n" % json_length
    return Reply(200, parts, b"application/octet-stream", told)


def _limit_tfs(headers: Headers, limits: Limits) -> tuple[int, str]:
    return limits.json_bytes, "JSON; send tensors over gRPC"


def _is_slow_tfs(headers: Headers) -> bool:
    """Examples become protobuf messages one by one."""
    return headers.content_length is None or headers.content_length > _MANY_EXAMPLES


def _read_tfs_predict(
    engine: Engine, limits: Limits, route: Route, headers: Headers, body: Buffer
) -> tuple[InferRequest, Writer]:
    status = tfs_spec.find_model(engine, route.model, route.version, route.is_label)
    request, in_rows = tfs_predict.read_request(status, route.version, body)
    return request, partial(_write_tfs_predict, limits, in_rows)


def _write_tfs_predict(limits: Limits, in_rows: bool, response: InferResponse) -> Reply:
    check_answer(response, limits)
    return Reply(200, [tfs_predict.write_response(response, in_rows, limits)])


def _read_tfs_examples(
    method: str, engine: Engine, limits: Limits, route: Route, headers: Headers, body: Buffer
) -> tuple[InferRequest, Writer]:
    status = tfs_spec.find_model(engine, route.model, route.version, route.is_label)
    document = tfs_predict.read_object(body)
    ask = tfs_classify.ask(status, document.get("signature_name", ""), method)
    examples = tfs_examples.read_examples(document, ask.input, limits.binary_bytes)
    request = ask.request(status, route.version, examples)
    return request, partial(_write_tfs_results, limits, status, method, examples.shape[0])


def _write_tfs_results(limits: Limits, status: ModelStatus, method: str, count: int, response: InferResponse) -> Reply:
    check_answer(response, limits)
    if method == tfs_classify.REGRESS:
        return Reply(200, [tfs_classify.regressions_json(tfs_classify.read_regressions(response, count))])
    return Reply(200, [tfs_classify.read_classes(response, count, status.class_labels).to_json()])


PREDICT = Dialect(_limit_predict, _read_predict, is_slow=_images_are_slow)
TORCHSERVE = Dialect(
    _limit_torchserve, _read_torchserve, torchserve.tell, _torchserve_is_slow, methods=(b"POST", b"PUT")
)
V2 = Dialect(_limit_v2, _read_v2)
_TFS = {
    "predict": Dialect(_limit_tfs, _read_tfs_predict),
    "classify": Dialect(_limit_tfs, partial(_read_tfs_examples, tfs_classify.CLASSIFY), is_slow=_is_slow_tfs),
    "regress": Dialect(_limit_tfs, partial(_read_tfs_examples, tfs_classify.REGRESS), is_slow=_is_slow_tfs),
}


def match(url: bytes) -> Route | None:
    """The hot route of a request's target, or None."""
    path = url.partition(b"?")[0].decode("latin-1")
    if "%" in path:
        path = unquote(path)
    match path.split("/"):
        case ["", "v2", "models", model, "infer"] if model:
            return Route(V2, model)
        case ["", "v2", "models", model, "versions", version, "infer"] if model and version:
            return Route(V2, model, version)
        case ["", "predict"]:
            return Route(PREDICT)
        case ["", "predict", model] if model:
            return Route(PREDICT, model)
        case ["", "predict", model, "versions", version] if model and version:
            return Route(PREDICT, model, version)
        case ["", "predictions", model] if model:
            return Route(TORCHSERVE, model)
        case ["", "predictions", model, version] if model and version:
            return Route(TORCHSERVE, model, version)
        case ["", "v1", "models", *named]:
            return _match_tfs(named)
    return None


def _match_tfs(named: list[str]) -> Route | None:
    """`named`: the path's parts after /v1/models."""
    last, _, verb = named[-1].rpartition(":") if named else ("", "", "")
    dialect = _TFS.get(verb)
    if dialect is None or not last:
        return None
    match named[:-1]:
        case []:
            return Route(dialect, last)
        case [model, "versions" | "labels" as kind] if model:
            return Route(dialect, model, last, kind == "labels")
    return None
