"""The OpenAPI description of MLflow's dialect."""

from typing import Any

from gateway.front.base.openapi import BINARY, STATUSES, operation

_REQUEST = {
    "description": "an object with one of dataframe_split, dataframe_records, inputs and instances",
    "type": "object",
    "properties": {
        "dataframe_split": {
            "type": "object",
            "properties": {"columns": {"type": "array", "items": {}}, "data": {"type": "array", "items": {}}},
        },
        "dataframe_records": {"type": "array", "items": {"type": "object"}},
        "inputs": {"description": "nested lists, {name: nested lists}, or records"},
        "instances": {"type": "array", "items": {}},
        "params": {"type": "object"},
    },
    "examples": [{"dataframe_split": {"columns": ["x"], "data": [[1.0]]}}],
}
_RESPONSE = {
    "type": "object",
    "properties": {"predictions": {"description": "values, {name: values}, or rows of {name: value}"}},
}
_ERROR = {"type": "object", "properties": {"error_code": {"type": "string"}, "message": {"type": "string"}}}


def _describe(name: str, summary: str, path: str) -> dict[str, Any]:
    request = {
        "application/json": {"schema": _REQUEST},
        "text/csv": {"schema": {"type": "string"}},
        "application/x-npy": BINARY,
    }
    described = operation(
        name,
        summary,
        path,
        request,
        {"application/json": {"schema": _RESPONSE}},
    )
    if "{model}" not in path:
        described["post"]["parameters"].append(
            {
                "name": "X-Amzn-SageMaker-Target-Model",
                "in": "header",
                "schema": {"type": "string"},
                "description": "the model, if the server has several",
            }
        )
    responses = described["post"]["responses"]
    for status in map(str, STATUSES):
        responses[status] = {**responses[status], "content": {"application/json": {"schema": _ERROR}}}
    return described


HOT_PATHS = {"/invocations": _describe("invocations", "Predict (MLflow, SageMaker)", "/invocations")}
SAGEMAKER_PATHS = {
    path: _describe("invoke", "Predict (SageMaker's endpoints with several models)", path)
    for path in ("/models/{model}/invoke",)
}
