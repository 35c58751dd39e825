"""The OpenAPI description of TensorFlow Serving's dialect."""

from typing import Any

from gateway.front.base.openapi import operation

_PREDICT_REQUEST = {
    "type": "object",
    "properties": {
        "signature_name": {"type": "string"},
        "instances": {"type": "array", "items": {}, "description": "rows; {name: value} each for several inputs"},
        "inputs": {"description": "columns, instead of instances: {name: nested lists}, or those of the one input"},
    },
    "examples": [{"instances": [[1.0, 2.0, 3.0]]}],
}
_PREDICT_RESPONSE = {
    "type": "object",
    "properties": {"predictions": {"description": "for instances"}, "outputs": {"description": "for inputs"}},
}
_EXAMPLES_REQUEST = {
    "type": "object",
    "required": ["examples"],
    "properties": {
        "signature_name": {"type": "string"},
        "context": {"type": "object", "description": "features that all examples have"},
        "examples": {"type": "array", "items": {"type": "object", "description": "{feature: value or list}"}},
    },
}
_RESULTS = {
    "type": "object",
    "properties": {"results": {"type": "array", "items": {}, "description": "[[label, score], …] or a number each"}},
}


def _describe(name: str, path: str) -> dict[str, Any]:
    verb = path.rpartition(":")[2]
    body: dict[str, Any] = _PREDICT_REQUEST if verb == "predict" else _EXAMPLES_REQUEST
    result: dict[str, Any] = _PREDICT_RESPONSE if verb == "predict" else _RESULTS
    request, response = ({"application/json": {"schema": schema}} for schema in (body, result))
    return operation(name, f"{verb.capitalize()} (TensorFlow Serving)", path, request, response)


HOT_PATHS = {
    path: _describe(f"tfs_{verb}{kind and '_' + kind}", path)
    for verb in ("predict", "classify", "regress")
    for kind in ("", "version", "label")
    for path in (f"/v1/models/{{model}}{f'/{kind}s/{{{kind}}}' if kind else ''}:{verb}",)
}
