"""The hot REST routes: which dialect a path speaks, and how that dialect reads requests and writes answers.

    POST /v2/models/{model}[/versions/{version}]/infer
    POST /predict[/{model}[/versions/{version}]]
    POST /v1/models/{model}[/versions/{version}|/labels/{label}]:predict|:classify|:regress
    POST, PUT /predictions/{model}[/{version}]       TorchServe's

It translates only: v2_*, predict, image_request, tfs_* and torchserve know the dialects, the engine does
the work, and exchange.py drives each request through.
"""

from functools import partial
from urllib.parse import unquote

from gateway.codecs.media_types import is_image_body, is_image_type, media_type
from gateway.codecs.npy import NPY
from gateway.domain.types import InferRequest, InferResponse
from gateway.engine.protocol import Engine
from gateway.errors import TooLarge
from gateway.front import predict, tfs_rest, torchserve, v2_read, v2_write
from gateway.front.base.body import Headers
from gateway.front.base.dialect import Dialect, Reply, Route, Writer
from gateway.front.base.image_request import ImageRequest, read_images
from gateway.front.base.limits import LARGE_JSON, Limits, check_answer
from gateway.front.classification import classify
from runtimes.tensors import Buffer


def _limit_predict(headers: Headers, limits: Limits) -> tuple[int, str]:
    if predict.is_binary(headers.content_type) or is_image_type(headers.content_type):
        return limits.binary_bytes, "binary bodies"
    return limits.json_bytes, "JSON; send npy or npz"


def _read_predict(
    engine: Engine, limits: Limits, route: Route, headers: Headers, body: Buffer
) -> tuple[InferRequest, Writer]:
    if is_image_body(headers.content_type, body):
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


def _predict_is_slow(headers: Headers, body: Buffer) -> bool:
    if media_type(headers.content_type) == NPY:
        return False
    return len(body) >= LARGE_JSON or is_image_body(headers.content_type, body)


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


def _torchserve_is_slow(headers: Headers, body: Buffer) -> bool:
    return not torchserve.is_json(headers.content_type) or len(body) >= LARGE_JSON


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


def _v2_is_slow(headers: Headers, body: Buffer) -> bool:
    return (len(body) if headers.json_length is None else headers.json_length) >= LARGE_JSON


def _write_v2(engine: Engine, limits: Limits, wanted: v2_read.Wanted, response: InferResponse) -> Reply:
    response = classify(engine, response, wanted.classes)
    check_answer(response, limits)
    parts, json_length = v2_write.write_response(response, wanted, limits, engine.shared_memory)
    if json_length is None:
        return Reply(200, parts)
    told = b"inference-header-content-length: %d\r\n" % json_length
    return Reply(200, parts, b"application/octet-stream", told)


PREDICT = Dialect(_limit_predict, _read_predict, is_slow=_predict_is_slow)
TORCHSERVE = Dialect(
    _limit_torchserve, _read_torchserve, torchserve.tell, _torchserve_is_slow, methods=(b"POST", b"PUT")
)
V2 = Dialect(_limit_v2, _read_v2, is_slow=_v2_is_slow)


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
            return tfs_rest.match(named)
    return None
