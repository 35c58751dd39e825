"""TensorFlow Serving over gRPC: answers and rejected requests."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message

from gateway.domain.table import Table, TableEntry
from gateway.engine.admission import AdmissionLimits
from gateway.engine.engine import FrontEngine
from gateway.engine.fake import FakeEngine
from gateway.engine.queue import ModelQueue
from gateway.errors import InvalidRequest, ModelportError, NotFound, TooLarge, Unavailable, Unsupported
from gateway.front.dialects.tfserving import classify
from gateway.front.dialects.tfserving import examples as tfs_examples
from gateway.front.dialects.tfserving import grpc as grpc_tfs
from gateway.front.dialects.tfserving.tensor_proto import read_tensor_proto, write_tensor_proto
from gateway.generated import tensorflow_pb2 as tf
from gateway.generated import tensorflow_serving_pb2 as pb
from runtimes.layouts import TensorGroup, layout_of
from runtimes.result_frames import ResultGroup
from runtimes.tensors import from_array, to_array
from tests.support.front_server import WAIT_S, Serving
from tests.unit.front.dialects.tfserving.tfs_models import LIMITS, engine, models, received

X = np.array([[1, 2], [3, 4]], np.float32)
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
ANSWERS: dict[str, type[Message]] = {
    "Predict": pb.PredictResponse,
    "Classify": pb.ClassificationResponse,
    "Regress": pb.RegressionResponse,
    "MultiInference": pb.MultiInferenceResponse,
    "GetModelMetadata": pb.GetModelMetadataResponse,
    "GetModelStatus": pb.GetModelStatusResponse,
    "HandleReloadConfigRequest": pb.ReloadConfigResponse,
}


def call(fake: FakeEngine, method: str, message: Message | bytes, seconds: float | None = None) -> Any:
    methods = {
        "Predict": grpc_tfs.Predict(fake, LIMITS),
        **grpc_tfs.prediction_methods(fake, LIMITS),
        **grpc_tfs.model_methods(fake),
    }
    raw = message if isinstance(message, bytes) else message.SerializeToString()
    answer: Any = asyncio.run(methods[method](raw, seconds))  # type: ignore[arg-type]
    return ANSWERS[method].FromString(answer)


def proto(array: np.ndarray) -> tf.TensorProto:
    return tf.TensorProto.FromString(b"".join(write_tensor_proto(from_array("x", array))))


def spec(model: str = "saved", version: int | None = None, **more: str) -> pb.ModelSpec:
    made = pb.ModelSpec(name=model, **more)
    if version is not None:
        made.version.value = version
    return made


def predict(model_spec: pb.ModelSpec, output_filter: tuple[str, ...] = (), **inputs: np.ndarray) -> pb.PredictRequest:
    protos = {name: proto(array) for name, array in inputs.items()}
    return pb.PredictRequest(model_spec=model_spec, inputs=protos, output_filter=output_filter)


def examples(*values: float, context: dict[str, float] | None = None) -> pb.Input:
    made = [example({"x": value}) for value in values]
    if context is not None:
        both = pb.ExampleListWithContext(examples=made, context=example(context))
        return pb.Input(example_list_with_context=both)
    return pb.Input(example_list=pb.ExampleList(examples=made))


def example(values: dict[str, float]) -> tf.Example:
    feature = {name: tf.Feature(float_list=tf.FloatList(value=[value])) for name, value in values.items()}
    return tf.Example(features=tf.Features(feature=feature))


def values(answer: pb.PredictResponse) -> dict[str, np.ndarray]:
    return {name: to_array(read_tensor_proto(name, each, 1 << 20)) for name, each in answer.outputs.items()}


@pytest.mark.parametrize(
    ("asked", "version"),
    [
        (spec(), 2),
        (spec(version=1), 1),
        (spec(version_label="stable"), 1),
        (spec(signature_name="serving_default"), 2),
    ],
)
def test_predict_names_the_model_version_and_signature(asked: pb.ModelSpec, version: int) -> None:
    answer = call(engine(), "Predict", predict(asked, x=X))
    np.testing.assert_array_equal(values(answer)["y"], X)
    assert answer.outputs["y"].tensor_content
    assert answer.model_spec == spec(version=version, signature_name="serving_default")


def test_predict_accepts_several_inputs_and_a_filter() -> None:
    strings = np.array([b"\xff", b"b"], object)
    answer = values(call(engine(), "Predict", predict(spec("several"), a=X, b=strings)))
    assert answer.keys() == {"a_out", "image_bytes"}
    assert answer["image_bytes"].tolist() == strings.tolist()
    some = values(call(engine(), "Predict", predict(spec("several"), ("image_bytes",), a=X, b=strings)))
    assert some.keys() == {"image_bytes"}


def test_any_model_has_a_serving_default() -> None:
    for name in ("", "serving_default"):
        answer = call(
            engine(), "Predict", predict(spec("several", signature_name=name), a=X, b=np.array([b"a", b"b"], object))
        )
        assert answer.model_spec.signature_name == "serving_default"
    answer = call(engine(), "Predict", predict(spec("echo", signature_name="default"), s=X))
    assert answer.model_spec.signature_name == "default"


def test_a_deadline_reaches_the_engine() -> None:
    fake = engine()
    call(fake, "Predict", predict(spec(), x=X), 30.0)
    call(fake, "Predict", predict(spec(), x=X))
    call(fake, "Regress", pb.RegressionRequest(model_spec=spec(signature_name="regress"), input=examples(1)), 30.0)
    assert [request.deadline is None for request in fake.requests] == [False, True, False]


def test_values_that_stand_for_many_are_limited_together() -> None:
    many = tf.TensorProto(dtype=tf.DT_INT8, int_val=[1])
    many.tensor_shape.dim.add(size=LIMITS.binary_bytes - 10)
    request = pb.PredictRequest(model_spec=spec("echo"), inputs={"a": many, "b": many})
    with pytest.raises(TooLarge, match="and 10 are left of the limit for a request"):
        call(engine(), "Predict", request)


@pytest.mark.parametrize(
    ("method", "message", "error", "says"),
    [
        ("Predict", b"\xff", InvalidRequest, "not a valid tensorflow.serving.PredictRequest"),
        ("Classify", b"\xff", InvalidRequest, "not a valid tensorflow.serving.ClassificationRequest"),
        ("GetModelStatus", b"\xff", InvalidRequest, "not a valid tensorflow.serving.GetModelStatusRequest"),
        ("Predict", pb.PredictRequest(), NotFound, "no model ''"),
        ("Predict", predict(spec("nosuch"), x=X), NotFound, "no model 'nosuch'"),
        ("Predict", predict(spec(version=9), x=X), NotFound, "version 9"),
        ("Predict", predict(spec(version=-1), x=X), NotFound, "no version '-1'"),
        ("Predict", predict(spec(version_label="1"), x=X), NotFound, "no label '1'; a number is a version"),
        ("Predict", predict(spec(version_label="nosuch"), x=X), NotFound, "version nosuch"),
        ("Predict", predict(spec(signature_name="nosuch"), x=X), InvalidRequest, "no signature 'nosuch'"),
        ("Predict", predict(spec(), z=X), InvalidRequest, "no input 'z'"),
        ("Predict", predict(spec(), ("z",), x=X), InvalidRequest, "no output 'z'"),
        ("Predict", predict(spec(), x=X.astype(np.float64)), InvalidRequest, "datatype FP64, expected FP32"),
        (
            "Predict",
            pb.PredictRequest(model_spec=spec(), inputs={str(n): tf.TensorProto() for n in range(4097)}),
            InvalidRequest,
            "4097 inputs; at most 4096 are allowed",
        ),
        ("Predict", predict(spec("broken"), x=X), Unavailable, "its artifact is cut off"),
        (
            "Classify",
            pb.ClassificationRequest(model_spec=spec(), input=examples(1)),
            InvalidRequest,
            "does not accept serial",
        ),
        ("Classify", pb.ClassificationRequest(model_spec=spec(signature_name="scores")), InvalidRequest, "no input"),
        (
            "Regress",
            pb.RegressionRequest(model_spec=spec(signature_name="regress"), input=examples()),
            InvalidRequest,
            "no examples",
        ),
        ("MultiInference", pb.MultiInferenceRequest(), InvalidRequest, "has 0 tasks; send 1 to 64"),
        ("MultiInference", pb.MultiInferenceRequest(tasks=[{}] * 65), InvalidRequest, "has 65 tasks; send 1 to 64"),
        ("GetModelMetadata", pb.GetModelMetadataRequest(model_spec=spec()), InvalidRequest, "no metadata_field"),
        (
            "GetModelMetadata",
            pb.GetModelMetadataRequest(model_spec=spec(), metadata_field=["other"]),
            InvalidRequest,
            "no metadata_field 'other'",
        ),
        (
            "GetModelMetadata",
            pb.GetModelMetadataRequest(model_spec=spec("broken"), metadata_field=["signature_def"]),
            Unavailable,
            "its artifact is cut off",
        ),
        ("GetModelStatus", pb.GetModelStatusRequest(model_spec=spec("nosuch")), NotFound, "no model 'nosuch'"),
        ("HandleReloadConfigRequest", pb.ReloadConfigRequest(), Unsupported, "edit the repository or models.config"),
    ],
)
def test_invalid_requests_are_explained(method: str, message: Any, error: type[ModelportError], says: str) -> None:
    with pytest.raises(error, match=says):
        call(engine(), method, message)


@pytest.mark.parametrize("text", ["x" * 1000, "é"])
def test_examples_go_as_they_came(text: str) -> None:
    fake = engine()
    sent = example({text: 1.5})
    request = pb.RegressionRequest(
        model_spec=spec(signature_name="regress"), input=pb.Input(example_list=pb.ExampleList(examples=[sent]))
    )
    answer = call(fake, "Regress", request)
    assert received(fake)["inputs"].tolist() == [sent.SerializeToString()]
    assert [each.value for each in answer.result.regressions] == [sent.ByteSize()]
    assert answer.model_spec == spec(version=2, signature_name="regress")


def test_the_context_is_part_of_each_example() -> None:
    fake = engine()
    given = examples(1, 2, context={"common": 7})
    call(fake, "Regress", pb.RegressionRequest(model_spec=spec(signature_name="regress"), input=given))
    found = [tf.Example.FromString(raw) for raw in received(fake)["inputs"]]
    assert found == [example({"x": 1, "common": 7}), example({"x": 2, "common": 7})]


def test_a_repeated_context_is_limited_by_its_total_size() -> None:
    given = examples(*[1.0] * 100, context={"c" * 1000: 1})
    with pytest.raises(TooLarge, match="each with the context"):
        call(engine(), "Regress", pb.RegressionRequest(model_spec=spec(signature_name="regress"), input=given))


def test_examples_are_limited_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfs_examples, "MAX_OBJECTS", 2)
    with pytest.raises(TooLarge, match="3 examples, over the limit of 2"):
        call(
            engine(),
            "Regress",
            pb.RegressionRequest(model_spec=spec(signature_name="regress"), input=examples(1, 2, 3)),
        )


def test_classify_answers_labels_with_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    request = pb.ClassificationRequest(model_spec=spec(signature_name="classify"), input=examples(1, 2))
    answer = call(engine(), "Classify", request)
    size = example({"x": 1}).ByteSize()
    classes = [[(each.label, each.score) for each in one.classes] for one in answer.result.classifications]
    assert classes == [[("cat", size), ("dog", -size)]] * 2
    monkeypatch.setattr(classify, "MAX_OBJECTS", 3)
    with pytest.raises(TooLarge, match="2 classes for each of 2 examples, over the limit of 3"):
        call(engine(), "Classify", request)


def tasks(*named: tuple[pb.ModelSpec, str]) -> pb.MultiInferenceRequest:
    made = [pb.InferenceTask(model_spec=each, method_name=method) for each, method in named]
    return pb.MultiInferenceRequest(tasks=made, input=examples(1))


def test_multi_inference_answers_each_task() -> None:
    request = tasks((spec(signature_name="scores"), CLASSIFY), (spec(signature_name="regress"), REGRESS))
    first, second = call(engine(), "MultiInference", request).results
    assert first.WhichOneof("result") == "classification_result"
    assert len(second.regression_result.regressions) == 1
    assert [each.model_spec.signature_name for each in (first, second)] == ["scores", "regress"]


def test_all_tasks_of_a_call_that_came_before_a_drain_are_answered() -> None:
    async def refuse(request: Any) -> None:
        raise AssertionError(request)

    async def test() -> None:
        front = FrontEngine(1, AdmissionLimits(), refuse)
        front.apply(Table(tuple(map(TableEntry, models())), True))
        multi_inference = grpc_tfs.prediction_methods(front, LIMITS)["MultiInference"]
        raw = tasks((spec(signature_name="scores"), CLASSIFY), (spec(signature_name="regress"), REGRESS))
        answer = asyncio.ensure_future(multi_inference(raw.SerializeToString(), None, None))
        await asyncio.sleep(0)
        draining = asyncio.create_task(front.drain(60))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="shutting down"):
            await multi_inference(raw.SerializeToString(), None, None)
        (queue,) = [each for each in front.routes.servables() if each.queued]
        assert isinstance(queue, ModelQueue)
        for outputs in (np.zeros((1, 2), np.float32), np.zeros((1, 1), np.float32)):
            (queued,) = queue.take_queued()
            name = "scores" if outputs.shape[1] == 2 else "outputs"
            layout = layout_of("", (), [from_array(name, outputs)])
            group = TensorGroup(layout, [1], memoryview(outputs.tobytes()), 0)
            queued.answer(ResultGroup((queued.id,), (1,), 2, 3, 4, 1, group, first_of_batch=True), 0)
            for _ in range(4):
                await asyncio.sleep(0)
            assert draining.done() is answer.done()
        assert len(pb.MultiInferenceResponse.FromString(answer.result()).results) == 2

    asyncio.run(test())


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ([(spec(signature_name="scores"), CLASSIFY)] * 2, "two tasks name the signature 'scores'"),
        ([(spec(), "tensorflow/serving/predict")], "must be tensorflow/serving/classify or tensorflow/serving/regress"),
        ([(spec(), CLASSIFY), (spec("several"), CLASSIFY)], "the same model and version"),
        ([(spec(), CLASSIFY), (spec(version=1, signature_name="scores"), CLASSIFY)], "the same model and version"),
    ],
)
def test_wrong_tasks_are_rejected(named: Any, says: str) -> None:
    fake = engine()
    with pytest.raises(InvalidRequest, match=says):
        call(fake, "MultiInference", tasks(*named))
    assert not fake.requests


def test_metadata_has_every_signature() -> None:
    request = pb.GetModelMetadataRequest(model_spec=spec(version=1), metadata_field=["signature_def"])
    answer = call(engine(), "GetModelMetadata", request)
    assert answer.model_spec == spec(version=1)
    signature_map = pb.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signature_map)
    methods = {name: each.method_name.rpartition("/")[2] for name, each in signature_map.signature_def.items()}
    assert (methods["serving_default"], methods["scores"], methods["regress"]) == ("predict", "classify", "regress")
    scores = signature_map.signature_def["scores"]
    assert scores.inputs["inputs"].dtype == tf.DT_STRING
    assert [dim.size for dim in scores.outputs["scores"].tensor_shape.dim] == [-1, 2]


def test_metadata_has_learned_and_unknown_facts() -> None:
    def default_signature(model: str) -> Any:
        request = pb.GetModelMetadataRequest(model_spec=spec(model), metadata_field=["signature_def"])
        found = pb.SignatureDefMap()
        call(engine(), "GetModelMetadata", request).metadata["signature_def"].Unpack(found)
        return found.signature_def["serving_default"]

    assert default_signature("echo").inputs["s"].dtype == tf.DT_DOUBLE
    unknown = default_signature("several").outputs["n"]
    assert (unknown.dtype, unknown.tensor_shape.unknown_rank) == (tf.DT_INVALID, True)


def test_status_of_one_version_or_all() -> None:
    def states(asked: pb.ModelSpec) -> list[tuple[int, str, int, str]]:
        answer = call(engine(), "GetModelStatus", pb.GetModelStatusRequest(model_spec=asked))
        name = pb.ModelVersionStatus.State.Name
        return [
            (each.version, name(each.state), each.status.error_code, each.status.error_message)
            for each in answer.model_version_status
        ]

    assert states(spec()) == [(2, "AVAILABLE", 0, ""), (1, "AVAILABLE", 0, "")]
    assert states(spec(version_label="stable")) == [(1, "AVAILABLE", 0, "")]
    assert states(spec("broken")) == [(3, "END", 14, "its artifact is cut off")]
    assert states(spec("coming")) == [(4, "LOADING", 0, "")]


def test_each_library_serves_it(grpc_serving: Serving) -> None:
    def ask(method: str, message: Message, service: str = "PredictionService") -> bytes:
        path = f"/tensorflow.serving.{service}/{method}"
        answer: bytes = grpc_serving.channel.unary_unary(path)(message.SerializeToString(), timeout=WAIT_S)
        return answer

    wide = np.ones((2, 3), np.float32)
    answer = pb.PredictResponse.FromString(ask("Predict", predict(spec("doubler"), x=wide)))
    np.testing.assert_array_equal(values(answer)["y"], wide)
    status = ask("GetModelStatus", pb.GetModelStatusRequest(model_spec=spec("doubler")), "ModelService")
    assert pb.GetModelStatusResponse.FromString(status).model_version_status[0].version == 1
    refusals: list[tuple[Callable[[], bytes], grpc.StatusCode]] = [
        (lambda: ask("Predict", predict(spec("doubler"), x=X)), grpc.StatusCode.INVALID_ARGUMENT),
        (lambda: ask("Predict", predict(spec("nosuch"), x=X)), grpc.StatusCode.NOT_FOUND),
        (
            lambda: ask("HandleReloadConfigRequest", pb.ReloadConfigRequest(), "ModelService"),
            grpc.StatusCode.UNIMPLEMENTED,
        ),
    ]
    for request, code in refusals:
        with pytest.raises(grpc.RpcError) as caught:
            request()
        assert caught.value.code() is code
