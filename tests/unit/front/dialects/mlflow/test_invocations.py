"""MLflow's dialect: tables, values and params in all forms, the answers to them, and what is wrong with requests."""

import json
import math
from typing import Any

import numpy as np
import pytest

from gateway.domain.deployment import Deployment
from gateway.domain.table_schema import TableSchema
from gateway.domain.types import InferResponse, ModelStatus
from gateway.engine.fake import FakeEngine
from gateway.errors import InvalidRequest, NotFound, TooLarge
from gateway.front.base.body import Headers, read_headers
from gateway.front.base.dialect import Route
from gateway.front.base.limits import Limits
from gateway.front.dialects.mlflow.rest import MLFLOW
from runtimes.contract import Signature, TensorSpec
from runtimes.tensors import Tensor, from_array, to_array
from tests.support.front_server import Serving

PATH = "/invocations"
PREDICT = "/v1/endpoints/7:predict"
COLUMNS = {
    "age": "long",
    "height": "double",
    "city": "string",
    "born": "datetime",
    "photo": "binary",
    "member": "boolean",
}
INPUTS = tuple(
    TensorSpec(name, datatype, (-1,))
    for name, datatype in zip(COLUMNS, ("INT64", "FP64", "BYTES", "BYTES", "BYTES", "BOOL"), strict=True)
)
ONE = (TensorSpec("y", "FP32", (-1,)),)


def status(
    name: str, inputs: tuple[TensorSpec, ...], table: TableSchema | None = None, optional: tuple[str, ...] = ()
) -> ModelStatus:
    return ModelStatus(name, "1", "READY", signatures={"default": Signature(inputs, ONE, {}, optional)}, table=table)


MODELS = [
    status(
        "people",
        (*INPUTS, TensorSpec("limit", "FP64", ())),
        TableSchema(COLUMNS, ("limit",), unnamed=True),
        ("born", "photo", "member", "limit"),
    ),
    status(
        "abc", (TensorSpec("x", "FP32", (-1, 3)),), TableSchema({"a": "double", "b": "double", "c": "double"}, (), True)
    ),
    status("blob", (TensorSpec("photo", "BYTES", (-1,)),), TableSchema({"photo": "binary"})),
    status(
        "sparse",
        (TensorSpec("a", "FP64", (-1,)), TensorSpec("b", "FP64", (-1,))),
        TableSchema({"a": "double"}),
        ("a", "b"),
    ),
    status("plain", (TensorSpec("x", "FP32", (-1, 3)),)),
    status("vector", (TensorSpec("x", "FP32", (-1,)),)),
    status("two", (TensorSpec("p", "FP32", (-1, 1)), TensorSpec("q", "INT32", (-1, 2)))),
    status("text", (TensorSpec("s", "BYTES", (-1,)),)),
    status("free", (TensorSpec("x"),)),
]


def engine(*models: ModelStatus, **deployment: str) -> FakeEngine:
    made = FakeEngine(models or MODELS, lambda request: [])
    made.deployment = Deployment(predict_route=PREDICT, **deployment)
    return made


def read(model: str, body: Any, kind: str = "application/json", path: str = PATH, **of_engine: str) -> tuple[dict, Any]:
    """Return the inputs by name, as arrays, and the function that writes the answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = Headers(content_type=kind, target_model=model)
    request, write = MLFLOW.read(engine(**of_engine), Limits(), Route(MLFLOW, path=path), headers, content)
    assert request.model == model
    return {each.name: to_array(each) for each in request.inputs}, write


def written(model: str, body: Any, *outputs: Tensor, path: str = PATH) -> Any:
    _, write = read(model, body, path=path)
    reply = write(InferResponse(model, "1", outputs))
    return json.loads(b"".join(reply.body))["predictions"]


def output(name: str, values: Any, dtype: str = "f4") -> Tensor:
    return from_array(name, np.array(values, dtype))


SPLIT = {"columns": ["height", "city", "age", "id"], "data": [[1.5, "a", 20, 7], [None, "b", 50, 8]]}


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": SPLIT},
        {"dataframe_split": {**SPLIT, "index": [0, 1]}, "params": None},
        {"dataframe_records": [{"age": 20, "city": "a", "height": 1.5}, {"age": 50, "city": "b"}]},
        {"inputs": [{"age": 20, "city": "a", "height": 1.5}, {"age": 50, "city": "b", "height": None}]},
        {"inputs": {"age": [20, 50], "city": ["a", "b"], "height": [1.5, None]}},
        {"instances": [{"age": 20, "city": "a", "height": 1.5}, {"age": 50, "city": "b", "height": None}]},
    ],
)
def test_a_table_is_read_by_the_names_of_its_columns(body: Any) -> None:
    inputs, _ = read("people", body)
    assert list(inputs) == ["age", "height", "city"]
    assert inputs["age"].dtype == np.int64
    assert inputs["age"].tolist() == [20, 50]
    assert inputs["height"].tolist()[0] == 1.5
    assert math.isnan(inputs["height"][1])
    assert inputs["city"].tolist() == [b"a", b"b"]


def test_csv() -> None:
    inputs, _ = read(
        "people", '\ufeffcity,height,age,member\r\n"a, ""b""",1.5,20,True\r\nb,,50,false\r\n'.encode(), "text/csv"
    )
    assert inputs["age"].tolist() == [20, 50]
    assert inputs["member"].tolist() == [True, False]
    assert inputs["city"].tolist() == [b'a, "b"', b"b"]
    assert math.isnan(inputs["height"][1])
    inputs, _ = read("abc", b"1,2,3\n4,5,6\n", "text/csv; header=absent")
    assert inputs["x"].tolist() == [[1, 2, 3], [4, 5, 6]]
    inputs, _ = read("free", b"a,b\n1,2\n3,4\n", "text/csv")
    assert inputs["x"].tolist() == [[1, 2], [3, 4]]


