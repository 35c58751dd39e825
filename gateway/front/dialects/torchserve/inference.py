"""TorchServe's dialect, which Multi Model Server speaks too: POST /predictions/{model}[/{version}].

    {"data": …}, {"inputs": …}   the values of the one input, or {name: values}
    {"instances": …}             rows, as /predict takes them
    [ … ]                        the values of the one input
    an image, or a form of some  where model.toml has [preprocess]
    a form with one file         that holds one of the JSON bodies above, where it has not

The answer is what TorchServe's own handlers give: the values of the output without a frame around
them, {name: values} where there are several, {label: score} for an image that is classified.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gateway.codecs.json_tensors import json_values
from gateway.codecs.json_text import dumps, loads, without_nulls
from gateway.codecs.media_types import FORM, is_image, media_type
from gateway.domain.types import InferRequest, InferResponse
from gateway.engine.protocol import Engine
from gateway.errors import InvalidRequest, ModelportError, TooLarge
from gateway.front.base.client_errors import client_message
from gateway.front.base.image_request import ImageRequest, read_images
from gateway.front.base.json_request import read_document
from gateway.front.base.limits import Limits, check_json_answer
from gateway.front.base.predictions import Prediction
from runtimes.tensors import Buffer, Tensor

Write = Callable[[InferResponse], bytes]

# TorchServe's names for what went wrong.
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
    """An error as TorchServe writes it."""
    kind = _TYPES.get(error.status, "InternalServerException")
    return dumps({"code": error.status, "type": kind, "message": client_message(error)})


def is_json(content_type: str) -> bool:
    return media_type(content_type) == "application/json"


def read_request(
    engine: Engine, model: str, version: str, body: Buffer, content_type: str, limits: Limits
) -> tuple[InferRequest, Write]:
    """The request, and what writes its answer. What has no telling Content-Type is known by how it begins.

    Raises InvalidRequest, NotFound, TooLarge, Unavailable.
    """
    kind = media_type(content_type)
    if kind == FORM and engine.model(model, version).preprocess is None:
        body, kind = _only_file(body, content_type), ""
    if kind == FORM or kind.startswith("image/") or (kind != "application/json" and is_image(body)):
        asked = read_images(engine, model, version, body, content_type, limits.binary_bytes)
        return asked.request, partial(_write_images, asked, limits)
    if len(body) > limits.json_bytes:
        raise TooLarge(f"the body has {len(body)} bytes, over the limit of {limits.json_bytes} for JSON")
    request = read_document(engine, model, version, _document(loads(body)))
    return request, partial(_write, limits)


def _only_file(body: Buffer, content_type: str) -> Buffer:
    """Of a form, where the model takes no images. Raises InvalidRequest."""
    from gateway.codecs.multipart import read_form  # a front that gets no forms does without its parser

    parts = read_form(body, content_type)
    if len(parts) > 1:
        raise InvalidRequest("the form has several files, which only models with [preprocess] take; send one, of JSON")
    return parts[0].content


def _document(given: Any) -> Any:
    """The same in the words of /predict."""
    if isinstance(given, list):
        return {"inputs": given}
    if not isinstance(given, dict):
        raise InvalidRequest("the body must be a JSON list, or an object with 'data', 'inputs' or 'instances'")
    given = without_nulls(given)
    if "data" in given and "inputs" in given:
        raise InvalidRequest("the body has both 'data' and 'inputs', which mean the same; send one of them")
    return {"inputs" if key == "data" else key: value for key, value in given.items()}


def _write(limits: Limits, response: InferResponse) -> bytes:
    check_json_answer(response.outputs, limits)
    return dumps(_bare(response.outputs))


def _write_images(asked: ImageRequest, limits: Limits, response: InferResponse) -> bytes:
    """One answer for one image, and a list of them for a form with several."""
    if asked.is_classified:
        told = [_scores(best) for best in asked.predictions(response)]
        return dumps(told[0] if asked.images == 1 else told)
    check_json_answer(response.outputs, limits)
    if asked.images == 1:
        return dumps(_bare([_without_rows(tensor) for tensor in response.outputs]))
    if len(response.outputs) == 1:
        _check_rows(response.outputs[0], asked.images)
    return dumps(_bare(response.outputs))


def _check_rows(tensor: Tensor, images: int) -> None:
    """Raises InvalidRequest where the list that is answered has not one element for each image."""
    if tensor.shape[:1] != (images,):
        raise InvalidRequest(
            f"output '{tensor.name}' has shape {list(tensor.shape)} for {images} images, so it does not say which is "
            "whose; send each image by itself"
        )


def _bare(outputs: Sequence[Tensor]) -> Any:
    if len(outputs) == 1:
        return json_values(outputs[0])
    return {tensor.name: json_values(tensor) for tensor in outputs}


def _without_rows(tensor: Tensor) -> Tensor:
    """Where the first dimension is that of the one image."""
    return tensor._replace(shape=tensor.shape[1:]) if tensor.shape[:1] == (1,) else tensor


def _scores(best: list[Prediction]) -> dict[str, Any]:
    """By label, the best first; by index where there is none, or where a better one has the same."""
    told: dict[str, Any] = {}
    for prediction in best:
        key = prediction.label if prediction.label and prediction.label not in told else str(prediction.index)
        while key in told:  # labels may be numbers, too
            key = f"{key} ({prediction.index})"
        told[key] = prediction.score
    return told
