"""The OpenAPI description of TorchServe's inference."""

from typing import Any

from gateway.front.base.openapi import IMAGES, STATUSES, operation

_REQUEST = {
    "description": "nested lists, or an object with one of these",
    "properties": {"data": {}, "inputs": {}, "instances": {"type": "array", "items": {}}},
    "examples": [{"data": [[1.0, 2.0, 3.0]]}],
}
_ERROR = {
    "type": "object",
    "properties": {"code": {"type": "integer"}, "type": {"type": "string"}, "message": {"type": "string"}},
}


def _describe(name: str, path: str) -> dict[str, Any]:
    """Describe a path. Its errors have TorchServe's form."""
    request = {"application/json": {"schema": _REQUEST}, **IMAGES}
    response = {"application/json": {"schema": {"description": "the output alone; {name: values}; {label: score}"}}}
    described = operation(name, "Predict (TorchServe)", path, request, response)
    responses = described["post"]["responses"]
    for status in map(str, STATUSES):
        responses[status] = {**responses[status], "content": {"application/json": {"schema": _ERROR}}}
    return described


HOT_PATHS = {
    path: _describe(name, path)
    for name, path in (
        ("predictions", "/predictions/{model}"),
        ("predictions_version", "/predictions/{model}/{version}"),
    )
}
