"""TensorFlow Serving's calls with examples over gRPC: Classify, Regress and MultiInference."""

from collections.abc import Callable
from typing import Any, NamedTuple

from google.protobuf.message import Message

from gateway.domain.types import InferRequest, InferResponse, ModelStatus, NotLoaded
from gateway.engine.protocol import Engine
from gateway.errors import InvalidRequest
from gateway.front.base.accepted_call import Answer, Call, accepted_call
from gateway.front.base.affinity import CALL_METADATA, with_affinity
from gateway.front.base.grpc_method import Method, unary
from gateway.front.base.limits import MAX_OBJECTS, Limits, check_answer
from gateway.front.base.loading import loaded
from gateway.front.dialects.tfserving.classify import (
    CLASSIFY,
    REGRESS,
    find_examples_signature,
    read_classes,
    read_regressions,
)
from gateway.front.dialects.tfserving.examples import read_input
from gateway.front.dialects.tfserving.metadata import answered_spec
from gateway.front.dialects.tfserving.model_spec import DEFAULT_SIGNATURE, Spec, model_of, read_spec
from gateway.generated import tensorflow_serving_pb2 as pb

# Each task is a request to the model, and all of them count as one in the admission limit.
_MAX_TASKS = 64
# Each feature is nested in several messages (example, features, map entry, feature, list).
_MAX_FIELDS = 8 * MAX_OBJECTS


class _Task(NamedTuple):
    spec: Spec
    method: str


class ExampleCalls:
    """Its methods raise ModelportError."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits

    def methods(self) -> dict[str, Method]:
        """Return the methods by name."""
        return {
            "Classify": self._method(pb.ClassificationRequest, model_of, self._classify),
            "Regress": self._method(pb.RegressionRequest, model_of, self._regress),
            "MultiInference": self._method(pb.MultiInferenceRequest, _model_of_tasks, self._multi_inference),
        }

    def _method(self, kind: type[Message], model: Callable[[Any], str], answer: Answer[Any, Message]) -> Method:
        return unary("infer", kind, model, accepted_call(self._engine, model, answer), _MAX_FIELDS)

    async def _classify(self, message: pb.ClassificationRequest, call: Call) -> Message:
        result = await self._run(_Task(read_spec(message.model_spec), CLASSIFY), message.input, call)
        return pb.ClassificationResponse(result=result.classification_result, model_spec=result.model_spec)

    async def _regress(self, message: pb.RegressionRequest, call: Call) -> Message:
        result = await self._run(_Task(read_spec(message.model_spec), REGRESS), message.input, call)
        return pb.RegressionResponse(result=result.regression_result, model_spec=result.model_spec)

    async def _multi_inference(self, message: pb.MultiInferenceRequest, call: Call) -> Message:
        tasks = _tasks(message)
        asked = self._with_affinity(InferRequest(tasks[0].spec.model, (), tasks[0].spec.version))
        version = self._engine.choose_version(asked, call.identity)
        results = []
        for spec, method in tasks:
            if version:  # the same one for all tasks
                spec = spec._replace(version=version)
            results.append(await self._run(_Task(spec, method), message.input, call))
        return pb.MultiInferenceResponse(results=results)

    async def _run(self, task: _Task, examples: pb.Input, call: Call) -> pb.InferenceResult:
        """Run a task, and before that load a model that is loaded on demand."""
        while True:
            try:
                return await self._run_loaded(task, examples, call)
            except NotLoaded as unloaded:
                await loaded(self._engine, unloaded, call.seconds_left, call.identity, call.accepted)

    async def _run_loaded(self, task: _Task, examples: pb.Input, call: Call) -> pb.InferenceResult:
        spec = task.spec
        with self._engine.reserve_body(spec.model, spec.version):
            status = spec.find(self._engine)
            signature = find_examples_signature(status, spec.signature, task.method)
            tensor = read_input(examples, signature.input, self._limits.binary_bytes)
        request = self._with_affinity(signature.request(status, spec.version, tensor, call.deadline))
        response = await self._engine.infer(request, call.identity, call.accepted)
        check_answer(response, self._limits)
        answered = answered_spec(response.model, response.version, signature.name or DEFAULT_SIGNATURE)
        result = pb.InferenceResult(model_spec=answered)
        if task.method == REGRESS:
            _add_regressions(result, response, tensor.shape[0])
        else:
            _add_classes(result, response, tensor.shape[0], status)
        return result

    def _with_affinity(self, request: InferRequest) -> InferRequest:
        return with_affinity(self._engine, request, CALL_METADATA.get())


def _add_regressions(result: pb.InferenceResult, response: InferResponse, examples: int) -> None:
    for value in read_regressions(response, examples).tolist():
        result.regression_result.regressions.add(value=value)


def _add_classes(result: pb.InferenceResult, response: InferResponse, examples: int, status: ModelStatus) -> None:
    classes = read_classes(response, examples, status.class_labels)
    for labels, scores in zip(classes.labels, classes.scores.tolist(), strict=True):
        classification = result.classification_result.classifications.add()
        for label, score in zip(labels, scores, strict=True):
            classification.classes.add(label=label, score=score)


def _tasks(message: pb.MultiInferenceRequest) -> list[_Task]:
    """Return the tasks. All must be for one model, each for another signature, which limits the cost of a request.

    Raises InvalidRequest.
    """
    tasks: dict[str, _Task] = {}
    if not 0 < len(message.tasks) <= _MAX_TASKS:
        raise InvalidRequest(f"the request has {len(message.tasks)} tasks; send 1 to {_MAX_TASKS}")
    first = read_spec(message.tasks[0].model_spec)
    for task in message.tasks:
        spec = read_spec(task.model_spec)
        if spec[:3] != first[:3]:
            raise InvalidRequest("all tasks must name the same model and version; send a request for each model")
        if task.method_name not in (CLASSIFY, REGRESS):
            raise InvalidRequest(f"a task's method_name is '{task.method_name}'; it must be {CLASSIFY} or {REGRESS}")
        if spec.signature in tasks:
            raise InvalidRequest(f"two tasks name the signature '{spec.signature}'; send each once")
        tasks[spec.signature] = _Task(spec, task.method_name)
    return list(tasks.values())


def _model_of_tasks(message: pb.MultiInferenceRequest) -> str:
    """Return the model of all tasks: `_tasks` rejects requests with several."""
    return model_of(message.tasks[0]) if message.tasks else ""
