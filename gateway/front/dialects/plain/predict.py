"""The plain dialect, `POST /predict`: the simplest one to use with curl.

    {"inputs": {"x": [[1, 2]]}}       by name
    {"inputs": [[1, 2]]}              for a model with one input
    {"instances": [[1, 2], [3, 4]]}   rows; for a model with several inputs, a list of {name: row}

A request may also have "outputs" (names), "signature" and "parameters", and "model" and "version" if the path does not
name them. The body may also be a numpy file: application/x-npy for one input, application/x-npz for several by name.
The answer is {"model", "version", "outputs": {name: nested lists}}, or a numpy file if Accept asks for it. Outputs that
are not tensors, such as sequences of maps, are lists and objects; other answers than JSON lack them.

image_request.py reads images and forms of images. If model.toml has [postprocess], the answer to these is
{"model", "version", "predictions": [{"label", "index", "score"}, ...]}.
"""

from collections.abc import Sequence
from typing import Any

from gateway.codecs.json_tensors import json_elements, json_values
from gateway.codecs.json_text import dumps, loads
from gateway.codecs.media_types import media_type
from gateway.codecs.npy import NPY, NPZ, read_npy, read_npz, write_npy, write_npz
from gateway.domain.types import InferRequest, InferResponse
from gateway.engine.protocol import Engine
from gateway.errors import InvalidRequest
from gateway.front.base.body import Headers
from gateway.front.base.json_request import read_document, with_json_outputs
from gateway.front.base.limits import Limits, check_json_answer
from gateway.front.base.named_inputs import find_signature, only_input
from gateway.front.base.predictions import Prediction
from runtimes.tensors import Buffer

# Some tools send the same type for every body: curl -d "form", ab -p and a browser's fetch "plain", hey -d "html".
_JSON_TYPES = ("", "application/json", "application/x-www-form-urlencoded", "text/plain", "text/html")


def is_binary(content_type: str) -> bool:
    return media_type(content_type) in (NPY, NPZ)


def read_request(
    engine: Engine, model: str, version: str, body: Buffer, content_type: str, max_bytes: int, accept: str = ""
) -> InferRequest:
    """Read a request. `model` is "" if the path does not name it. accept: as for `write_response`.

    Raises InvalidRequest, NotFound, TooLarge, Unavailable.
    """
    kind = media_type(content_type)
    if kind in (NPY, NPZ):
        if not model:
            raise InvalidRequest("a numpy file cannot name the model; post it to /predict/{model}")
        tensors = read_npz(bytes(body), max_bytes) if kind == NPZ else []
        signature = find_signature(engine.model(model, version), "")
        tensors = tensors if kind == NPZ else [read_npy(only_input(signature, model), body)]
        request = InferRequest(model, tensors, version)
        return request if is_numpy(accept) else with_json_outputs(request, signature)
    if kind not in _JSON_TYPES:
        raise InvalidRequest(f"content type '{kind}' is not supported; send application/json, {NPY}, {NPZ} or an image")
    return read_document(engine, model, version, loads(body), json_outputs=not is_numpy(accept))


def is_json(headers: Headers) -> bool:
    """Whether the body is JSON, and so will be the answer."""
    return media_type(headers.content_type) in _JSON_TYPES and not is_numpy(headers.accept)


def check_accept(engine: Engine, request: InferRequest, accept: str) -> None:
    """Reject, before the model runs, a request for several outputs as npy. Raises InvalidRequest, NotFound."""
    if NPY not in accept or NPZ in accept:
        return
    signature = engine.model(request.model, request.version).signature(request.signature)
    count = len(request.outputs or (signature.outputs if signature else ()))
    if count:
        _check_npy(count)


def write_response(
    response: InferResponse, accept: str, limits: Limits, texts: Sequence[str] = ()
) -> tuple[str, bytes]:
    """Return the content type and the body of an answer. texts: the outputs whose elements are JSON texts.

    Raises InvalidRequest if the type that `accept` asks for cannot represent the answer, and TooLarge.
    """
    if NPZ in accept:
        return NPZ, write_npz(response.outputs)
    if NPY in accept:
        _check_npy(len(response.outputs))
        return NPY, write_npy(response.outputs[0])
    check_json_answer(response.outputs, limits)
    outputs = {
        tensor.name: json_elements(tensor)
        if tensor.name in texts and tensor.datatype == "BYTES"
        else json_values(tensor)
        for tensor in response.outputs
    }
    return "application/json", dumps({"model": response.model, "version": response.version, "outputs": outputs})


def answer_texts(model: str, version: str, names: Sequence[str]) -> tuple[list[bytes], bytes]:
    """Return what `write_response` writes before the values of each output, and after those of the last, as JSON."""
    beginning = dumps({"model": model, "version": version})[:-1] + b',"outputs":{'
    before = [(b"," if number else beginning) + dumps(name) + b":" for number, name in enumerate(names)]
    return before, b"}}"


def write_predictions(response: InferResponse, predictions: list[list[Prediction]]) -> bytes:
    """Write a list of predictions, best first, for one image, or a list of such lists for several."""
    lists = [[_as_dict(each) for each in best] for best in predictions]
    document = {"model": response.model, "version": response.version}
    return dumps({**document, "predictions": lists[0] if len(lists) == 1 else lists})


def _as_dict(prediction: Prediction) -> dict[str, Any]:
    label = {"label": prediction.label} if prediction.label else {}
    return {**label, "index": prediction.index, "score": prediction.score}


def is_numpy(accept: str) -> bool:
    """Whether the answer must be a numpy file."""
    return NPZ in accept or NPY in accept


def _check_npy(count: int) -> None:
    if count != 1:
        raise InvalidRequest(f"the answer has {count} outputs; accept {NPZ} or JSON")
