"""TorchServe's dialect: predictions in all forms, health, the list of models, errors."""

import json
from typing import Any

import httpx
import numpy as np
import pytest

from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.errors import InvalidRequest, Overloaded
from gateway.front.base.image_request import ImageRequest
from gateway.front.base.predictions import Prediction
from gateway.front.dialects.torchserve.inference import _scores, _write_images
from runtimes.tensors import from_array
from tests.support.front_server import LIMITS, Serving
from tests.support.image_files import form
from tests.unit.front.base.test_image_requests import FOUR, OTHER

ROW = [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "document",
    [{"data": [ROW]}, {"data": {"x": [ROW]}}, {"inputs": [ROW]}, {"inputs": {"x": [ROW]}}, {"instances": [ROW]}, [ROW]],
)
@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", "", "text/plain"])
def test_json(serving: Serving, document: Any, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    for path in ("/predictions/doubler", "/predictions/doubler/1"):
        reply = serving.http.post(path, content=json.dumps(document), headers=headers)
        assert (reply.status_code, reply.json()) == (200, [ROW])


def test_json_as_the_file_of_a_form(serving: Serving) -> None:
    def post(model: str, *files: bytes) -> httpx.Response:
        body, headers = form(*files)
        return serving.http.post(f"/predictions/{model}", content=body, headers=headers)

    text = json.dumps({"data": [ROW]}).encode()
    assert post("doubler", text).json() == [ROW]
    assert_rejected(post("doubler", text, text), 400, "BadRequestException", "the form has several files")
    assert_rejected(post("doubler", b"hello"), 400, "BadRequestException", "not valid JSON")
    assert_rejected(post("doubler", FOUR), 400, "BadRequestException", "does not accept images")
    assert_rejected(post("doubler", b" " * LIMITS.json_bytes + text), 413, "RequestEntityTooLargeException", "limit")
    assert_rejected(post("classes", text), 400, "BadRequestException", "file 1 of the form")


def test_several_outputs_are_returned_by_name(serving: Serving) -> None:
    document = {"instances": [{"a": [1, 2], "b": [3]}, {"a": [4, 5], "b": [6]}]}
    reply = serving.http.post("/predictions/two", json=document)
    assert reply.json() == {"a_out": [[1.0, 2.0], [4.0, 5.0]], "b_out": [[3], [6]]}


def test_images(serving: Serving) -> None:
    scores = {"one": 200.0, "3": 100.0, "zero": 50.0}
    others = {"3": 4.0, "two": 3.0, "one": 2.0}
    for method in ("POST", "PUT"):  # curl -T sends PUT
        reply = serving.http.request(method, "/predictions/classes", content=FOUR)
        assert (reply.json(), list(reply.json())) == (scores, list(scores))
    for body, headers, expected in (
        (FOUR, {"Content-Type": "image/png"}, scores),
        (*form(FOUR), scores),
        (*form(FOUR, OTHER), [scores, others]),
    ):
        assert serving.http.post("/predictions/classes", content=body, headers=headers).json() == expected


def test_images_that_are_not_classified_are_answered_by_their_rows(serving: Serving) -> None:
    row = [50.0, 200.0, 10.0, 100.0]
    assert serving.http.post("/predictions/grey", content=FOUR).json() == row
    body, headers = form(FOUR, OTHER)
    assert serving.http.post("/predictions/grey", content=body, headers=headers).json() == [row, [1.0, 2.0, 3.0, 4.0]]


@pytest.mark.parametrize("shape", [(1, 4), (3, 4), (0,), ()])
def test_a_list_for_several_images_has_one_element_for_each(shape: tuple[int, ...]) -> None:
    asked = ImageRequest(InferRequest("m", []), ModelStatus("m", "1", "READY"), 2)
    output = from_array("y", np.zeros(shape, np.float32))
    with pytest.raises(InvalidRequest, match="for 2 images, so it does not say which is whose; send each image"):
        _write_images(asked, LIMITS, InferResponse("m", "1", [output]))
    # Outputs by name are returned unchanged.
    named = [output, output._replace(name="z")]
    assert set(json.loads(_write_images(asked, LIMITS, InferResponse("m", "1", named)))) == {"y", "z"}
    one = json.loads(_write_images(asked._replace(images=1), LIMITS, InferResponse("m", "1", [output])))
    assert one == (np.zeros(shape[1:]) if shape[:1] == (1,) else np.zeros(shape)).tolist()


def assert_rejected(reply: httpx.Response, code: int, kind: str, says: str) -> None:
    assert reply.status_code == code, reply.text
    error = reply.json()
    assert set(error) == {"code", "type", "message"}
    assert (error["code"], error["type"]) == (code, kind)
    assert says in error["message"]


def test_refusals(serving: Serving) -> None:
    def post(path: str, body: Any, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body)
        return serving.http.post(f"/predictions/{path}", content=content, headers=headers)

    bad = "BadRequestException"
    assert_rejected(post("nosuch", [ROW]), 404, "ModelNotFoundException", "no model 'nosuch'")
    assert_rejected(post("doubler/2", [ROW]), 404, "ModelNotFoundException", "version 2")
    assert_rejected(post("doubler", b"hello"), 400, bad, "not valid JSON")
    assert_rejected(post("doubler", b""), 400, bad, "not valid JSON")
    assert_rejected(post("doubler", 5), 400, bad, "must be a JSON list")
    assert_rejected(post("doubler", {"data": [ROW], "inputs": [ROW]}), 400, bad, "both 'data' and 'inputs'")
    assert_rejected(post("doubler", {"data": [ROW], "instances": [ROW]}), 400, bad, "either 'inputs'")
    assert_rejected(post("doubler", {"body": [ROW]}), 400, bad, "unknown key 'body'")
    assert_rejected(post("doubler", [[1.0]]), 400, bad, "shape [1, 1]")
    assert_rejected(post("doubler", FOUR), 400, bad, "does not accept images")
    assert_rejected(
        post("classes", b"II*\x00\xff"), 400, bad, "neither JSON nor an image in a supported format; send JPEG"
    )
    assert_rejected(post("classes", b"{", **{"Content-Type": "application/json"}), 400, bad, "not valid JSON")
    assert_rejected(post("classes", FOUR[:40]), 400, bad, "damaged")
    assert_rejected(post("two", [ROW]), 400, bad, "send each by its name")
    assert_rejected(post("broken", [ROW]), 503, "ServiceUnavailableException", "cut off")
    # Nobody knows whether its bodies would have been JSON.
    not_json = serving.http.post("/predictions/broken", content=b"\x00", headers={"Content-Type": "image/png"})
    assert_rejected(not_json, 503, "ServiceUnavailableException", "cut off")
    assert_rejected(
        serving.http.put("/predictions/broken", content=b"1 2"), 503, "ServiceUnavailableException", "cut off"
    )
    large = b"[" + b" " * LIMITS.json_bytes + b"]"
    assert_rejected(post("doubler", large), 413, "RequestEntityTooLargeException", "over the limit")
    typed = {"Content-Type": "application/json"}
    assert_rejected(post("doubler", large, **typed), 413, "RequestEntityTooLargeException", "over the limit")
    assert_rejected(
        serving.http.get("/predictions/doubler"), 405, "MethodNotAllowedException", "accepts POST or PUT, not GET"
    )
    assert serving.http.get("/predictions/doubler").headers["allow"] == "POST, PUT"
    assert_rejected(serving.http.get("/models/nosuch"), 404, "ModelNotFoundException", "no model 'nosuch'")
    assert_rejected(serving.http.get("/models/nosuch/all"), 404, "ModelNotFoundException", "no model 'nosuch'")
    assert_rejected(serving.http.get("/models?limit=x"), 400, bad, "'limit'")
    assert_rejected(serving.http.get("/models?limit=0"), 400, bad, "'limit'")
    assert_rejected(serving.http.get("/models?next_page_token=-1"), 400, bad, "'next_page_token'")
    serving.engine.failure = Overloaded("too much; try again later")
    assert_rejected(post("doubler", [ROW]), 429, "TooManyRequestsException", "try again")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/models?url=x.mar"), ("PUT", "/models/doubler?min_worker=2"), ("DELETE", "/models/doubler/1"),
     ("PUT", "/models/doubler/1/set-default")],
)  # fmt: skip
def test_models_cannot_be_changed(serving: Serving, method: str, path: str) -> None:
    reply = serving.http.request(method, path)
    assert_rejected(reply, 405, "MethodNotAllowedException", "POST /v2/repository/models/{model}/load")
    assert reply.headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("method", "path", "code", "allow"),
    [("POST", "/ping", 405, "GET, HEAD"), ("PATCH", "/models", 405, "GET"), ("OPTIONS", "/models/doubler", 405, "GET"),
     ("GET", "/models/", 404, ""), ("GET", "/models/doubler/1/2", 404, ""),
     ("POST", "/predictions", 404, ""), ("POST", "/predictions/", 404, ""), ("POST", "/predictions/a/b/c", 404, ""),
     ("GET", "/predictions/doubler/", 404, ""), ("POST", "/explanations/doubler", 404, "")],
)  # fmt: skip
def test_405_has_torchserves_form(serving: Serving, method: str, path: str, code: int, allow: str) -> None:
    reply = serving.http.request(method, path)
    kind, says = {
        404: ("ModelNotFoundException", "this path does not exist"),
        405: ("MethodNotAllowedException", method),
    }[code]
    assert_rejected(reply, code, kind, says)
    assert reply.headers.get("allow", "") == allow


