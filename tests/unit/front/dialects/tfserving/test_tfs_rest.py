"""TensorFlow Serving over REST: rows, columns, examples, and rejected requests."""

import dataclasses
import json
from base64 import b64encode
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as npst

from gateway.domain.types import InferResponse
from gateway.engine.fake import FakeEngine
from gateway.errors import InvalidRequest, TooLarge
from gateway.front.base import limits
from gateway.front.base.body import Headers
from gateway.front.dialects.tfserving import examples as tfs_examples
from gateway.front.dialects.tfserving import predict as tfs_predict
from gateway.front.http.routes import match
from gateway.generated import tensorflow_pb2 as tf
from runtimes.tensors import Tensor, unpack_bytes
from tests.support.front_server import Serving
from tests.unit.front.dialects.tfserving.tfs_models import LIMITS, compute, engine, models, post, received

SAVED = "/v1/models/saved:predict"


def b64(raw: bytes) -> dict[str, str]:
    return {"b64": b64encode(raw).decode()}


@pytest.mark.parametrize(
    ("path", "version"),
    [
        (SAVED, "2"),
        ("/v1/models/saved/versions/1:predict", "1"),
        ("/v1/models/saved/labels/stable:predict", "1"),
        ("/v1/models/saved/labels/canary:predict", "2"),
    ],
)
def test_each_path_reaches_its_version(path: str, version: str) -> None:
    fake = engine()
    assert post(fake, path, {"instances": [[1, 2]]}) == (200, {"predictions": [[1.0, 2.0]]})
    assert fake.model("saved", fake.requests[0].version).version == version


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/v1/models/saved/labels/1:predict", "no label '1'; a number is a version"),
        ("/v1/models/saved/versions/stable:predict", "no version 'stable'; a version is a number"),
        ("/v1/models/saved/versions/-1:predict", "no version '-1'"),
        ("/v1/models/saved/versions/²:predict", "no version '²'"),
        ("/v1/models/saved/versions/9:predict", "with version 9"),
        ("/v1/models/saved/labels/nosuch:classify", "with version nosuch"),
        ("/v1/models/nosuch:regress", "no model 'nosuch'"),
    ],
)
def test_labels_are_not_numbers(path: str, says: str) -> None:
    status, document = post(engine(), quote(path, safe="/:"), {"instances": [[1, 2]]})
    assert status == 404
    assert says in document["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models",
        "/v1/models/saved",
        "/v1/models/:predict",
        "/v1/models/saved:predicts",
        "/v1/models/saved/versions/:predict",
        "/v1/models//versions/1:predict",
        "/v1/models/saved/stages/1:predict",
        "/v1/models/saved/versions/1/x:predict",
        "/v1/models/saved/metadata",
    ],
)
def test_other_paths_are_not_hot(path: str) -> None:
    assert match(path.encode()) is None


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"instances": [[1, 2], [3, 4]]}, {"predictions": [[1.0, 2.0], [3.0, 4.0]]}),
        ({"instances": [{"x": [1, 2]}]}, {"predictions": [[1.0, 2.0]]}),
        ({"inputs": [[1, 2]]}, {"outputs": [[1.0, 2.0]]}),
        ({"inputs": {"x": [[1, 2]]}, "signature_name": "serving_default"}, {"outputs": [[1.0, 2.0]]}),
        ({"inputs": [[1, 2]], "signature_name": "", "unknown": "ignored"}, {"outputs": [[1.0, 2.0]]}),
    ],
)
def test_a_single_tensor_has_no_name(body: Any, answer: Any) -> None:
    assert post(engine(), SAVED, body) == (200, answer)


def test_an_answer_without_outputs_has_no_rows() -> None:
    silent = FakeEngine(models(), lambda request: [])
    status, document = post(silent, SAVED, {"instances": [[1, 2]]})
    assert (status, "has no outputs" in document["error"]) == (400, True)
    assert post(silent, SAVED, {"inputs": [[1, 2]]}) == (200, {"outputs": {}})


