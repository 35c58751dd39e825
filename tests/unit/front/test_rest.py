"""REST: valid requests in each dialect, and errors of the engine."""

import io
import json
from typing import Any

import numpy as np
import pytest

from gateway.errors import Internal, Overloaded, Unavailable
from tests.support.bad_inputs import Subject, good_call
from tests.support.front_server import LIMITS, Serving
from tests.support.v2_calls import Call, Value, as_binary, as_json

GOOD = good_call(Subject())


def test_v2_echoes_id_and_names_the_version(serving: Serving) -> None:
    call = Call("doubler", GOOD.inputs, version="1", id="seven", outputs=("y",))
    assert serving.http.post(call.path, content=as_json(call)).json() == {
        "model_name": "doubler",
        "model_version": "1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [1.0, 1.0, 1.0]}],
        "id": "seven",
    }


def test_v2_parameters_reach_the_engine(serving: Serving) -> None:
    parameters = {"priority": 3, "timeout": 60_000_000, "signature": "default", "custom": "ignored"}
    call = Call("doubler", GOOD.inputs, parameters=parameters)
    assert serving.http.post(call.path, content=as_json(call)).status_code == 200
    (request,) = serving.engine.requests
    assert (request.priority, request.signature) == (3, "default")
    assert request.deadline is not None


def test_v2_accepts_nested_data(serving: Serving) -> None:
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [[1, 2, 3], [4, 5, 6]]}]}
    reply = serving.http.post("/v2/models/doubler/infer", json=body).json()
    assert reply["outputs"][0]["data"] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_v2_mixes_json_and_binary_each_way(serving: Serving) -> None:
    document = {
        "inputs": [
            {"name": "a", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}},
            {"name": "b", "datatype": "INT32", "shape": [1, 1], "data": [7]},
        ],
        "outputs": [{"name": "b_out", "parameters": {"binary_data": True}}, {"name": "a_out"}],
    }
    text = json.dumps(document).encode()
    reply = serving.http.post(
        "/v2/models/two/infer",
        content=text + np.array([1.5, 2.5], np.float32).tobytes(),
        headers={"Inference-Header-Content-Length": str(len(text))},
    )
    length = int(reply.headers["Inference-Header-Content-Length"])
    outputs = {output["name"]: output for output in json.loads(reply.content[:length])["outputs"]}
    assert outputs["a_out"]["data"] == [1.5, 2.5]
    assert np.frombuffer(reply.content[length:], np.int32).tolist() == [7]


def test_v2_can_have_all_outputs_binary_but_one(serving: Serving) -> None:
    call = Call("two", (Value("a", "FP32", (1, 2), [1, 2]), Value("b", "INT32", (1, 1), [7])))
    document = json.loads(as_json(call))
    document["parameters"] = {"binary_data_output": True}
    document["outputs"] = [{"name": "a_out"}, {"name": "b_out", "parameters": {"binary_data": False}}]
    reply = serving.http.post(call.path, json=document)
    outputs = json.loads(reply.content[: int(reply.headers["Inference-Header-Content-Length"])])["outputs"]
    assert [("data" in output) for output in outputs] == [False, True]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict/doubler", {"inputs": {"x": [[1, 2, 3]]}}),
        ("/predict/doubler", {"inputs": [[1, 2, 3]]}),
        ("/predict/doubler/versions/1", {"inputs": [[1, 2, 3]], "outputs": ["y"], "signature": "default"}),
        ("/predict/doubler", {"instances": [[1, 2, 3]]}),
        ("/predict/doubler", {"instances": [{"x": [1, 2, 3]}], "parameters": {"timeout": 60_000_000}}),
        ("/predict", {"model": "doubler", "inputs": [[1, 2, 3]]}),
        ("/predict", {"model": "doubler", "version": 1, "inputs": [[1, 2, 3]]}),
    ],
)
def test_predict_accepts_each_form(serving: Serving, path: str, body: dict[str, Any]) -> None:
    for headers in ({}, {"Content-Type": "application/x-www-form-urlencoded"}):
        reply = serving.http.post(path, content=json.dumps(body), headers=headers)
        assert reply.json() == {"model": "doubler", "version": "1", "outputs": {"y": [[1.0, 2.0, 3.0]]}}


def test_predict_makes_columns_of_rows(serving: Serving) -> None:
    rows = [{"a": [1, 2], "b": [3]}, {"a": [4, 5], "b": [6]}]
    reply = serving.http.post("/predict/two", json={"instances": rows}).json()
    assert reply["outputs"] == {"a_out": [[1.0, 2.0], [4.0, 5.0]], "b_out": [[3], [6]]}


@pytest.mark.parametrize(("body", "says"), [({"inputs": [[1, 2]]}, "2 inputs"), ({"instances": [[1, 2]]}, "2 inputs")])
def test_predict_requires_names_of_several_inputs(serving: Serving, body: Any, says: str) -> None:
    reply = serving.http.post("/predict/two", json=body)
    assert reply.status_code == 400
    assert says in reply.json()["error"]


def test_predict_prefers_the_learned_datatype(serving: Serving) -> None:
    serving.http.post("/predict/untyped", json={"inputs": [[1, 2]]})
    serving.http.post("/predict/taught", json={"inputs": [[1, 2]]})
    serving.http.post("/predict/taught", json={"inputs": [["a", "b"]]})
    assert [request.inputs[0].datatype for request in serving.engine.requests] == ["INT64", "FP64", "BYTES"]


