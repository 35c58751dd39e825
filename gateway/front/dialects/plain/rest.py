"""The plain dialect over REST."""

from collections.abc import Sequence
from functools import partial

from gateway.codecs.media_types import is_image_body, is_image_type, media_type
from gateway.codecs.npy import NPY
from gateway.domain.types import InferRequest, InferResponse
from gateway.engine.protocol import Engine
from gateway.front.base.body import Headers
from gateway.front.base.dialect import Dialect, Reply, Route, Writer
from gateway.front.base.image_request import ImageRequest, read_images
from gateway.front.base.json_request import with_json_outputs
from gateway.front.base.limits import LARGE_JSON, Limits, check_answer
from gateway.front.base.named_inputs import find_signature
from gateway.front.dialects.plain import predict
from runtimes.tensors import Buffer


def _limit(headers: Headers, limits: Limits) -> tuple[int, str]:
    if predict.is_binary(headers.content_type) or is_image_type(headers.content_type):
        return limits.binary_bytes, "binary bodies"
    return limits.json_bytes, "JSON; send npy, npz or binary tensors by v2"


def _read(engine: Engine, limits: Limits, route: Route, headers: Headers, body: Buffer) -> tuple[InferRequest, Writer]:
    if is_image_body(headers.content_type, body):
        image_request = read_images(engine, route.model, route.version, body, headers.content_type, limits)
        if headers.accept:
            predict.check_accept(engine, image_request.request, headers.accept)
        request = image_request.request
        if not image_request.is_classified and not predict.is_numpy(headers.accept):
            request = with_json_outputs(request, find_signature(image_request.status, ""))
        return request, partial(_write_images, limits, headers.accept, image_request, request.json)
    request = predict.read_request(
        engine, route.model, route.version, body, headers.content_type, limits.binary_bytes, headers.accept
    )
    if headers.accept:
        predict.check_accept(engine, request, headers.accept)
    return request, partial(_write, limits, headers.accept, request.json)


def _write(limits: Limits, accept: str, texts: Sequence[str], response: InferResponse) -> Reply:
    check_answer(response, limits)
    content_type, text = predict.write_response(response, accept, limits, texts)
    return Reply(200, [text], content_type.encode())


def _write_images(
    limits: Limits, accept: str, image_request: ImageRequest, texts: Sequence[str], response: InferResponse
) -> Reply:
    if not image_request.is_classified or predict.is_numpy(accept):
        return _write(limits, accept, texts, response)
    check_answer(response, limits)
    return Reply(200, [predict.write_predictions(response, image_request.predictions(response))])


def _is_slow(headers: Headers, body: Buffer) -> bool:
    if media_type(headers.content_type) == NPY:
        return False
    return len(body) >= LARGE_JSON or is_image_body(headers.content_type, body)


PREDICT = Dialect(_limit, _read, is_slow=_is_slow)


def match(parts: list[str]) -> Route | None:
    """Return the hot route for a path, given its segments after /predict, or None."""
    match parts:
        case []:
            return Route(PREDICT)
        case [model] if model:
            return Route(PREDICT, model)
        case [model, "versions", version] if model and version:
            return Route(PREDICT, model, version)
    return None