def test_several_outputs_are_objects() -> None:
    rows = [{"a": [1, 2], "b": b64(b"\xff")}, {"a": [3, 4], "b": "text"}]
    predictions = [
        {"a_out": [1.0, 2.0], "image_bytes": b64(b"\xff")},
        {"a_out": [3.0, 4.0], "image_bytes": b64(b"text")},
    ]
    assert post(engine(), "/v1/models/several:predict", {"instances": rows}) == (200, {"predictions": predictions})
    columns = {"a": [[1, 2], [3, 4]], "b": [b64(b"\xff"), "text"]}
    answer = {"a_out": [[1.0, 2.0], [3.0, 4.0]], "image_bytes": [b64(b"\xff"), b64(b"text")]}
    assert post(engine(), "/v1/models/several:predict", {"inputs": columns}) == (200, {"outputs": answer})


def test_any_model_has_a_serving_default() -> None:
    for name in ("", "default", "serving_default"):
        body = {"inputs": [1.5], "signature_name": name}
        assert post(engine(), "/v1/models/echo:predict", body) == (200, {"outputs": [1.5]})


def test_strings_are_text_but_in_outputs_that_end_in_bytes() -> None:
    assert post(engine(), "/v1/models/echo:predict", {"inputs": "zwölf"}) == (200, {"outputs": "zwölf"})
    assert post(engine(), "/v1/models/echo:predict", {"inputs": b64(b"abc")}) == (200, {"outputs": "abc"})
    assert post(engine(), "/v1/models/echo:predict", {"instances": [b64(b"\xff")]})[1] == {
        "predictions": [b64(b"\xff")]
    }


def test_literals_travel_both_ways() -> None:
    body = b'{"instances": [[NaN, 1], [-Infinity, Infinity]]}'
    _, document = post(engine(), SAVED, body)
    np.testing.assert_array_equal(document["predictions"], [[np.nan, 1], [-np.inf, np.inf]])
    rows = b'{"instances": [{"a": [NaN, 1], "b": ""}, {"a": [0.1, 1], "b": ""}]}'
    _, document = post(engine(), "/v1/models/several:predict", rows)
    np.testing.assert_array_equal([row["a_out"] for row in document["predictions"]], [[np.nan, 1], [0.1, 1]])


def test_datatypes_are_the_declared_the_learned_or_the_guessed() -> None:
    fake = engine()
    for value, dtype in ([1, 2], np.float64), (["a"], object), ([True], np.bool_):
        assert post(fake, "/v1/models/echo:predict", {"inputs": value})[0] == 200
        assert received(fake)["s"].dtype == dtype


@given(npst.arrays(np.float64, npst.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3)))
@settings(deadline=None)
def test_values_are_returned_in_rows_and_in_columns(array: np.ndarray) -> None:
    for takes, gives in ("instances", "predictions"), ("inputs", "outputs"):
        status, document = post(engine(), "/v1/models/echo:predict", {takes: array.tolist()})
        assert status == 200
        np.testing.assert_array_equal(np.array(document[gives], np.float64), array)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not valid JSON"),
        ([], "must be a JSON object"),
        ({}, "either 'inputs' (by name) or 'instances' (rows)"),
        ({"inputs": [[1, 2]], "instances": [[1, 2]]}, "either 'inputs' (by name) or 'instances' (rows)"),
        ({"instances": [[1, 2]], "signature_name": 1}, "'signature_name' must be a string"),
        ({"instances": [[1, 2]], "signature_name": "nosuch"}, "no signature 'nosuch'"),
        ({"instances": {"x": [1, 2]}}, "must be a list of rows"),
        ({"instances": []}, "shape [0]"),
        ({"instances": [{"x": [1, 2]}, [1, 2]]}, "instances[1] must be an object"),
        ({"instances": [{"z": [1, 2]}]}, "instances[0] must be an object"),
        ({"instances": [[1, "2"]]}, "holds a string"),
        ({"instances": [[1, 2], [3]]}, "ragged"),
        ({"inputs": {"z": [[1, 2]]}}, "no input 'z'"),
    ],
)
def test_a_wrong_predict_is_rejected(body: Any, says: str) -> None:
    status, document = post(engine(), SAVED, body)
    assert (status, list(document)) == (400, ["error"])
    assert says in document["error"]


def test_a_model_that_is_not_loaded_is_unavailable() -> None:
    for verb, body in (("predict", {"inputs": [1]}), ("classify", {"examples": [{}]}), ("regress", {"examples": [{}]})):
        status, document = post(engine(), f"/v1/models/broken:{verb}", body)
        assert (status, "its artifact is cut off" in document["error"]) == (503, True)


def write_rows(*outputs: Tensor, instances: int = 2) -> bytes:
    return tfs_predict.write_response(InferResponse("m", "1", outputs), instances, LIMITS)


