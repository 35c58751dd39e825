"""MLflow's dialect over REST."""

from functools import partial

from gateway.domain.types import InferRequest, InferResponse
from gateway.engine.protocol import Engine
from gateway.front.base.body import Headers
from gateway.front.base.dialect import Dialect, Reply, Route, Writer
from gateway.front.base.handled import has_handler, read_handled, write_handled
from gateway.front.base.limits import LARGE_JSON, Limits, check_answer
from gateway.front.dialects.mlflow import invocations
from runtimes.tensors import Buffer


def _limit(headers: Headers, limits: Limits) -> tuple[int, str]:
    if invocations.is_npy(headers.content_type):
        return limits.binary_bytes, "binary bodies"
    return limits.json_bytes, "JSON and CSV; send npy"


def _read(engine: Engine, limits: Limits, route: Route, headers: Headers, body: Buffer) -> tuple[InferRequest, Writer]:
    by_instance = route.path == engine.deployment.predict_route
    model = route.model or invocations.choose_model(engine, headers.target_model)
    if has_handler(engine.model(model, "")):
        return read_handled(model, "", body, headers), partial(write_handled, limits)
    request, write = invocations.read_request(engine, model, body, headers, limits, by_instance)
    return request, partial(_write, limits, write)


def _write(limits: Limits, write: invocations.Write, response: InferResponse) -> Reply:
    check_answer(response, limits)
    return Reply(200, [write(response)])


def _is_slow(headers: Headers, body: Buffer) -> bool:
    return len(body) >= LARGE_JSON and not invocations.is_npy(headers.content_type)


MLFLOW = Dialect(_limit, _read, invocations.encode_error, _is_slow)


def match(parts: list[str]) -> Route | None:
    """Return the hot route for a path, given its segments after /invocations, or None."""
    return Route(MLFLOW) if not parts else None


def match_model(parts: list[str]) -> Route | None:
    """Return the hot route for a path of SageMaker, given its segments after /models, or None."""
    match parts:
        case [model, "invoke"] if model:
            return Route(MLFLOW, model)
    return None
