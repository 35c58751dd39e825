"""The path for predictions that a platform chooses: Vertex AI's requests, or those of the Open Inference Protocol.

Vertex AI's own clients send {"instances": …}. Clients that want everything of the protocol send a raw request, whose
body is the protocol's. What would be in a header of its answer is in the content type, because Vertex AI passes that.
"""

import re
from dataclasses import replace

from gateway.codecs.json_text import loads
from gateway.domain.types import InferRequest, InferResponse
from gateway.engine.protocol import Engine
from gateway.errors import InvalidRequest
from gateway.front.base.body import Headers
from gateway.front.base.dialect import Dialect, Reply, Route, Writer
from gateway.front.base.limits import Limits
from gateway.front.dialects.mlflow.invocations import choose_model
from gateway.front.dialects.mlflow.rest import MLFLOW
from gateway.front.dialects.v2.rest import V2
from runtimes.tensors import Buffer

# As Triton's clients for Vertex AI write binary requests.
_BINARY = re.compile(r"application/vnd\.vertex-ai-triton\.binary\+json; *json-header-size=([0-9]{1,9})")
_LENGTH = re.compile(rb"inference-header-content-length: ([0-9]+)\r\n")


def _limit(headers: Headers, limits: Limits) -> tuple[int, str]:
    headers = _with_length(headers)
    return (MLFLOW if headers.json_length is None else V2).limit(headers, limits)


def _read(engine: Engine, limits: Limits, route: Route, headers: Headers, body: Buffer) -> tuple[InferRequest, Writer]:
    headers = _with_length(headers)
    if headers.json_length is None and not _is_v2(body):
        return MLFLOW.read(engine, limits, route, headers, body)
    route = route._replace(model=choose_model(engine, headers.target_model))
    request, write = V2.read(engine, limits, route, headers, body)

    def write_for_vertex(response: InferResponse) -> Reply:
        reply = write(response)
        if length := _LENGTH.fullmatch(reply.headers):
            kind = b"application/vnd.vertex-ai-triton.binary+json;json-header-size=" + length[1]
            return reply._replace(content_type=kind)
        return reply

    return request, write_for_vertex


def _with_length(headers: Headers) -> Headers:
    """Return the headers with the size of the JSON part that the content type has."""
    found = _BINARY.fullmatch(headers.content_type.strip())
    return headers if found is None else replace(headers, json_length=int(found[1]))


def _is_v2(body: Buffer) -> bool:
    """Return whether a body without binary tensors is a request of the protocol."""
    if b'"datatype"' not in bytes(body):
        return False
    try:
        document = loads(body)
    except InvalidRequest:
        return False
    return isinstance(document, dict) and "inputs" in document and "instances" not in document


def _is_slow(headers: Headers, body: Buffer) -> bool:
    headers = _with_length(headers)
    return (MLFLOW if headers.json_length is None else V2).is_slow(headers, body)


PREDICT = Dialect(_limit, _read, MLFLOW.encode_error, _is_slow)