@pytest.mark.parametrize("rows", [0, 1, 3, 10])
def test_as_many_predictions_as_instances(rows: int) -> None:
    """Outputs of fixed size, or without a row for empty results: a client would assign rows to the wrong instances."""
    output = Tensor("y", "INT8", (rows,), bytes(rows))
    for outputs in ([output], [output, output._replace(name="z")]):
        with pytest.raises(InvalidRequest, match=f"output 'y' has {rows} rows for 2 instances.*send 'inputs'"):
            write_rows(*outputs)
    assert json.loads(write_rows(output, instances=1)) == {"predictions": [0] * rows}


def test_the_instances_that_are_counted_are_those_of_the_body() -> None:
    fake = engine(lambda request: [Tensor("y", "FP32", (1, 2), bytes(8))])
    for instances in ([[1, 2], [3, 4]], [{"x": [1, 2]}, {"x": [3, 4]}]):
        status, document = post(fake, SAVED, {"instances": instances})
        assert (status, "1 rows for 2 instances" in document["error"]) == (400, True)
    assert post(fake, SAVED, {"inputs": [[1, 2], [3, 4]]}) == (200, {"outputs": [[0.0, 0.0]]})


def test_rows_of_another_dimension_are_no_instances() -> None:
    """With and without batching, which may be switched off while the model is served."""
    for rows in (0, 8):
        (status, *_) = models()
        other = dataclasses.replace(status, batch_dim=1, max_batch_size=rows)
        code, document = post(FakeEngine([other], compute), "/v1/models/saved:predict", {"instances": [[1, 2]]})
        assert (code, "are not its first dimension; use 'inputs'" in document["error"]) == (400, True)


def test_rows_need_outputs_that_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    two, three = Tensor("a", "INT8", (2,), b"\0\0"), Tensor("b", "INT8", (3,), b"\0\0\0")
    with pytest.raises(InvalidRequest, match="output 'b' has 3 rows, and 'a' has 2; send 'inputs'"):
        write_rows(two, three)
    with pytest.raises(InvalidRequest, match="output 's' has no rows; send 'inputs'"):
        write_rows(Tensor("s", "INT8", (), b"\0"))
    monkeypatch.setattr(tfs_predict, "MAX_OBJECTS", 3)
    with pytest.raises(TooLarge, match="2 rows of 2 outputs, over the limit of 3 values"):
        write_rows(two, two._replace(name="b"))
    assert write_rows(two) == b'{"predictions":[0,0]}'
    empty = Tensor("e", "FP32", (2, 0), b"")
    monkeypatch.setattr(tfs_predict, "MAX_OBJECTS", limits.MAX_OBJECTS)
    assert write_rows(two, empty) == b'{"predictions":[{"a":0,"e":[]},{"a":0,"e":[]}]}'


def sent_examples(fake: FakeEngine) -> list[tf.Example]:
    (tensor,) = fake.requests[-1].inputs
    return [tf.Example.FromString(raw) for raw in unpack_bytes(tensor.data, tensor.shape[0])]


def features(example: tf.Example) -> dict[str, tuple[str | None, list[Any]]]:
    kinds = {name: feature.WhichOneof("kind") for name, feature in example.features.feature.items()}
    return {
        name: (kind, list(getattr(example.features.feature[name], kind).value) if kind else [])
        for name, kind in kinds.items()
    }


def test_the_types_of_values_determine_the_features() -> None:
    fake = engine()
    body = {
        "signature_name": "regress",
        "context": {"common": "c"},
        "examples": [
            {"float": 1.5, "floats": [1, 2.5], "int": -3, "ints": [1, True], "flag": False},
            {"text": "zwölf", "raw": b64(b"\xff"), "both": ["a", b64(b"\0")], "empty": []},
        ],
    }
    status, document = post(fake, "/v1/models/saved:regress", body)
    first, second = sent_examples(fake)
    assert features(first) == {
        "common": ("bytes_list", [b"c"]),
        "float": ("float_list", [1.5]),
        "floats": ("float_list", [1.0, 2.5]),
        "int": ("int64_list", [-3]),
        "ints": ("int64_list", [1, 1]),
        "flag": ("int64_list", [0]),
    }
    assert features(second) == {
        "common": ("bytes_list", [b"c"]),
        "text": ("bytes_list", ["zwölf".encode()]),
        "raw": ("bytes_list", [b"\xff"]),
        "both": ("bytes_list", [b"a", b"\0"]),
        "empty": (None, []),
    }
    (tensor,) = fake.requests[-1].inputs
    sizes = [len(raw) for raw in unpack_bytes(tensor.data, 2)]
    assert (status, document) == (200, {"results": [float(size) for size in sizes]})


