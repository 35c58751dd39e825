"""Reads a request that is a JSON object, for the plain dialect and TorchServe's."""

from collections.abc import Mapping
from typing import Any

from gateway.codecs.json_text import without_nulls
from gateway.domain.types import InferRequest
from gateway.engine.protocol import Engine
from gateway.errors import InvalidRequest
from gateway.front.base.named_inputs import find_signature, read_inputs
from gateway.front.base.parameters import DEFAULTS, Options, read_options
from runtimes.contract import Signature

_KEYS = ("inputs", "instances", "outputs", "signature", "parameters", "model", "version")


def read_document(engine: Engine, model: str, version: str, document: Any, json_outputs: bool = False) -> InferRequest:
    """Read a request. `model` and `version` are "" if the path does not name them.

    json_outputs: whether the answer can have the outputs of Signature.json

    Raises InvalidRequest, NotFound, Unavailable.
    """
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object with 'inputs' or 'instances'")
    for key in document:
        if key not in _KEYS:
            raise InvalidRequest(f"the body has the unknown key '{key}'; the allowed keys are {', '.join(_KEYS)}")
    document = without_nulls(document)
    model = _path_or_body(document, "model", model)
    version = _path_or_body(document, "version", version)
    if not model:
        raise InvalidRequest("the request names no model; post to /predict/{model}, or add 'model' to the body")
    options = _options(document)
    status = engine.model(model, version)
    signature = find_signature(status, options.signature)
    inputs = read_inputs(document, status, signature)
    names = document.get("outputs", [])
    if not isinstance(names, list) or not set(map(type, names)) <= {str}:
        raise InvalidRequest("'outputs' must be a list of output names")
    request = options.request(model, version, inputs, outputs=names)
    return with_json_outputs(request, signature) if json_outputs else request


def with_json_outputs(request: InferRequest, signature: Signature) -> InferRequest:
    """Return the request for an answer that can have the outputs of Signature.json.

    If it names no outputs, it gets those for which its inputs are enough.
    """
    if not signature.json:
        return request
    outputs = request.outputs or signature.outputs_from([each.name for each in request.inputs], as_json=True)
    return request._replace(outputs=outputs, json=[name for name in signature.json if name in outputs], layout=None)


def _path_or_body(document: Mapping[str, Any], key: str, path: str) -> str:
    value = document.get(key, path)
    if type(value) is int and key == "version":
        value = str(value)
    if not isinstance(value, str):
        raise InvalidRequest(f"'{key}' must be a string")
    if path and value != path:
        raise InvalidRequest(f"the path names {key} '{path}', but the body names '{value}'; leave out one of them")
    return value


def _options(document: Mapping[str, Any]) -> Options:
    parameters = document.get("parameters", {})
    if not isinstance(parameters, dict):
        raise InvalidRequest("'parameters' must be an object")
    if "signature" in document:
        parameters = {**parameters, "signature": document["signature"]}
    return read_options(parameters) if parameters else DEFAULTS
