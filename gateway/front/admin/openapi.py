"""The hot routes in OpenAPI: rest.py serves them before FastAPI sees them, so they are written by hand."""

from typing import Any

from gateway.front.base.openapi import BINARY, IMAGES, STATUSES, operation

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
_V2_REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string", "description": "comes back in the answer"},
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
_V2_RESPONSE = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "outputs": {"type": "array", "items": _TENSOR},
    },
}
_PREDICT_REQUEST = {
    "type": "object",
    "properties": {
        "model": {"type": "string", "description": "where the path does not name it"},
        "version": {"type": "string"},
        "inputs": {"description": "{name: nested lists}, or nested lists for a model with one input"},
        "instances": {"type": "array", "items": {}, "description": "rows, in place of inputs"},
        "outputs": {"type": "array", "items": {"type": "string"}},
        "signature": {"type": "string"},
        "parameters": {"type": "object"},
    },
    "examples": [{"inputs": [[1.0, 2.0, 3.0]]}],
}
_PREDICT_RESPONSE = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "version": {"type": "string"},
        "outputs": {"type": "object", "description": "{name: nested lists}"},
        "predictions": {"type": "array", "items": {}, "description": "for images, in place of outputs"},
    },
}
_TFS_PREDICT_REQUEST = {
    "type": "object",
    "properties": {
        "signature_name": {"type": "string"},
        "instances": {"type": "array", "items": {}, "description": "rows; {name: value} each for several inputs"},
        "inputs": {"description": "columns, in place of instances: {name: nested lists}, or those of the one input"},
    },
    "examples": [{"instances": [[1.0, 2.0, 3.0]]}],
}
_TFS_PREDICT_RESPONSE = {
    "type": "object",
    "properties": {"predictions": {"description": "for instances"}, "outputs": {"description": "for inputs"}},
}
_TFS_EXAMPLES_REQUEST = {
    "type": "object",
    "required": ["examples"],
    "properties": {
        "signature_name": {"type": "string"},
        "context": {"type": "object", "description": "features that all examples have"},
        "examples": {"type": "array", "items": {"type": "object", "description": "{feature: value or list}"}},
    },
}
_TFS_RESULTS = {
    "type": "object",
    "properties": {"results": {"type": "array", "items": {}, "description": "[[label, score], …] or a number each"}},
}
_PREDICTIONS_REQUEST = {
    "description": "nested lists, or an object with one of these",
    "properties": {"data": {}, "inputs": {}, "instances": {"type": "array", "items": {}}},
    "examples": [{"data": [[1.0, 2.0, 3.0]]}],
}
_TORCHSERVE_ERROR = {
    "type": "object",
    "properties": {"code": {"type": "integer"}, "type": {"type": "string"}, "message": {"type": "string"}},
}


def _v2(name: str, path: str) -> dict[str, Any]:
    request = {"application/json": {"schema": _V2_REQUEST}, "application/octet-stream": BINARY}
    response = {"application/json": {"schema": _V2_RESPONSE}, "application/octet-stream": BINARY}
    return operation(name, "Infer (Open Inference Protocol)", path, request, response)


def _predict(name: str, path: str) -> dict[str, Any]:
    numpy = {"application/x-npy": BINARY, "application/x-npz": BINARY}
    request = {"application/json": {"schema": _PREDICT_REQUEST}, **numpy, **IMAGES}
    response = {"application/json": {"schema": _PREDICT_RESPONSE}, **numpy}
    return operation(name, "Predict (plain JSON, numpy or images)", path, request, response)


def _predictions(name: str, path: str) -> dict[str, Any]:
    """TorchServe's errors have a form of their own."""
    request = {"application/json": {"schema": _PREDICTIONS_REQUEST}, **IMAGES}
    response = {"application/json": {"schema": {"description": "the output alone; {name: values}; {label: score}"}}}
    made = operation(name, "Predict (TorchServe)", path, request, response)
    responses = made["post"]["responses"]
    for status in map(str, STATUSES):
        responses[status] = {**responses[status], "content": {"application/json": {"schema": _TORCHSERVE_ERROR}}}
    return made


def _tfs(name: str, path: str) -> dict[str, Any]:
    verb = path.rpartition(":")[2]
    takes: dict[str, Any] = _TFS_PREDICT_REQUEST if verb == "predict" else _TFS_EXAMPLES_REQUEST
    gives: dict[str, Any] = _TFS_PREDICT_RESPONSE if verb == "predict" else _TFS_RESULTS
    request, response = ({"application/json": {"schema": schema}} for schema in (takes, gives))
    return operation(name, f"{verb.capitalize()} (TensorFlow Serving)", path, request, response)


_TFS_PATHS = [
    (f"tfs_{verb}{kind and '_' + kind}", f"/v1/models/{{model}}{f'/{kind}s/{{{kind}}}' if kind else ''}:{verb}", _tfs)
    for verb in ("predict", "classify", "regress")
    for kind in ("", "version", "label")
]

HOT_PATHS = {
    path: make(name, path)
    for name, path, make in (
        ("infer", "/v2/models/{model}/infer", _v2),
        ("infer_version", "/v2/models/{model}/versions/{version}/infer", _v2),
        ("predict", "/predict", _predict),
        ("predict_model", "/predict/{model}", _predict),
        ("predict_version", "/predict/{model}/versions/{version}", _predict),
        *_TFS_PATHS,
        ("predictions", "/predictions/{model}", _predictions),
        ("predictions_version", "/predictions/{model}/{version}", _predictions),
    )
}