def test_columns_that_tensors_do_not_have() -> None:
    row = {"age": 1, "height": 1, "city": "c"}
    inputs, _ = read(
        "people", {"dataframe_records": [{**row, "photo": "AP8=\n", "born": "2024-05-31"}, {**row, "photo": "AA=="}]}
    )
    assert inputs["photo"].tolist() == [b"\x00\xff", b"\x00"]
    assert inputs["born"].tolist() == [b"2024-05-31", b"NaT"]


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": ["AP8=", "AA=="]},
        {"inputs": {"photo": ["AP8=", "AA=="]}},
        {"inputs": [["AP8="], ["AA=="]]},
        {"instances": ["AP8=", "AA=="]},
        {"instances": [{"photo": "AP8="}, {"photo": "AA=="}]},
    ],
)
def test_bytes_are_decoded_in_every_form(body: Any) -> None:
    inputs, _ = read("blob", body)
    assert inputs["photo"].tolist() == [b"\x00\xff", b"\x00"]


def test_params_are_inputs_without_rows() -> None:
    inputs, _ = read("people", {"dataframe_split": SPLIT, "params": {"limit": 0.25}})
    assert inputs["limit"].shape == ()
    assert inputs["limit"] == 0.25


def test_columns_of_a_model_with_one_input_are_put_in_the_order_of_the_model() -> None:
    """Otherwise a client that sends them in another order would get a wrong answer."""
    inputs, _ = read("abc", {"dataframe_split": {"columns": ["c", "a", "b"], "data": [[3, 1, 2]]}})
    assert inputs["x"].tolist() == [[1, 2, 3]]
    inputs, _ = read("abc", {"inputs": {"c": [3], "a": [1], "b": [2]}})
    assert inputs["x"].tolist() == [[1, 2, 3]]
    inputs, _ = read("plain", {"dataframe_split": {"columns": ["r", "g", "b"], "data": [[1, 2, None]]}})
    assert str(inputs["x"].tolist()) == "[[1.0, 2.0, nan]]"
    inputs, _ = read("vector", {"dataframe_split": {"columns": ["any"], "data": [[1], [2]]}})
    assert inputs["x"].tolist() == [1, 2]


def test_tensors() -> None:
    for body in (
        {"inputs": [[1, 2, 3]]},
        {"inputs": {"x": [[1, 2, 3]]}},
        {"instances": [[1, 2, 3]]},
        {"instances": [{"x": [1, 2, 3]}]},
    ):
        inputs, _ = read("plain", body)
        assert inputs["x"].dtype == np.float32
        assert inputs["x"].tolist() == [[1, 2, 3]]
    inputs, _ = read("two", {"dataframe_records": [{"p": 1, "q": [1, 2]}, {"p": 2, "q": [3, 4]}]})
    assert inputs["p"].tolist() == [[1], [2]]
    assert inputs["q"].tolist() == [[1, 2], [3, 4]]
    inputs, _ = read("text", {"instances": [{"b64": "/w=="}, "a"]})
    assert inputs["s"].tolist() == [b"\xff", b"a"]


