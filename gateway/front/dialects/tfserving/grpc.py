"""TensorFlow Serving over gRPC: messages <-> the engine's vocabulary. It translates only."""

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from gateway.codecs.protobuf_fields import field, field_head
from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.engine.protocol import Engine
from gateway.engine.validate import check_count
from gateway.errors import InvalidRequest, Unsupported
from gateway.front.base.access import Action
from gateway.front.base.grpc_method import InferCall, Method, Service, no_model, parse, unary
from gateway.front.base.limits import MAX_OBJECTS, Limits, check_answer
from gateway.front.dialects.tfserving.classify import CLASSIFY, REGRESS, ask, read_classes, read_regressions
from gateway.front.dialects.tfserving.examples import read_input
from gateway.front.dialects.tfserving.metadata import (
    SIGNATURE_DEF,
    check_fields,
    model_spec,
    model_status,
    signature_map,
)
from gateway.front.dialects.tfserving.model_spec import DEFAULT_SIGNATURE, check_version, find_model, signature_key
from gateway.front.dialects.tfserving.tensor_proto import read_tensor_proto, write_tensor_proto
from gateway.generated import tensorflow_serving_pb2 as pb
from runtimes.tensors import Buffer, Tensor

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"

# In PredictResponse: outputs, and in each of these the key and the value.
_OUTPUTS: Final = 1 << 3 | 2
_VALUE: Final = 2 << 3 | 2
_KEY: Final = 1 << 3 | 2
_MAX_TASKS = 64
# In a message of examples: an example, its features, and of each of these the entry, the feature and its list.
_MAX_EXAMPLE_FIELDS = 8 * MAX_OBJECTS


def services(engine: Engine, limits: Limits) -> list[Service]:
    return [
        Service(PREDICTION_SERVICE, {"Predict": Predict(engine, limits), **prediction_methods(engine, limits)}),
        Service(MODEL_SERVICE, model_methods(engine)),
    ]


class _Spec(NamedTuple):
    """A ModelSpec. version: "" for none; a label if is_label."""

    model: str
    version: str
    is_label: bool
    signature: str

    def find(self, engine: Engine) -> ModelStatus:
        """Raises NotFound."""
        return find_model(engine, self.model, self.version, self.is_label)


def _read_spec(message: pb.ModelSpec) -> _Spec:
    kind = message.WhichOneof("version_choice")
    version = ""
    if kind == "version":
        version = str(message.version.value)
    elif kind is not None:
        version = message.version_label
    return _Spec(message.name, version, kind == "version_label", message.signature_name)


class Predict(InferCall[str]):
    """What its answer needs of the request is the signature."""

    def _read(self, raw: bytes, seconds: float | None) -> tuple[InferRequest, str]:
        message = parse(pb.PredictRequest, raw)
        spec = _read_spec(message.model_spec)
        with self._engine.reserve_body(spec.model, spec.version):
            check_version(spec.model, spec.version, spec.is_label)
            signature = spec.signature
            if signature == DEFAULT_SIGNATURE:
                signature = signature_key(self._engine.model(spec.model, spec.version), signature)
            inputs = self._inputs(message.inputs)
        deadline = None if seconds is None else time.monotonic() + seconds
        check_count(len(message.output_filter), "outputs")
        wanted = list(message.output_filter)
        return InferRequest(spec.model, inputs, spec.version, "", wanted, signature, deadline=deadline), signature

    def _inputs(self, protos: Mapping[str, Any]) -> list[Tensor]:
        """One value may stand for all of a tensor: so what they take together is limited, too."""
        check_count(len(protos), "inputs")
        left = self._limits.binary_bytes
        inputs = []
        # A map comes in any order, and requests that are alike shall look alike to who batches them.
        for name in sorted(protos):
            tensor = read_tensor_proto(name, protos[name], left)
            left = max(left - len(tensor.data), 0)
            inputs.append(tensor)
        return inputs

    def _write(self, signature: str, response: InferResponse) -> bytes:
        check_answer(response, self._limits)
        parts: list[Buffer] = []
        for tensor in response.outputs:
            key = _key(tensor.name)
            value = write_tensor_proto(tensor)
            size = sum(map(len, value))
            head = field_head(_VALUE, size)
            parts += [field_head(_OUTPUTS, len(key) + len(head) + size), key, head, *value]
        parts.append(_spec_field(response.model, response.version, signature or DEFAULT_SIGNATURE))
        return b"".join(parts)


@lru_cache(1024)
def _key(name: str) -> bytes:
    return b"".join(field(_KEY, name.encode()))


@lru_cache(1024)
def _spec_field(model: str, version: str, signature: str) -> bytes:
    raw: bytes = pb.PredictResponse(model_spec=_spec(model, version, signature)).SerializeToString()
    return raw


def _spec(model: str, version: str, signature: str) -> pb.ModelSpec:
    return model_spec(ModelStatus(model, version, "READY"), signature)


