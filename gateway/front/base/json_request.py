"""Reads a request that is a JSON object, for the plain dialect and TorchServe's."""

from collections.abc import Mapping
from typing import Any

from gateway.codecs.json_text import without_nulls
from gateway.domain.types import InferRequest
from gateway.engine.protocol import Engine
from gateway.errors import InvalidRequest
from gateway.front.base.named_inputs import find_signature, read_inputs
from gateway.front.base.parameters import DEFAULTS, Options, read_options

_KEYS = ("inputs", "instances", "outputs", "signature", "parameters", "model", "version")


def read_document(engine: Engine, model: str, version: str, document: Any) -> InferRequest:
    """Read a request. `model` and `version` are "" if the path does not name them.

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
    inputs = read_inputs(document, status, find_signature(status, options.signature))
    names = document.get("outputs", [])
    if not isinstance(names, list) or not set(map(type, names)) <= {str}:
        raise InvalidRequest("'outputs' must be a list of output names")
    return options.request(model, version, inputs, outputs=names)


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
