"""The OpenAPI description of the Open Inference Protocol."""

from typing import Any

from gateway.front.base.openapi import BINARY, operation

_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"type": "string", "examples": ["FP32", "INT64", "BYTES"]},
        "parameters": {"type": "object"},
        "data": {"type": "array", "items": {}, "description": "nested, or flat and row-major"},
    },
}
_REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string", "description": "returned in the answer"},
        "parameters": {
            "type": "object",
            "properties": {
                "priority": {"type": "integer", "description": "lower goes first"},
                "timeout": {"type": "integer", "description": "microseconds"},
                "signature": {"type": "string"},
                "binary_data_output": {"type": "boolean"},
            },
        },
        "inputs": {"type": "array", "items": _TENSOR},
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}},
            },
        },
    },
}
_RESPONSE = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "outputs": {"type": "array", "items": _TENSOR},
    },
}


def _describe(name: str, path: str) -> dict[str, Any]:
    request = {"application/json": {"schema": _REQUEST}, "application/octet-stream": BINARY}
    response = {"application/json": {"schema": _RESPONSE}, "application/octet-stream": BINARY}
    return operation(name, "Infer (Open Inference Protocol)", path, request, response)


HOT_PATHS = {
    path: _describe(name, path)
    for name, path in (
        ("infer", "/v2/models/{model}/infer"),
        ("infer_version", "/v2/models/{model}/versions/{version}/infer"),
    )
}