def test_predict_answers_in_the_accepted_format(serving: Serving) -> None:
    body = {"inputs": {"a": [[1, 2]], "b": [[3]]}}
    reply = serving.http.post("/predict/two", json=body, headers={"Accept": "application/x-npz"})
    with np.load(io.BytesIO(reply.content)) as archive:
        assert archive["a_out"].tolist() == [[1.0, 2.0]]
        assert archive["b_out"].dtype == np.int32
    reply = serving.http.post("/predict/two", json=body, headers={"Accept": "application/x-npy"})
    assert (reply.status_code, reply.json()["error"][:25]) == (400, "the answer has 2 outputs;")
    assert len(serving.engine.requests) == 1, "the model ran for an answer that could not be written"
    body["outputs"] = ["b_out"]
    reply = serving.http.post("/predict/two", json=body, headers={"Accept": "application/x-npy"})
    assert np.load(io.BytesIO(reply.content)).tolist() == [[3]]


def test_a_model_that_is_not_loaded_is_unavailable(serving: Serving) -> None:
    for path, body in (("/predict/broken", {"inputs": [[1]]}), ("/v2/models/broken/infer", {"inputs": []})):
        reply = serving.http.post(path, json=body)
        assert (reply.status_code, "its artifact is cut off" in reply.json()["error"]) == (503, True)


def test_too_many_requests_have_a_retry_after(serving: Serving) -> None:
    serving.engine.failure = Overloaded("too many requests wait; try again")
    reply = serving.http.post(GOOD.path, content=as_json(GOOD))
    assert (reply.status_code, reply.headers["Retry-After"]) == (429, "1")
    assert reply.json() == {"error": "too many requests wait; try again"}


@pytest.mark.parametrize("path", [GOOD.path, "/predict/doubler"])
def test_an_unexpected_error_is_logged_but_not_sent(
    serving: Serving, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    serving.engine.failure = RuntimeError("/secret/path is broken")
    body = as_json(GOOD) if path == GOOD.path else b'{"inputs": [[1, 2, 3]]}'
    reply = serving.http.post(path, content=body)
    assert (reply.status_code, reply.json()) == (500, {"error": "internal error"})
    assert "/secret/path is broken" in caplog.text
    serving.engine.failure = None
    assert serving.http.post(path, content=body).status_code == 200


@pytest.mark.parametrize(
    ("failure", "status"), [(Internal("it broke"), 500), (Unavailable("later"), 503), (MemoryError(), 507)]
)
def test_errors_of_the_engine_keep_their_status(serving: Serving, failure: Exception, status: int) -> None:
    serving.engine.failure = failure
    assert serving.http.post(GOOD.path, content=as_json(GOOD)).status_code == status


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
@pytest.mark.parametrize("path", [GOOD.path, "/predict", "/predict/doubler", "/predict/doubler/versions/1"])
def test_hot_paths_accept_post_only(serving: Serving, method: str, path: str) -> None:
    reply = serving.http.request(method, path)
    assert (reply.status_code, reply.headers["Allow"]) == (405, "POST")


def test_an_answer_over_the_limit_is_rejected(serving: Serving) -> None:
    for size, status in ((LIMITS.response_bytes, 200), (LIMITS.response_bytes + 1, 413)):
        call = Call("echo_INT8", (Value("x", "INT8", (size,), [0] * size),))
        body, headers = as_binary(call)
        reply = serving.http.post(call.path, content=body, headers=headers)
        assert reply.status_code == status
    assert "the answer has" in reply.json()["error"]


_X = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}
_NULLS: list[tuple[str, dict[str, Any]]] = [
    ("/v2/models/doubler/infer", {"id": None, "parameters": None, "inputs": [_X], "outputs": None}),
    (
        "/v2/models/doubler/infer",
        {"inputs": [{**_X, "parameters": None}], "outputs": [{"name": "y", "parameters": None}]},
    ),
    (
        "/v2/models/doubler/infer",
        {
            "inputs": [{**_X, "parameters": {"binary_data_size": None, "shared_memory_region": None}}],
            "parameters": {"priority": None, "timeout": None, "signature": None, "binary_data_output": None},
            "outputs": [{"name": "y", "parameters": {"binary_data": None, "classification": None}}],
        },
    ),
    ("/v1/models/doubler:predict", {"instances": [[1, 2, 3]], "inputs": None, "signature_name": None}),
    (
        "/predict/doubler",
        {"inputs": [[1, 2, 3]], "instances": None, "outputs": None, "parameters": None, "model": None},
    ),
    ("/predictions/doubler", {"data": [[1, 2, 3]], "inputs": None, "outputs": None}),
    ("/v2/repository/index", {"ready": None}),
    ("/v2/repository/models/doubler/load", {"parameters": None}),
]


@pytest.mark.parametrize(("path", "body"), _NULLS)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
def test_optional_fields_that_are_null_are_absent(
    serving: Serving, path: str, body: dict[str, Any], mark: bytes
) -> None:
    reply = serving.http.post(path, content=mark + json.dumps(body).encode())
    assert reply.status_code == 200, reply.text


def test_null_instead_of_a_number_is_rejected(serving: Serving) -> None:
    for path, body in (
        ("/v2/models/doubler/infer", {"inputs": [{**_X, "data": [1, None, 3]}]}),
        ("/v2/models/doubler/infer", {"inputs": [{**_X, "data": None}]}),
        ("/v1/models/doubler:predict", {"instances": [[1, None, 3]]}),
        ("/predict/doubler", {"inputs": [[1, None, 3]]}),
        ("/predictions/doubler", [[1, None, 3]]),
    ):
        assert serving.http.post(path, json=body).status_code == 400, path
