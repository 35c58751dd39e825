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


_GENERATE = {
    "type": "object",
    "description": "the model's inputs by name, each a value, a flat list or nested lists; other keys are parameters",
    "properties": {"id": {"type": "string"}, "parameters": {"type": "object"}},
    "additionalProperties": True,
}
_GENERATED = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "model_name": {"type": "string"}, "model_version": {"type": "string"}},
    "additionalProperties": True,
}
_EVENTS = {
    "schema": {"type": "string", "description": "server-sent events; the data of each is an answer, or an error"}
}


def _describe_generate(name: str, path: str) -> dict[str, Any]:
    request = {"application/json": {"schema": _GENERATE}}
    if path.endswith("_stream"):
        return operation(name, "Generate any number of answers", path, request, {"text/event-stream": _EVENTS})
    return operation(name, "Generate one answer", path, request, {"application/json": {"schema": _GENERATED}})


HOT_PATHS = {
    path: _describe(name, path) if name.startswith("infer") else _describe_generate(name, path)
    for name, path in (
        ("infer", "/v2/models/{model}/infer"),
        ("infer_version", "/v2/models/{model}/versions/{version}/infer"),
        ("generate", "/v2/models/{model}/generate"),
        ("generate_version", "/v2/models/{model}/versions/{version}/generate"),
        ("generate_stream", "/v2/models/{model}/generate_stream"),
        ("generate_stream_version", "/v2/models/{model}/versions/{version}/generate_stream"),
    )
}