def test_not_a_number_is_a_float() -> None:
    fake = engine()
    post(fake, "/v1/models/saved:regress", b'{"signature_name": "regress", "examples": [{"x": [NaN, Infinity]}]}')
    ((kind, values),) = features(sent_examples(fake)[0]).values()
    assert kind == "float_list"
    np.testing.assert_array_equal(values, [np.nan, np.inf])


@pytest.mark.parametrize(
    ("signature", "pairs"),
    [
        ("classify", lambda size: [["cat", size], ["dog", -size]]),
        ("scores", lambda size: [["", size], ["", -size]]),
        ("classes", lambda size: [["cat", 0.0], ["dog", 0.0]]),
    ],
)
def test_classify_answers_labels_with_scores(signature: str, pairs: Any) -> None:
    body = {"signature_name": signature, "examples": [{}, {"x": 1.0}]}
    size = float(len(tf.Example(features={"feature": {"x": {"float_list": {"value": [1.0]}}}}).SerializeToString()))
    status, document = post(engine(), "/v1/models/saved:classify", body)
    assert (status, document) == (200, {"results": [pairs(0.0), pairs(size)]})


def test_labels_of_the_repository_name_scores_without_classes() -> None:
    _, document = post(engine(), "/v1/models/labelled:classify", {"examples": [{}]})
    assert document == {"results": [[["cat", 0.0], ["", 0.0]]]}


@pytest.mark.parametrize(
    ("verb", "signature", "says"),
    [
        ("classify", "", "'serving_default' of model 'saved' does not accept serialized tf.Example"),
        ("regress", "direct", "'direct' of model 'saved' does not accept serialized tf.Example"),
        ("classify", "regress", "'regress' of model 'saved' lacks an output 'classes' (BYTES) or 'scores'"),
        ("regress", "classify", "'classify' of model 'saved' lacks an output 'outputs' (floating point)"),
        ("regress", "strings", "lacks an output 'outputs'"),
        ("classify", "odd", "output 'scores' is FP32 [1], but must be [1, classes]"),
        ("regress", "nosuch", "no signature 'nosuch'"),
    ],
)
def test_a_signature_that_does_not_suit_is_rejected(verb: str, signature: str, says: str) -> None:
    status, document = post(engine(), f"/v1/models/saved:{verb}", {"signature_name": signature, "examples": [{}]})
    assert status == 400
    assert says in document["error"]


def test_an_answer_of_another_shape_is_rejected() -> None:
    status, document = post(engine(), "/v1/models/saved:regress", {"signature_name": "odd", "examples": [{}, {}]})
    assert (status, "output 'outputs' is FP32 [1, 2], but must be [2]" in document["error"]) == (400, True)


@pytest.mark.parametrize(
    ("body", "says", "status"),
    [
        ([], "must be a JSON object", 400),
        ({}, "'examples' must be a list of objects", 400),
        ({"examples": []}, "there are no examples", 400),
        ({"examples": {"x": 1}}, "'examples' must be a list of objects", 400),
        ({"examples": [{}, 1]}, "examples[1] must be an object", 400),
        ({"examples": [{}], "context": 1}, "'context' must be an object", 400),
        (
            {"examples": [{"x": 1}], "context": {"x": 1}},
            "examples[0] has the feature 'x', which is also in the context",
            400,
        ),
        ({"examples": [{"x": None}]}, "feature 'x' must be a number", 400),
        ({"examples": [{"x": [[1]]}]}, "feature 'x' must be a number", 400),
        ({"examples": [{"x": [1, "a"]}]}, "feature 'x' must be a number", 400),
        ({"examples": [{"x": {"b65": ""}}]}, "feature 'x' holds an object that is not", 400),
        ({"examples": [{"x": {"b64": "?"}}]}, "feature 'x' holds an object that is not", 400),
        ({"examples": [{"x": 1 << 63}]}, "feature 'x' holds an integer that does not fit", 400),
        ({"examples": [{"x": 1e39}]}, "feature 'x' holds a number too large", 400),
        ({"examples": [{}] * 100, "context": {"x": "x" * 1000}}, "over the limit of 65536", 413),
    ],
)
def test_wrong_examples_are_rejected(body: Any, says: str, status: int) -> None:
    if isinstance(body, dict):
        body = {"signature_name": "regress", **body}
    found, document = post(engine(), "/v1/models/saved:regress", body)
    assert found == status
    assert says in document["error"]