def test_answers() -> None:
    table, rows = {"dataframe_split": SPLIT}, {"inputs": [[1, 2, 3]]}
    assert written("people", table, output("y", [1, 2])) == [1, 2]
    assert written("plain", rows, output("y", [[1, 2]])) == {"y": [[1, 2]]}
    assert written("plain", rows, output("OUTPUT__0", [[1, 2]])) == [[1, 2]]
    assert written("plain", rows, output("y", [1]), output("z", [2], "i4")) == {"y": [1], "z": [2]}
    columns = {"dataframe_records": [{"a": 1, "b": 2, "c": 3}] * 2}
    found = written("abc", columns, output("y", [[1], [math.nan]]), output("z", [3, 4], "i8"))
    assert str(found) == "[{'y': 1.0, 'z': 3}, {'y': nan, 'z': 4}]"
    assert written("abc", columns, output("y", [[1, 2], [3, 4]])) == {"y": [[1, 2], [3, 4]]}


def test_vertex_ai_gets_a_prediction_for_each_instance() -> None:
    body = {"instances": [[1, 2, 3], [4, 5, 6]], "parameters": {}}
    assert written("plain", body, output("y", [[1], [2]]), path=PREDICT) == [[1], [2]]
    several = written("plain", body, output("y", [1, 2]), output("z", [[3], [4]]), path=PREDICT)
    assert several == [{"y": 1, "z": [3]}, {"y": 2, "z": [4]}]
    with pytest.raises(InvalidRequest, match=r"shape \[1\] for 2 instances"):
        written("plain", body, output("y", [1]), path=PREDICT)
    with pytest.raises(InvalidRequest, match="unknown key 'inputs'; send 'instances', and 'parameters'"):
        read("plain", {"inputs": [[1, 2, 3]]}, path=PREDICT)


DATAFRAME = '{"dataframe_split": {"columns": ["age"], "data": [[1]]}}'


