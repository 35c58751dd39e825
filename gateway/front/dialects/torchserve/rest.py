"""TorchServe's inference over REST."""

from functools import partial

from gateway.domain.types import InferRequest, InferResponse, unavailable
from gateway.engine.protocol import Engine
from gateway.front.base.body import Headers
from gateway.front.base.dialect import Dialect, Reply, Route, Writer
from gateway.front.base.handled import has_handler, read_handled, write_handled
from gateway.front.base.limits import LARGE_JSON, Limits, check_answer
from gateway.front.dialects.torchserve import inference
from runtimes.tensors import Buffer


def _limit(headers: Headers, limits: Limits) -> tuple[int, str]:
    if inference.is_json(headers.content_type):
        return limits.json_bytes, "JSON"
    return limits.binary_bytes, "bodies that are not declared to be JSON"


def _read(engine: Engine, limits: Limits, route: Route, headers: Headers, body: Buffer) -> tuple[InferRequest, Writer]:
    status = engine.model(route.model, route.version)
    if not status.signatures:  # nobody can say yet what its bodies are, for example whether they have to be JSON
        raise unavailable(status)
    if has_handler(status):
        return read_handled(route.model, route.version, body, headers), partial(write_handled, limits)
    request, write = inference.read_request(engine, route.model, route.version, body, headers.content_type, limits)
    return request, partial(_write, limits, write)


def _write(limits: Limits, write: inference.Write, response: InferResponse) -> Reply:
    check_answer(response, limits)
    return Reply(200, [write(response)])


def _is_slow(headers: Headers, body: Buffer) -> bool:
    return not inference.is_json(headers.content_type) or len(body) >= LARGE_JSON


TORCHSERVE = Dialect(_limit, _read, inference.encode_error, _is_slow, methods=(b"POST", b"PUT"))


def match(parts: list[str]) -> Route | None:
    """Return the hot route for a path, given its segments after /predictions, or None."""
    match parts:
        case [model] if model:
            return Route(TORCHSERVE, model)
        case [model, version] if model and version:
            return Route(TORCHSERVE, model, version)
    return None
