"""generate and generate_stream."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from gateway.domain.types import InferRequest
from gateway.errors import InvalidRequest
from runtimes.contract import TensorSpec
from runtimes.tensors import Tensor, from_array, to_array
from runtimes.wire import MAX_UNREAD_ANSWERS
from tests.support.front_server import WAIT_S, Serving, model

EVENTS = "text/event-stream; charset=utf-8"


@pytest.fixture(autouse=True)
def _models(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """many: decoupled, answers as `answer_with` says. text: strings. shaped, scalar: with fixed dimensions."""
    engine = serving.engine
    more = [
        model("many", TensorSpec("x", "FP32", (-1,)), decoupled=True),
        model("text", TensorSpec("text_input", "BYTES", (-1, 1)), TensorSpec("stream", "BOOL", (1,))),
        model("shaped", TensorSpec("x", "FP32", (-1, 2, -1))),
        model("scalar", TensorSpec("x", "INT64", ())),
    ]
    monkeypatch.setattr(engine, "_models", [*engine._models, *more])
    monkeypatch.setattr(engine, "stream", engine.stream)
    monkeypatch.setattr(engine, "unread", 0)


def answer_with(serving: Serving, *values: float | Exception, repeat: int = 1) -> None:
    def stream(request: InferRequest) -> Iterable[Sequence[Tensor]]:
        for value in values:
            if isinstance(value, Exception):
                raise value
            yield [from_array("y", np.full(repeat, value, np.float32))]

    serving.engine.stream = stream


def generate(serving: Serving, name: str, body: Any, action: str = "generate") -> Any:
    return serving.http.post(f"/v2/models/{name}/{action}", json=body)


def events(text: str) -> Iterator[Any]:
    *whole, rest = text.split("\n\n")
    assert rest == ""
    for each in whole:
        assert each.startswith("data: ")
        yield json.loads(each[6:])


def test_inputs_and_outputs_are_keys(serving: Serving) -> None:
    answer = generate(serving, "text", {"text_input": "hello", "stream": False, "id": "seven"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {
        "id": "seven",
        "model_name": "text",
        "model_version": "1",
        "text_input_out": "hello",
        "stream_out": False,
    }


def test_parameters_may_be_inputs_and_options(serving: Serving) -> None:
    body = {"text_input": ["a", "b"], "temperature": 0.5, "parameters": {"stream": True, "priority": 3}}
    answer = generate(serving, "text", body).json()
    assert (answer["text_input_out"], answer["stream_out"], "id" in answer) == (["a", "b"], True, False)
    (request,) = serving.engine.requests
    assert (request.priority, [tensor.shape for tensor in request.inputs]) == (3, [(1,), (2, 1)])


@pytest.mark.parametrize(
    ("name", "value", "shape"),
    [
        ("doubler", [1, 2, 3], (1, 3)),
        ("doubler", [1, 2, 3, 4, 5, 6], (2, 3)),
        ("doubler", [[1, 2, 3], [4, 5, 6]], (2, 3)),
        ("shaped", [1, 2, 3, 4], (1, 2, 2)),
        ("shaped", [[[1], [2]], [[3], [4]]], (2, 2, 1)),
        ("scalar", 7, ()),
        ("scalar", [7], ()),
        ("many", 7, (1,)),
    ],
)
def test_values_fill_the_shape_of_the_input(serving: Serving, name: str, value: Any, shape: tuple[int, ...]) -> None:
    answer_with(serving, 1.0)
    assert generate(serving, name, {"x": value}).status_code == 200
    (request,) = serving.engine.requests
    assert request.inputs[0].shape == shape
    assert np.array_equal(to_array(request.inputs[0]).ravel(), np.ravel(value))


@pytest.mark.parametrize("action", ["generate", "generate_stream"])
@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("doubler", {"x": [1, 2, 3, 4]}, "input 'x' has 4 values, which do not fill its shape [-1, 3]"),
        ("scalar", {"x": [1, 2]}, "input 'x' has 2 values, which do not fill its shape []"),
        ("doubler", {"x": [1, 2, "3"]}, "send numbers only"),
        ("doubler", {"x": [1, 2, 3], "y": [1]}, "'y' is not an input of model 'doubler', and parameters are"),
        ("doubler", {}, "'x'"),
        ("doubler", {"x": [1, 2, 3], "parameters": 3}, "'parameters' must be an object"),
        ("text", {"text_input": "a", "stream": True, "id": 3}, "'id' must be a string"),
        ("doubler", [1, 2, 3], "the body must be a JSON object"),
    ],
)
def test_wrong_requests_are_refused(serving: Serving, action: str, name: str, body: Any, message: str) -> None:
    answer = generate(serving, name, body, action)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
    assert message in answer.json()["error"]


def test_any_model_has_a_stream_of_one_event(serving: Serving) -> None:
    answer = generate(serving, "doubler", {"x": [1, 2, 3]}, "generate_stream")
    assert (answer.status_code, answer.headers["content-type"]) == (200, EVENTS)
    assert list(events(answer.text)) == [{"model_name": "doubler", "model_version": "1", "y": [1.0, 2.0, 3.0]}]


def test_each_answer_is_an_event(serving: Serving) -> None:
    for count in (3, 0, 1):  # on one connection
        answer_with(serving, *map(float, range(count)))
        answer = generate(serving, "many", {"x": 1}, "generate_stream")
        assert (answer.status_code, answer.headers["content-type"]) == (200, EVENTS)
        assert [each["y"] for each in events(answer.text)] == [float(value) for value in range(count)]
        assert serving.engine.unread == 0


def test_the_head_of_a_stream_has_the_id_of_its_request(serving: Serving) -> None:
    answer_with(serving, 1.0, 2.0)
    headers = {"X-Request-Id": "r-7", "Accept-Encoding": "gzip"}
    answer = serving.http.post("/v2/models/many/generate_stream", json={"x": 1}, headers=headers)
    assert answer.headers["x-request-id"] == "r-7"
    assert "content-encoding" not in answer.headers
    assert len(list(events(answer.text))) == 2


@pytest.mark.parametrize(("count", "status"), [(0, 400), (1, 200), (2, 400)])
def test_generate_gives_exactly_one_answer(serving: Serving, count: int, status: int) -> None:
    answer_with(serving, *map(float, range(count)))
    answer = generate(serving, "many", {"x": 1})
    assert answer.status_code == status
    if status == 200:
        assert answer.json() == {"model_name": "many", "model_version": "1", "y": 0.0}
    else:
        assert "generate expects the model to produce exactly 1 response" in answer.json()["error"]


def test_an_error_after_an_answer_is_an_event(serving: Serving) -> None:
    answer_with(serving, 1.0, InvalidRequest("no more"))
    answer = generate(serving, "many", {"x": 1}, "generate_stream")
    assert answer.status_code == 200
    first, last = events(answer.text)
    assert (first["y"], last) == (1.0, {"error": "no more"})
    answer_with(serving, InvalidRequest("nothing"))
    answer = generate(serving, "many", {"x": 1}, "generate_stream")
    assert (answer.status_code, answer.json()) == (400, {"error": "nothing"})


def test_an_answer_over_the_limit_ends_the_stream(serving: Serving) -> None:
    answer_with(serving, 1.0, 2.0, repeat=400_000)
    answer = generate(serving, "many", {"x": 1}, "generate_stream")
    assert answer.status_code == 413
    assert serving.engine.left.wait(WAIT_S)


def test_decoupled_models_are_refused_elsewhere(serving: Serving) -> None:
    inputs = [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]
    answer = serving.http.post("/v2/models/many/infer", json={"inputs": inputs})
    assert answer.status_code == 501
    assert "doesn't support models with decoupled transaction policy" in answer.json()["error"]


def raw_request(version: str) -> bytes:
    head = f"POST /v2/models/many/generate_stream HTTP/{version}\r\nHost: here\r\nContent-Length: 8\r\n\r\n"
    return head.encode() + b'{"x": 1}'


def test_a_client_of_http_1_0_gets_no_chunks(serving: Serving) -> None:
    answer_with(serving, 1.0, 2.0)
    with serving.connect() as connection:
        connection.sendall(raw_request("1.0"))
        head, _, body = b"".join(iter(lambda: connection.recv(1 << 16), b"")).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert [each["y"] for each in events(body.decode())] == [1.0, 2.0]


def test_pipelined_requests_follow_a_stream(serving: Serving) -> None:
    answer_with(serving, 1.0, 2.0)
    with serving.connect() as connection:
        connection.sendall(raw_request("1.1") * 2 + b"GET /v2/health/live HTTP/1.1\r\nHost: here\r\n\r\n")
        received = b""
        while b'"live"' not in received:
            received += connection.recv(1 << 16)
    assert received.count(b"0\r\n\r\n") == 2
    assert received.count(b"data: ") == 4


def test_a_client_that_does_not_read_holds_the_model_back_and_may_leave(serving: Serving) -> None:
    engine, sent = serving.engine, 0

    def endless(request: InferRequest) -> Iterable[Sequence[Tensor]]:
        nonlocal sent
        while True:
            sent += 1
            yield [from_array("y", np.full(10_000, sent, np.float32))]

    engine.stream = endless
    with serving.connect() as connection:
        connection.sendall(raw_request("1.1"))
        while engine.unread < MAX_UNREAD_ANSWERS:
            serving.run(lambda: None)  # a turn of the loop
        before = sent
        for _ in range(50):
            serving.run(lambda: None)
        assert sent == before
        received = 0
        while received < 2 * before * 40_000:  # the JSON of an answer has at least 40 kB
            received += len(connection.recv(1 << 20))
        assert sent > before
    assert engine.left.wait(WAIT_S)
