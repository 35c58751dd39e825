"""TensorFlow Serving's REST dialects: :predict, :classify, :regress."""

from functools import partial

from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.engine.protocol import Engine
from gateway.front.base.body import Headers
from gateway.front.base.dialect import Dialect, Reply, Route, Writer
from gateway.front.base.limits import LARGE_JSON, Limits, check_answer
from gateway.front.base.named_outputs import are_named
from gateway.front.dialects.tfserving import classify, model_spec, predict
from gateway.front.dialects.tfserving import examples as tfs_examples
from runtimes.tensors import Buffer

# Bodies with examples that are larger than this are read in a thread, because each feature becomes a protobuf message.
# That takes longer than parsing their JSON, so the limit is lower than LARGE_JSON.
_LARGE_EXAMPLES = 8192


def _limit(headers: Headers, limits: Limits) -> tuple[int, str]:
    return limits.json_bytes, "JSON; send tensors over gRPC"


def _is_slow(headers: Headers, body: Buffer) -> bool:
    return len(body) > _LARGE_EXAMPLES


def _predict_is_slow(headers: Headers, body: Buffer) -> bool:
    return len(body) >= LARGE_JSON


def _read_predict(
    engine: Engine, limits: Limits, route: Route, headers: Headers, body: Buffer
) -> tuple[InferRequest, Writer]:
    status = model_spec.find_model(engine, route.model, route.version, route.is_label)
    request, instances = predict.read_request(status, route.version, body)
    return request, partial(_write_predict, limits, instances, are_named(status, request))


def _write_predict(limits: Limits, instances: int | None, has_names: bool, response: InferResponse) -> Reply:
    check_answer(response, limits)
    return Reply(200, [predict.write_response(response, instances, limits, has_names)])


def _read_examples(
    method: str, engine: Engine, limits: Limits, route: Route, headers: Headers, body: Buffer
) -> tuple[InferRequest, Writer]:
    status = model_spec.find_model(engine, route.model, route.version, route.is_label)
    document = predict.read_object(body)
    signature = classify.find_examples_signature(status, document.get("signature_name", ""), method)
    examples = tfs_examples.read_examples(document, signature.input, limits.binary_bytes)
    request = signature.request(status, route.version, examples)
    return request, partial(_write_results, limits, status, method, examples.shape[0])


def _write_results(limits: Limits, status: ModelStatus, method: str, count: int, response: InferResponse) -> Reply:
    check_answer(response, limits)
    if method == classify.REGRESS:
        return Reply(200, [classify.regressions_json(classify.read_regressions(response, count))])
    return Reply(200, [classify.read_classes(response, count, status.class_labels).to_json()])


PREDICT = Dialect(_limit, _read_predict, is_slow=_predict_is_slow)
_DIALECTS = {
    "predict": PREDICT,
    "classify": Dialect(_limit, partial(_read_examples, classify.CLASSIFY), is_slow=_is_slow),
    "regress": Dialect(_limit, partial(_read_examples, classify.REGRESS), is_slow=_is_slow),
}


def match(parts: list[str]) -> Route | None:
    """Return the hot route for a path, given its segments after /v1, or None."""
    last, _, verb = parts[-1].rpartition(":") if parts else ("", "", "")
    dialect = _DIALECTS.get(verb)
    if dialect is None or not last:
        return None
    match parts[:-1]:
        case ["models"]:
            return Route(dialect, last)
        case ["models", model, "versions" | "labels" as kind] if model:
            return Route(dialect, model, last, kind == "labels")
    return None
