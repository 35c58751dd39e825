"""The OpenAPI description of the plain dialect."""

from typing import Any

from gateway.front.base.openapi import BINARY, IMAGES, operation

_REQUEST = {
    "type": "object",
    "properties": {
        "model": {"type": "string", "description": "if the path does not name it"},
        "version": {"type": "string"},
        "inputs": {"description": "{name: nested lists}, or nested lists for a model with one input"},
        "instances": {"type": "array", "items": {}, "description": "rows, instead of inputs"},
        "outputs": {"type": "array", "items": {"type": "string"}},
        "signature": {"type": "string"},
        "parameters": {"type": "object"},
    },
    "examples": [{"inputs": [[1.0, 2.0, 3.0]]}],
}
_RESPONSE = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "version": {"type": "string"},
        "outputs": {
            "type": "object",
            "description": "{name: nested lists}; an output that is no tensor is a list or an object",
        },
        "predictions": {"type": "array", "items": {}, "description": "for images, instead of outputs"},
    },
}


def _describe(name: str, path: str) -> dict[str, Any]:
    numpy = {"application/x-npy": BINARY, "application/x-npz": BINARY}
    request = {"application/json": {"schema": _REQUEST}, **numpy, **IMAGES}
    response = {"application/json": {"schema": _RESPONSE}, **numpy}
    return operation(name, "Predict (plain JSON, numpy or images)", path, request, response)


HOT_PATHS = {
    path: _describe(name, path)
    for name, path in (
        ("predict", "/predict"),
        ("predict_model", "/predict/{model}"),
        ("predict_version", "/predict/{model}/versions/{version}"),
    )
}
