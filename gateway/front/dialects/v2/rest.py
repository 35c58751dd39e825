"""The Open Inference Protocol over REST."""

from functools import partial

from gateway.domain.types import InferRequest, InferResponse
from gateway.engine.protocol import Engine
from gateway.errors import TooLarge
from gateway.front.base.body import Headers
from gateway.front.base.dialect import Dialect, Reply, Route, Writer
from gateway.front.base.limits import LARGE_JSON, Limits
from gateway.front.dialects.v2 import rest_request, rest_response
from gateway.front.dialects.v2.classification import classify
from gateway.front.dialects.v2.generate import GENERATE, GENERATE_STREAM
from gateway.front.dialects.v2.output_options import OutputOptions
from runtimes.tensors import Buffer


def _limit(headers: Headers, limits: Limits) -> tuple[int, str]:
    if headers.json_length is None:
        return limits.json_bytes, "JSON; send tensors as binary data"
    if headers.json_length > limits.json_bytes:
        raise TooLarge(
            f"the JSON part has {headers.json_length} bytes, over the limit of {limits.json_bytes}; "
            "send tensors as binary data"
        )
    return limits.binary_bytes, "binary bodies"


def _read(engine: Engine, limits: Limits, route: Route, headers: Headers, body: Buffer) -> tuple[InferRequest, Writer]:
    request, options = rest_request.read_request(engine, route.model, route.version, body, headers.json_length)
    return request, partial(write, engine, limits, options)


def _is_slow(headers: Headers, body: Buffer) -> bool:
    return (len(body) if headers.json_length is None else headers.json_length) >= LARGE_JSON


def write(engine: Engine, limits: Limits, options: OutputOptions, response: InferResponse) -> Reply:
    found = rest_response.write_member(response, options, limits)
    if found is None:
        response = classify(engine, response, options.class_counts)
        found = rest_response.write_response(response, options, limits, engine.shared_memory)
    parts, json_length = found
    if json_length is None:
        return Reply(200, parts)
    header = b"inference-header-content-length: %d\r\n" % json_length
    return Reply(200, parts, b"application/octet-stream", header)


V2 = Dialect(_limit, _read, is_slow=_is_slow)
_ACTIONS = {"infer": V2, "generate": GENERATE, "generate_stream": GENERATE_STREAM}


def match(parts: list[str]) -> Route | None:
    """Return the hot route for a path, given its segments after /v2, or None."""
    match parts:
        case ["models", model, action] if model and action in _ACTIONS:
            return Route(_ACTIONS[action], model)
        case ["models", model, "versions", version, action] if model and version and action in _ACTIONS:
            return Route(_ACTIONS[action], model, version)
    return None
