"""TensorFlow Serving over gRPC: translates between messages and the engine's types."""

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from gateway.codecs.protobuf_fields import field, field_head
from gateway.domain.identity import Action, Identity
from gateway.domain.types import InferRequest, InferResponse, ModelStatus, NotLoaded
from gateway.engine.protocol import Acceptance, Engine
from gateway.engine.validate import check_count
from gateway.errors import InvalidRequest, Unsupported
from gateway.front.base.accepted_call import accepted_call
from gateway.front.base.affinity import CALL_METADATA, with_affinity
from gateway.front.base.grpc_method import InferCall, Method, Service, no_model, parse, unary
from gateway.front.base.limits import MAX_OBJECTS, Limits, check_answer
from gateway.front.base.loading import loaded, loaded_model
from gateway.front.dialects.tfserving.classify import (
    CLASSIFY,
    REGRESS,
    find_examples_signature,
    read_classes,
    read_regressions,
)
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

# Field keys: outputs of PredictResponse, and key and value of each of its entries.
_OUTPUTS: Final = 1 << 3 | 2
_VALUE: Final = 2 << 3 | 2
_KEY: Final = 1 << 3 | 2
# Each task is a request to the model, and all of them count as one in the admission limit.
_MAX_TASKS = 64
# For messages with examples: each feature is nested in several messages (example, features, map entry, feature, list).
_MAX_EXAMPLE_FIELDS = 8 * MAX_OBJECTS


def services(engine: Engine, limits: Limits) -> list[Service]:
    return [
        Service(PREDICTION_SERVICE, {"Predict": Predict(engine, limits), **prediction_methods(engine, limits)}),
        Service(MODEL_SERVICE, model_methods(engine)),
    ]


class _Spec(NamedTuple):
    """A ModelSpec. `version` is "" if there is none, and a label if `is_label` is set."""

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


def _model_of_predict(raw: bytes) -> str:
    return _model(parse(pb.PredictRequest, raw))