@pytest.mark.parametrize(
    ("model", "body", "kind", "says"),
    [
        ("people", b"{", "", "not valid JSON"),
        ("people", [1], "", "must be a JSON object with"),
        ("people", {}, "", "exactly one of"),
        ("people", {"inputs": [], "instances": []}, "", "exactly one of"),
        ("people", {"inputs": None}, "", "exactly one of"),
        ("people", {"data": []}, "", "unknown key 'data'"),
        ("people", {"dataframe_split": []}, "", "'columns' and 'data'"),
        ("people", {"dataframe_split": {"columns": ["age"]}}, "", "'columns' and 'data'"),
        ("people", {"dataframe_split": {"columns": ["age"], "data": [[1, 2]]}}, "", "row 0 of 'dataframe_split' has 2"),
        ("people", {"dataframe_split": {"columns": ["age"], "data": [1]}}, "", "no list of values"),
        ("people", {"dataframe_split": {"columns": ["age"], "data": []}}, "", "no rows"),
        ("people", {"dataframe_split": {"columns": ["age", "age"], "data": [[1, 2]]}}, "", "two columns 'age'"),
        ("people", {"dataframe_split": {"columns": [None], "data": [[1]]}}, "", "list of names"),
        ("sparse", {"inputs": [{"c": 1}]}, "", "none of the model's columns, which are a, b"),
        ("people", json.loads(DATAFRAME), "", "the column 'height' is missing; the model needs age, height, city"),
        ("people", {"dataframe_records": {"age": [1]}}, "", "a list of objects"),
        ("people", {"dataframe_records": []}, "", "no rows"),
        (
            "people",
            {"dataframe_records": [{"age": None, "height": 1, "city": "a"}]},
            "",
            "'age' has a missing value in row 0",
        ),
        ("people", {"dataframe_records": [{"age": 1, "height": 1, "city": None}]}, "", "BYTES has none"),
        ("people", {"dataframe_records": [{"age": 1.5, "height": 1, "city": "a"}]}, "", "send integers only"),
        ("people", {"dataframe_records": [{"age": 1, "height": "1", "city": "a"}]}, "", "send numbers only"),
        ("people", {"dataframe_records": [{"age": 1, "height": 1, "city": "a", "photo": "%"}]}, "", "send base64"),
        ("people", {"dataframe_records": [{"age": 1, "height": 1, "city": "a", "photo": None}]}, "", "send base64"),
        ("people", {"inputs": {"age": [1], "height": [1, 2], "city": ["a"]}}, "", "equally many values"),
        ("people", {"inputs": [[1, 2]]}, "", "each row must have 6 values"),
        ("people", {"inputs": [1]}, "", "send each by its name"),
        ("people", {"dataframe_split": SPLIT, "params": {"nothing": 1}}, "", "no param 'nothing'; it has limit"),
        ("people", {"dataframe_split": SPLIT, "params": [1]}, "", "'params' must be an object"),
        ("people", {"dataframe_split": SPLIT, "params": {"limit": "a"}}, "", "send numbers only"),
        ("plain", {"inputs": [[1, 2, 3]], "params": {"limit": 1}}, "", "no param 'limit'; it has none"),
        ("plain", {"inputs": [[1, 2], [3]]}, "", "ragged"),
        ("plain", {"inputs": {"z": [1]}}, "", "no input 'z'"),
        ("plain", {"instances": {"x": [1]}}, "", "'instances' must be a list"),
        ("plain", {"inputs": [[None, 2, 3]]}, "", "holds null"),
        (
            "abc",
            {"dataframe_split": {"columns": ["a", "b", "d"], "data": [[1, 2, 3]]}},
            "",
            "the column 'c' is missing",
        ),
        ("people", b"age\n\xff", "text/csv", "not UTF-8"),
        ("people", b'age\n"', "text/csv", "not CSV"),
        ("people", b"", "text/csv", "no rows"),
        ("people", b"age,height,city\n1_0,1,a\n", "text/csv", "'1_0' in row 0; send an integer"),
        ("people", b"age,height,city\n1,x,a\n", "text/csv", "'x' in row 0; send a number"),
        ("people", b"age,height,city\n,1,a\n", "text/csv", "missing value in row 0"),
        ("people", b"age,height,city\n1,1\n", "text/csv", "row 0 of the CSV has 2 values"),
        ("people", b"age,height,city,member\n1,1,a,yes\n", "text/csv", "send true or false"),
        ("abc", b"1,2,3\n4,5,6\n", "text/csv", "header=absent"),
        ("abc", b"1,2\n", "text/csv; header=absent", "each row must have 3 values"),
        ("plain", b"", "application/vnd.apache.parquet", "is not supported"),
        ("plain", b"\x93NUMPY", "application/x-npy", "npy"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(model: str, body: Any, kind: str, says: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        read(model, body, kind or "application/json")
    message = str(raised.value)
    assert says in message
    assert "\n" not in message
    assert len(message) < 500


def test_rows_that_each_have_another_name_are_refused_cheaply() -> None:
    records = [{f"n{number}": 1} for number in range(20_000)]
    with pytest.raises(InvalidRequest, match="same columns"):
        read("plain", {"dataframe_records": records})


def test_rows_that_lack_most_values_are_refused() -> None:
    """Otherwise a small body would become a large table of nothing."""
    row = {"age": 1, "height": 1, "city": "a"}
    with pytest.raises(InvalidRequest, match="most values of 'dataframe_records' are missing"):
        read("people", {"dataframe_records": [row, *[{}] * 100_000]})


def test_answers_in_rows_are_limited() -> None:
    _, write = read("abc", {"dataframe_records": [{"a": 1, "b": 2, "c": 3}]})
    outputs = [from_array(name, np.zeros(70_000, "f4")) for name in "yz"]
    with pytest.raises(TooLarge, match="in rows"):
        write(InferResponse("abc", "1", outputs))


def test_which_model() -> None:
    def model(made: FakeEngine, target: str = "") -> str:
        headers = read_headers([(b"x-amzn-sagemaker-target-model", target.encode())] if target else [])
        request, _ = MLFLOW.read(made, Limits(), Route(MLFLOW, path=PATH), headers, b'{"inputs": [[1, 2, 3]]}')
        return request.model

    assert model(engine(next(each for each in MODELS if each.name == "plain"))) == "plain"
    assert model(engine(model="abc")) == "abc"
    assert model(engine(model="abc"), "plain") == "plain"
    assert model(engine(), "plain.tar.gz") == "plain"
    with pytest.raises(InvalidRequest, match="--invocations-model"):
        model(engine())
    with pytest.raises(NotFound):
        model(engine(), "nosuch")


def test_over_http(serving: Serving) -> None:
    headers = {"X-Amzn-SageMaker-Target-Model": "doubler"}
    reply = serving.http.post("/invocations", json={"inputs": [[1, 2, 3]]}, headers=headers)
    assert (reply.status_code, reply.json()) == (200, {"predictions": {"y": [[1, 2, 3]]}})
    reply = serving.http.post("/invocations", json={"inputs": [[1, 2, "a"]]}, headers=headers)
    assert (reply.status_code, reply.json()["error_code"]) == (400, "BAD_REQUEST")
    reply = serving.http.post("/invocations", json={"inputs": [[1]]})
    assert reply.status_code == 400
    assert serving.http.get("/invocations").status_code == 405
    assert serving.http.post("/invocations/more").status_code in (404, 405)
    for path in ("/ping", "/health"):
        assert serving.http.get(path).json() == {"status": "Healthy"}
    assert serving.http.get("/version").text.count(".") == 2