def prediction_methods(engine: Engine, limits: Limits) -> dict[str, Method]:
    """Every method of PredictionService but Predict, by name. They raise ModelportError."""

    async def run(spec: _Spec, method: str, examples: pb.Input, seconds: float | None) -> pb.InferenceResult:
        with engine.reserve_body(spec.model, spec.version):
            status = spec.find(engine)
            asked = ask(status, spec.signature, method)
            tensor = read_input(examples, asked.input, limits.binary_bytes)
        deadline = None if seconds is None else time.monotonic() + seconds
        response = await engine.infer(asked.request(status, spec.version, tensor, deadline))
        check_answer(response, limits)
        result = pb.InferenceResult(
            model_spec=_spec(response.model, response.version, asked.signature or DEFAULT_SIGNATURE)
        )
        if method == REGRESS:
            for value in read_regressions(response, tensor.shape[0]).tolist():
                result.regression_result.regressions.add(value=value)
            return result
        classes = read_classes(response, tensor.shape[0], status.class_labels)
        for labels, scores in zip(classes.labels, classes.scores.tolist(), strict=True):
            told = result.classification_result.classifications.add()
            for label, score in zip(labels, scores, strict=True):
                told.classes.add(label=label, score=score)
        return result

    async def classify(message: pb.ClassificationRequest, seconds: float | None) -> Message:
        result = await run(_read_spec(message.model_spec), CLASSIFY, message.input, seconds)
        return pb.ClassificationResponse(result=result.classification_result, model_spec=result.model_spec)

    async def regress(message: pb.RegressionRequest, seconds: float | None) -> Message:
        result = await run(_read_spec(message.model_spec), REGRESS, message.input, seconds)
        return pb.RegressionResponse(result=result.regression_result, model_spec=result.model_spec)

    async def multi_inference(message: pb.MultiInferenceRequest, seconds: float | None) -> Message:
        ends = None if seconds is None else time.monotonic() + seconds
        results = []
        for spec, method in _tasks(message):
            left = None if ends is None else ends - time.monotonic()
            results.append(await run(spec, method, message.input, left))
        return pb.MultiInferenceResponse(results=results)

    async def metadata(message: pb.GetModelMetadataRequest, seconds: float | None) -> Message:
        status = _read_spec(message.model_spec).find(engine)
        check_fields(message.metadata_field)
        packed = AnyMessage()
        packed.Pack(signature_map(status))
        return pb.GetModelMetadataResponse(model_spec=model_spec(status), metadata={SIGNATURE_DEF: packed})

    return {
        "Classify": _method("infer", pb.ClassificationRequest, _model, classify),
        "Regress": _method("infer", pb.RegressionRequest, _model, regress),
        "MultiInference": _method("infer", pb.MultiInferenceRequest, _model_of_tasks, multi_inference),
        "GetModelMetadata": _method("read", pb.GetModelMetadataRequest, _model, metadata),
    }


def _tasks(message: pb.MultiInferenceRequest) -> list[tuple[_Spec, str]]:
    """Each signature once, all of one model: what a request costs is limited by that. Raises InvalidRequest."""
    tasks: dict[str, tuple[_Spec, str]] = {}
    if not 0 < len(message.tasks) <= _MAX_TASKS:
        raise InvalidRequest(f"the request has {len(message.tasks)} tasks; 1 to {_MAX_TASKS} are wanted")
    first = _read_spec(message.tasks[0].model_spec)
    for task in message.tasks:
        spec = _read_spec(task.model_spec)
        if spec[:3] != first[:3]:
            raise InvalidRequest("all tasks must name the same model and version; send a request for each model")
        if task.method_name not in (CLASSIFY, REGRESS):
            raise InvalidRequest(f"a task's method_name is '{task.method_name}'; give {CLASSIFY} or {REGRESS}")
        if spec.signature in tasks:
            raise InvalidRequest(f"two tasks name the signature '{spec.signature}'; give each once")
        tasks[spec.signature] = spec, task.method_name
    return list(tasks.values())


def model_methods(engine: Engine) -> dict[str, Method]:
    """Those of ModelService. They raise ModelportError."""

    async def status(message: pb.GetModelStatusRequest, seconds: float | None) -> Message:
        spec = _read_spec(message.model_spec)
        return model_status(engine, spec.model, spec.version, spec.is_label)

    async def reload(message: pb.ReloadConfigRequest, seconds: float | None) -> Message:
        raise Unsupported(
            "the configuration is not taken over gRPC; edit the repository or models.config, which is looked at again"
        )

    return {
        "GetModelStatus": _method("read", pb.GetModelStatusRequest, _model, status),
        "HandleReloadConfigRequest": _method("admin", pb.ReloadConfigRequest, no_model, reload),
    }


def _model(message: Any) -> str:
    name: str = message.model_spec.name
    return name


def _model_of_tasks(message: Any) -> str:
    """All tasks are of one model: `_tasks` refuses others."""
    return _model(message.tasks[0]) if message.tasks else ""


def _method(
    action: Action,
    kind: type[Message],
    model: Callable[[Any], str],
    answer: Callable[[Any, float | None], Awaitable[Message]],
) -> Method:
    return unary(action, kind, model, answer, _MAX_EXAMPLE_FIELDS)
