"""The parts that the OpenAPI descriptions of all dialects share."""

from typing import Any

_ERROR = {"type": "object", "properties": {"error": {"type": "string"}}}
BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILES = {"type": "object", "additionalProperties": {"type": "string", "format": "binary"}}
IMAGES = {"image/*": BINARY, "application/octet-stream": BINARY, "multipart/form-data": {"schema": _FILES}}
STATUSES = {
    400: "Invalid request",
    401: "An API key or a token is needed, or is not valid",
    403: "Not permitted, or a web page of another origin requested a change",
    404: "No such model, version or region",
    413: "Over a limit",
    429: "Too many requests; see Retry-After",
    500: "The model failed on this request",
    501: "Not supported by this server",
    503: "The model is not ready",
    504: "Timed out",
    507: "Not enough memory for this request",
}
# The errors that any path may answer with.
FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"schema": _ERROR}}}
    for status, text in STATUSES.items()
}


def operation(name: str, summary: str, path: str, request: dict[str, Any], response: dict[str, Any]) -> dict[str, Any]:
    parameters = [
        {"name": part, "in": "path", "required": True, "schema": {"type": "string"}}
        for part in ("model", "version", "label")
        if f"{{{part}}}" in path
    ]
    failures = {str(status): description for status, description in FAILURES.items()}
    return {
        "post": {
            "tags": ["inference"],
            "summary": summary,
            "operationId": name,
            "parameters": parameters,
            "requestBody": {"required": True, "content": request},
            "responses": {"200": {"description": "The outputs", "content": response}, **failures},
        }
    }
