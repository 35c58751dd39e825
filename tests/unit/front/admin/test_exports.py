"""The export routes over the fake engine: their requests to the supervisor, and what they answer."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.domain.control import StartExport
from gateway.engine.fake import FakeExports
from tests.support.front_server import Serving

PATH = "/v2/models/doubler/export"


@pytest.fixture
def exports(serving: Serving) -> Iterator[FakeExports]:
    found = serving.engine.exports
    found.started.clear()
    yield found
    found.archive = None


def test_an_export_from_start_to_end(serving: Serving, exports: FakeExports, tmp_path: Path) -> None:
    started = serving.http.post(PATH, json={"to": "onnx", "quantize": "dynamic", "signature": "s", "tolerance": 1})
    assert started.status_code == 202
    path = started.headers["location"]
    assert (path, started.json()["state"]) == (f"{PATH}/{started.json()['id']}", "RUNNING")
    options = {"to": "onnx", "quantize": "dynamic", "signature": "s", "tolerance": "1.0"}
    assert exports.started == [StartExport("doubler", "1", options)]
    assert serving.http.get(path).json() == started.json()
    assert serving.http.get(f"{path}/result").status_code == 503
    exports.archive = tmp_path / "export.zip"
    exports.archive.write_bytes(b"archive")
    assert serving.http.get(path).json()["state"] == "DONE"
    result = serving.http.get(f"{path}/result")
    assert (result.content, result.headers["content-type"]) == (b"archive", "application/zip")
    assert "doubler.zip" in result.headers["content-disposition"]
    assert serving.http.delete(path).status_code == 200
    assert serving.http.get(path).status_code == 404
    assert serving.http.delete(path).status_code == 404


def test_the_version_is_the_one_in_the_path(serving: Serving, exports: FakeExports) -> None:
    assert serving.http.post("/v2/models/doubler/versions/1/export", json={"to": "web"}).status_code == 202
    assert exports.started == [StartExport("doubler", "1", {"to": "web"})]
    assert serving.http.post("/v2/models/doubler/versions/9/export", json={"to": "web"}).status_code == 404
    assert serving.http.post("/v2/models/nosuch/export", json={"to": "web"}).status_code == 404
    assert len(exports.started) == 1


def test_an_export_belongs_to_its_model(serving: Serving, exports: FakeExports) -> None:
    export = serving.http.post(PATH, json={"to": "tflite"}).json()["id"]
    for path in (f"/v2/models/small/export/{export}", f"/v2/models/small/export/{export}/result", f"{PATH}/none"):
        reply = serving.http.get(path)
        assert (reply.status_code, "has no export" in reply.json()["error"]) == (404, True)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, "'to' must be one of"),
        ({"to": "onnx", "more": 1}, "there is no key 'more'"),
        ({"to": "onnx", "quantize": "int8"}, "calibration data"),
        ({"to": "onnx", "signature": "--overwrite"}, "'signature' must be the name"),
        ({"to": "onnx", "tolerance": -1}, "'tolerance' must be a number"),
    ],
)
def test_wrong_options_never_reach_the_supervisor(
    serving: Serving, exports: FakeExports, body: dict[str, object], error: str
) -> None:
    reply = serving.http.post(PATH, json=body)
    assert (reply.status_code, error in reply.json()["error"]) == (400, True)
    assert exports.started == []