def test_examples_are_limited_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfs_examples, "MAX_OBJECTS", 2)
    for examples, says in ([{}] * 3, "3 examples, over the limit of 2"), ([{"a": 1, "b": 1, "c": 1}], "3 features"):
        body = {"signature_name": "regress", "examples": examples}
        status, document = post(engine(), "/v1/models/saved:regress", body)
        assert (status, says in document["error"]) == (413, True)


def test_a_float_of_32_bits_holds_all_that_is_let_through() -> None:
    largest = float(np.finfo(np.float32).max)
    fake = engine()
    body = {
        "signature_name": "regress",
        "examples": [{"x": [largest, -largest, tfs_examples._FLOAT32_OVERFLOW * 0.999999]}],
    }
    assert post(fake, "/v1/models/saved:regress", body)[0] == 200
    ((_, values),) = features(sent_examples(fake)[0]).values()
    assert np.isfinite(values).all()


def test_many_examples_are_read_in_a_thread() -> None:
    classify, predict = match(b"/v1/models/saved:classify"), match(SAVED.encode())
    assert classify is not None
    assert predict is not None
    assert [classify.dialect.is_slow(Headers(), bytes(size)) for size in (10, 1 << 20)] == [False, True]
    assert not predict.dialect.is_slow(Headers(), bytes(1 << 17))
    assert classify.dialect.limit(Headers(), LIMITS)[0] == LIMITS.json_bytes


def test_over_http(serving: Serving) -> None:
    reply = serving.http.post("/v1/models/doubler:predict", json={"instances": [[1, 2, 3]]})
    assert (reply.status_code, reply.json()) == (200, {"predictions": [[1.0, 2.0, 3.0]]})
    reply = serving.http.post("/v1/models/doubler:classify", json={"examples": [{}] * 5000})
    assert (reply.status_code, list(reply.json())) == (400, ["error"])
    assert serving.http.get("/v1/models/doubler:predict").status_code == 405
    assert serving.http.get("/v1/models/nosuch").status_code == 404


@pytest.mark.parametrize("path", ["doubler", "doubler/versions/1", "doubler/labels/stable"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_verbs_are_not_found(serving: Serving, method: str, path: str) -> None:
    reply = serving.http.request(method, f"/v1/models/{path}:explain")
    assert (reply.status_code, list(reply.json())) == (404, ["error"])
    if method == "POST":
        assert "there is no ':explain'" in reply.json()["error"]


def test_status_over_http(serving: Serving) -> None:
    ok = {"error_code": "OK", "error_message": ""}
    status = {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": ok}]}
    status |= {"name": "doubler", "ready": True}  # KServe v1's
    for path in ("/v1/models/doubler", "/v1/models/doubler/versions/1"):
        assert serving.http.get(path).json() == status
    (broken,) = serving.http.get("/v1/models/broken").json()["model_version_status"]
    assert broken == {
        "version": "2",
        "state": "END",
        "status": {"error_code": "UNAVAILABLE", "error_message": "its artifact is cut off"},
    }
    for path in ("/v1/models/doubler/labels/1", "/v1/models/doubler/versions/x", "/v1/models/doubler/versions/7"):
        assert serving.http.get(path).status_code == 404


def test_metadata_over_http(serving: Serving) -> None:
    metadata = serving.http.get("/v1/models/doubler/metadata").json()
    assert metadata["model_spec"] == {"name": "doubler", "signature_name": "", "version": "1"}
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert signatures.keys() == {"default", "serving_default"}
    shape = {"dim": [{"size": "-1", "name": ""}, {"size": "3", "name": ""}], "unknown_rank": False}
    assert signatures["serving_default"] == {
        "inputs": {"x": {"name": "x", "dtype": "DT_FLOAT", "tensor_shape": shape}},
        "outputs": {"y": {"name": "y", "dtype": "DT_FLOAT", "tensor_shape": shape}},
        "method_name": "tensorflow/serving/predict",
    }
    assert serving.http.get("/v1/models/broken/versions/2/metadata").status_code == 503
    assert serving.http.get("/v1/models/doubler/labels/x/metadata").status_code == 404
