"""TorchServe's dialect, which is also that of Multi Model Server: POST /predictions/{model}[/{version}].

    {"data": …}, {"inputs": …}   the values of the only input, or {name: values}
    {"instances": …}             rows, as in /predict
    [ … ]                        the values of the only input
    an image, a form of images   if model.toml has [preprocess]; one image also if the only input is BYTES
    a form with one file         with one of the JSON bodies above, if it does not

Answers are those of TorchServe's own handlers: the values of the output alone, {name: values} for several outputs,
{label: score} for an image that is classified.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gateway.codecs.json_tensors import json_values
from gateway.codecs.json_text import dumps, loads, without_nulls
from gateway.codecs.media_types import FORM, IMAGE_FORMATS, is_image, media_type
from gateway.domain.types import InferRequest, InferResponse
from gateway.engine.protocol import Engine
from gateway.errors import InvalidRequest, ModelportError, TooLarge
from gateway.front.base.client_errors import client_message
from gateway.front.base.image_request import ImageRequest, read_images
from gateway.front.base.json_request import read_document
from gateway.front.base.limits import Limits, check_json_answer
from gateway.front.base.named_outputs import are_named
from gateway.front.base.predictions import Prediction
from runtimes.tensors import Buffer, Tensor

Write = Callable[[InferResponse], bytes]

# TorchServe's names for errors, by status.
_TYPES = {
    400: "BadRequestException",
    401: "UnauthorizedException",
    403: "ForbiddenException",
    404: "ModelNotFoundException",
    405: "MethodNotAllowedException",
    413: "RequestEntityTooLargeException",
    429: "TooManyRequestsException",
    501: "NotImplementedException",
    503: "ServiceUnavailableException",
    504: "RequestTimeoutException",
    507: "InsufficientStorageException",
}


def encode_error(error: ModelportError) -> bytes:
    """Encode an error as TorchServe does."""
    kind = _TYPES.get(error.status, "InternalServerException")
    return dumps({"code": error.status, "type": kind, "message": client_message(error)})


def is_json(content_type: str) -> bool:
    return media_type(content_type) == "application/json"


def read_request(
    engine: Engine, model: str, version: str, body: Buffer, content_type: str, limits: Limits
) -> tuple[InferRequest, Write]:
    """Return the request, and the function that writes its answer.

    A body without a specific Content-Type is recognized by its first bytes. Raises InvalidRequest, NotFound, TooLarge,
    Unavailable.
    """
    kind = media_type(content_type)
    if kind == FORM and engine.model(model, version).preprocess is None:
        body, kind, content_type = _only_file(body, content_type), "", ""
    if kind == FORM or kind.startswith("image/") or (kind != "application/json" and is_image(body)):
        image_request = read_images(engine, model, version, body, content_type, limits)
        return image_request.request, partial(_write_images, image_request, limits)
    if len(body) > limits.json_bytes:
        raise TooLarge(f"the body has {len(body)} bytes, over the limit of {limits.json_bytes} for JSON")
    try:
        document = loads(body)
    except InvalidRequest:
        if kind == "application/json" or not body or engine.model(model, version).preprocess is None:
            raise
        raise InvalidRequest(
            f"the body is neither JSON nor an image in a supported format; send {IMAGE_FORMATS}"
        ) from None
    request = read_document(engine, model, version, _document(document))
    return request, partial(_write, limits, are_named(engine.model(model, version), request))


def _only_file(body: Buffer, content_type: str) -> Buffer:
    """Return the content of the only file in a form, for a model without [preprocess]. Raises InvalidRequest."""
    from gateway.codecs.multipart import read_form  # imported late, because few fronts receive forms

    parts = read_form(body, content_type)
    if len(parts) > 1:
        raise InvalidRequest(
            "the form has several files, which only models with [preprocess] accept; send one, with JSON"
        )
    return parts[0].content


def _document(body: Any) -> Any:
    """Convert a body to the form of /predict."""
    if isinstance(body, list):
        return {"inputs": body}
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON list, or an object with 'data', 'inputs' or 'instances'")
    body = without_nulls(body)
    if "data" in body and "inputs" in body:
        raise InvalidRequest("the body has both 'data' and 'inputs', which mean the same; send one of them")
    return {"inputs" if key == "data" else key: value for key, value in body.items()}


def _write(limits: Limits, has_names: bool, response: InferResponse) -> bytes:
    check_json_answer(response.outputs, limits)
    return dumps(_unwrapped(response.outputs, has_names))


def _write_images(image_request: ImageRequest, limits: Limits, response: InferResponse) -> bytes:
    """Write one answer for one image, or a list of answers for several."""
    if image_request.is_classified:
        scores = [_scores(best) for best in image_request.predictions(response)]
        return dumps(scores[0] if image_request.images == 1 else scores)
    check_json_answer(response.outputs, limits)
    has_names = are_named(image_request.status, image_request.request)
    if image_request.images == 1:
        return dumps(_unwrapped([_without_rows(tensor) for tensor in response.outputs], has_names))
    if len(response.outputs) == 1:
        _check_rows(response.outputs[0], image_request.images)
    return dumps(_unwrapped(response.outputs, has_names))


def _check_rows(tensor: Tensor, images: int) -> None:
    """Raises InvalidRequest if the output does not have one row per image."""
    if tensor.shape[:1] != (images,):
        raise InvalidRequest(
            f"output '{tensor.name}' has shape {list(tensor.shape)} for {images} images, so it does not say which is "
            "whose; send each image alone"
        )


def _unwrapped(outputs: Sequence[Tensor], has_names: bool) -> Any:
    if len(outputs) == 1 and not has_names:
        return json_values(outputs[0])
    return {tensor.name: json_values(tensor) for tensor in outputs}


def _without_rows(tensor: Tensor) -> Tensor:
    """Remove the first dimension if it has size 1, which is the only image."""
    return tensor._replace(shape=tensor.shape[1:]) if tensor.shape[:1] == (1,) else tensor


def _scores(best: list[Prediction]) -> dict[str, Any]:
    """Return scores by label, best first. The index replaces a missing label, or one that a better class has."""
    scores: dict[str, Any] = {}
    for prediction in best:
        key = prediction.label if prediction.label and prediction.label not in scores else str(prediction.index)
        while key in scores:  # a label may be a number as well
            key = f"{key} ({prediction.index})"
        scores[key] = prediction.score
    return scores