def test_ping(serving: Serving) -> None:
    assert serving.http.get("/ping").json() == {"status": "Healthy"}
    serving.engine.ready = False
    reply = serving.http.get("/ping")
    assert (reply.status_code, reply.json()) == (503, {"status": "Unhealthy"})
    # Some load balancers send HEAD.
    for ready, status in ((False, 503), (True, 200)):
        serving.engine.ready = ready
        reply = serving.http.head("/ping")
        assert (reply.status_code, reply.content) == (status, b"")


def test_models_page_by_page(serving: Serving) -> None:
    names: list[str] = []
    token = "0"
    while True:
        page = serving.http.get("/models", params={"limit": 5, "next_page_token": token}).json()
        names += [each["modelName"] for each in page["models"]]
        assert len(page["models"]) <= 5
        if "nextPageToken" not in page:
            break
        token = page["nextPageToken"]
    assert names == sorted({status.name for status in serving.engine.models()})
    assert serving.http.get("/models?limit=100000").json()["models"] == [{"modelName": name} for name in names]
    assert serving.http.get("/models?next_page_token=99999").json() == {"models": []}


def test_one_model(serving: Serving) -> None:
    expected = {
        "modelName": "doubler",
        "modelVersion": "1",
        "runtime": "fake",
        "batchSize": 8,
        "workers": [{"status": "READY"}],
    }
    for path in ("/models/doubler", "/models/doubler/1", "/models/doubler/all"):
        assert serving.http.get(path).json() == [expected]
    broken = serving.http.get("/models/broken").json()[0]
    assert broken["workers"] == [{"status": "UNAVAILABLE", "reason": "its artifact is cut off"}]


@pytest.mark.parametrize(
    ("best", "scores"),
    [
        ([(0, "cat", 0.6), (1, "", 0.4)], {"cat": 0.6, "1": 0.4}),
        ([(0, "cat", 0.6), (1, "cat", 0.4)], {"cat": 0.6, "1": 0.4}),
        ([(0, "1", 0.6), (1, "1", 0.4)], {"1": 0.6, "1 (1)": 0.4}),
        ([(7, "4", 0.6), (4, "", 0.3)], {"4": 0.6, "4 (4)": 0.3}),
    ],
)
def test_no_score_replaces_another(best: list[tuple[int, str, float]], scores: dict[str, float]) -> None:
    assert _scores([Prediction(*each) for each in best]) == scores