class Predict(InferCall[str]):
    """The hot method. Its answer only needs the signature of the request."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        super().__init__(engine, self.read, self.write, _model_of_predict)
        self._limits = limits

    def read(self, raw: bytes, seconds: float | None) -> tuple[InferRequest, str]:
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
        outputs = list(message.output_filter)
        return InferRequest(spec.model, inputs, spec.version, "", outputs, signature, deadline=deadline), signature

    def _inputs(self, protos: Mapping[str, Any]) -> list[Tensor]:
        """Convert the inputs. One value may be repeated to fill a tensor, so their total size is limited as well."""
        check_count(len(protos), "inputs")
        bytes_left = self._limits.binary_bytes
        inputs = []
        # The order of a protobuf map is arbitrary. Sorted, the same inputs have the same layout and can form a batch.
        for name in sorted(protos):
            tensor = read_tensor_proto(name, protos[name], bytes_left)
            bytes_left = max(bytes_left - len(tensor.data), 0)
            inputs.append(tensor)
        return inputs

    def write(self, signature: str, response: InferResponse) -> bytes:
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
    """Return the methods of PredictionService except Predict, by name. They raise ModelportError."""

    async def run(
        spec: _Spec,
        method: str,
        examples: pb.Input,
        seconds: float | None,
        identity: Identity | None,
        accepted: Acceptance,
    ) -> pb.InferenceResult:
        with engine.reserve_body(spec.model, spec.version):
            status = spec.find(engine)
            signature = find_examples_signature(status, spec.signature, method)
            tensor = read_input(examples, signature.input, limits.binary_bytes)
        deadline = None if seconds is None else time.monotonic() + seconds
        request = signature.request(status, spec.version, tensor, deadline)
        response = await engine.infer(with_affinity(engine, request, CALL_METADATA.get()), identity, accepted)
        check_answer(response, limits)
        result = pb.InferenceResult(
            model_spec=_spec(response.model, response.version, signature.name or DEFAULT_SIGNATURE)
        )
        if method == REGRESS:
            for value in read_regressions(response, tensor.shape[0]).tolist():
                result.regression_result.regressions.add(value=value)
            return result
        classes = read_classes(response, tensor.shape[0], status.class_labels)
        for labels, scores in zip(classes.labels, classes.scores.tolist(), strict=True):
            classification = result.classification_result.classifications.add()
            for label, score in zip(labels, scores, strict=True):
                classification.classes.add(label=label, score=score)
        return result

    async def run_loaded(
        spec: _Spec,
        method: str,
        examples: pb.Input,
        seconds: float | None,
        identity: Identity | None,
        accepted: Acceptance,
    ) -> pb.InferenceResult:
        """Do what `run` does, also for a model that is to be loaded first."""
        ends = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if ends is None else ends - time.monotonic()
            try:
                return await run(spec, method, examples, left, identity, accepted)
            except NotLoaded as unloaded:
                await loaded(engine, unloaded, left, identity, accepted)

    async def classify(
        message: pb.ClassificationRequest, seconds: float | None, identity: Identity | None, accepted: Acceptance
    ) -> Message:
        spec = _read_spec(message.model_spec)
        result = await run_loaded(spec, CLASSIFY, message.input, seconds, identity, accepted)
        return pb.ClassificationResponse(result=result.classification_result, model_spec=result.model_spec)

    async def regress(
        message: pb.RegressionRequest, seconds: float | None, identity: Identity | None, accepted: Acceptance
    ) -> Message:
        spec = _read_spec(message.model_spec)
        result = await run_loaded(spec, REGRESS, message.input, seconds, identity, accepted)
        return pb.RegressionResponse(result=result.regression_result, model_spec=result.model_spec)

    async def multi_inference(
        message: pb.MultiInferenceRequest, seconds: float | None, identity: Identity | None, accepted: Acceptance
    ) -> Message:
        ends = None if seconds is None else time.monotonic() + seconds
        results = []
        tasks = _tasks(message)
        asked = InferRequest(tasks[0][0].model, (), tasks[0][0].version)
        version = engine.choose_version(with_affinity(engine, asked, CALL_METADATA.get()), identity)
        for spec, method in tasks:
            if version:  # the same one for all tasks
                spec = spec._replace(version=version)
            left = None if ends is None else ends - time.monotonic()
            results.append(await run_loaded(spec, method, message.input, left, identity, accepted))
        return pb.MultiInferenceResponse(results=results)

    async def metadata(
        message: pb.GetModelMetadataRequest, seconds: float | None, identity: Identity | None
    ) -> Message:
        spec = _read_spec(message.model_spec)
        status = await loaded_model(engine, spec.find(engine).name, spec.version, identity)
        check_fields(message.metadata_field)
        packed = AnyMessage()
        packed.Pack(signature_map(status))
        return pb.GetModelMetadataResponse(model_spec=model_spec(status), metadata={SIGNATURE_DEF: packed})

    accepted = partial(accepted_call, engine)
    return {
        "Classify": _method("infer", pb.ClassificationRequest, _model, accepted(_model, classify)),
        "Regress": _method("infer", pb.RegressionRequest, _model, accepted(_model, regress)),
        "MultiInference": _method(
            "infer", pb.MultiInferenceRequest, _model_of_tasks, accepted(_model_of_tasks, multi_inference)
        ),
        "GetModelMetadata": _method("read", pb.GetModelMetadataRequest, _model, metadata),
    }


def _tasks(message: pb.MultiInferenceRequest) -> list[tuple[_Spec, str]]:
    """Return the tasks. All must be for one model, each for another signature, which limits the cost of a request.

    Raises InvalidRequest.
    """
    tasks: dict[str, tuple[_Spec, str]] = {}
    if not 0 < len(message.tasks) <= _MAX_TASKS:
        raise InvalidRequest(f"the request has {len(message.tasks)} tasks; send 1 to {_MAX_TASKS}")
    first = _read_spec(message.tasks[0].model_spec)
    for task in message.tasks:
        spec = _read_spec(task.model_spec)
        if spec[:3] != first[:3]:
            raise InvalidRequest("all tasks must name the same model and version; send a request for each model")
        if task.method_name not in (CLASSIFY, REGRESS):
            raise InvalidRequest(f"a task's method_name is '{task.method_name}'; it must be {CLASSIFY} or {REGRESS}")
        if spec.signature in tasks:
            raise InvalidRequest(f"two tasks name the signature '{spec.signature}'; send each once")
        tasks[spec.signature] = spec, task.method_name
    return list(tasks.values())


def model_methods(engine: Engine) -> dict[str, Method]:
    """Return the methods of ModelService by name. They raise ModelportError."""

    async def status(message: pb.GetModelStatusRequest, seconds: float | None, identity: Identity | None) -> Message:
        spec = _read_spec(message.model_spec)
        return model_status(engine, spec.model, spec.version, spec.is_label)

    async def reload(message: pb.ReloadConfigRequest, seconds: float | None, identity: Identity | None) -> Message:
        raise Unsupported(
            "the configuration cannot be changed over gRPC; edit the repository or models.config, which are read again"
        )

    return {
        "GetModelStatus": _method("read", pb.GetModelStatusRequest, _model, status),
        "HandleReloadConfigRequest": _method("admin", pb.ReloadConfigRequest, no_model, reload),
    }


def _model(message: Any) -> str:
    name: str = message.model_spec.name
    return name


def _model_of_tasks(message: Any) -> str:
    """Return the model of all tasks: `_tasks` rejects requests with several."""
    return _model(message.tasks[0]) if message.tasks else ""


def _method(
    action: Action,
    kind: type[Message],
    model: Callable[[Any], str],
    answer: Callable[[Any, float | None, Identity | None], Awaitable[Message]],
) -> Method:
    return unary(action, kind, model, answer, _MAX_EXAMPLE_FIELDS)
