"""Exports over REST, and comparisons of models, with a real gateway."""

import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.support import ROOT
from tests.support.gateway_process import Gateway, Reply
from tests.support.model_repositories import add_copy, add_fake

Start = Callable[..., Gateway]
PLACE = "/v2/models/digits_onnx/export"


def wait_until_done(running: Gateway, path: str) -> dict[str, Any]:
    while True:  # each turn is a request
        status: dict[str, Any] = running.get(path).json()
        if status["state"] != "RUNNING":
            return status


@pytest.fixture
def digits(tmp_path: Path, runtime_environment: Callable[[str], Any]) -> Path:
    runtime_environment("onnx")
    add_copy(tmp_path / "repository", "digits_onnx", [ROOT / "model_repo/digits_onnx/1/model.onnx"])
    return tmp_path / "repository"


def test_an_export_from_start_to_zip(gateway: Start, digits: Path) -> None:
    add_fake(digits, "fake")
    running = gateway(digits, "--allow-export", "--fronts", "2").wait_ready()
    started = running.post(PLACE, {"to": "onnx", "tolerance": 0.01})
    assert (started.status, started.json()["state"]) == (202, "RUNNING")
    place = started.headers["location"]
    assert running.post(PLACE, {"to": "onnx"}).status == 429
    assert running.get(f"{place}/result").status == 503
    done = wait_until_done(running, place)
    assert done["state"] == "DONE", done
    assert (done["model_version"], done["report"]["target"], done["report"]["tolerance"]) == ("1", "onnx", 0.01)
    with zipfile.ZipFile(io.BytesIO(running.get(f"{place}/result").body)) as archive:
        assert {"model.onnx", "export.json"} <= set(archive.namelist())
        assert archive.read("model.onnx") == (ROOT / "model_repo/digits_onnx/1/model.onnx").read_bytes()
        assert json.loads(archive.read("export.json")) == done["report"]
    assert running.get("/v2/models/fake/export/1").status == 404
    assert running.request("DELETE", place).status == 200
    assert running.get(place).status == 404


def test_what_cannot_be_exported_says_why_without_a_path(gateway: Start, digits: Path) -> None:
    add_fake(digits, "fake")
    running = gateway(digits, "--allow-export").wait_ready()
    place = running.post("/v2/models/fake/export", {"to": "tflite"}).headers["location"]
    status = wait_until_done(running, place)
    assert (status["state"], "cannot be exported; those of these platforms can" in status["error"]) == (
        "FAILED",
        True,
    )
    assert str(digits) not in json.dumps(status)
    assert running.get(f"{place}/result").status == 404


def test_an_export_can_be_cancelled(gateway: Start, digits: Path) -> None:
    running = gateway(digits, "--allow-export").wait_ready()
    place = running.post(PLACE, {"to": "onnx"}).headers["location"]
    assert running.request("DELETE", place).status == 200
    assert running.get(place).status == 404
    assert running.post(PLACE, {"to": "onnx"}).status == 202


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "'to' must be one of"),
        ({"to": "coreml"}, "'to' must be one of"),
        ({"to": "onnx", "out": "/etc"}, "there is no key 'out'"),
        ({"to": "onnx", "quantize": "int4"}, "'quantize' must be one of"),
        ({"to": "onnx", "quantize": "int8"}, "calibration data"),
        ({"to": "onnx", "signature": "--overwrite"}, "'signature' must be the name"),
        ({"to": "onnx", "signature": "a\0b"}, "'signature' must be the name"),
        ({"to": "onnx", "tolerance": "1"}, "'tolerance' must be a number"),
        ({"to": "onnx", "tolerance": True}, "'tolerance' must be a number"),
    ],
)
def test_wrong_requests(allowing: Gateway, body: dict[str, Any], message: str) -> None:
    reply: Reply = allowing.post("/v2/models/fake/export", body)
    assert (reply.status, message in reply.json()["error"]) == (400, True), reply


def test_unknown_models_and_exports(allowing: Gateway) -> None:
    assert allowing.post("/v2/models/nobody/export", {"to": "onnx"}).status == 404
    assert allowing.post("/v2/models/fake/versions/9/export", {"to": "onnx"}).status == 404
    assert allowing.get("/v2/models/fake/export/9").status == 404


@pytest.fixture(scope="module")
def allowing(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from tests.support.gateway_process import start_gateway

    folder = tmp_path_factory.mktemp("allowing")
    add_fake(folder / "repository", "fake")
    started = start_gateway(folder / "repository", folder, "--allow-export").wait_ready()
    yield started
    started.close()


def test_nothing_is_exported_unless_it_is_allowed(gateway: Start, tmp_path: Path) -> None:
    add_fake(tmp_path / "repository", "fake")
    running = gateway(tmp_path / "repository").wait_ready()
    reply = running.post("/v2/models/fake/export", {"to": "onnx"})
    assert (reply.status, "--allow-export" in reply.json()["error"]) == (501, True)


def compare(running: Gateway, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "gateway", "compare", *arguments, "--url", f"http://{running.http}"]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "COLUMNS": "160"}, cwd=ROOT
    )


def test_two_served_models_are_compared(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "one")
    add_fake(repository, "same")
    add_fake(repository, "other", outputs=[{"name": "z", "datatype": "FP32", "shape": [-1, 4]}])
    running = gateway(repository).wait_ready()
    agreeing = compare(running, "one", "same/1")
    assert agreeing.returncode == 0, agreeing
    assert "they match" in agreeing.stdout
    assert "0.00e+00" in agreeing.stdout
    refused = compare(running, "one", "other")
    assert (refused.returncode, "cannot be compared" in refused.stderr) == (1, True), refused
    unknown = compare(running, "one", "nobody")
    assert (unknown.returncode, "there is no model 'nobody'" in unknown.stderr) == (1, True)


def test_indices_that_a_model_refuses_become_such_that_it_takes(
    gateway: Start, tmp_path: Path, runtime_environment: Callable[[str], Any]
) -> None:
    """The dictionary has four words, and some generated indices are beyond it."""
    runtime_environment("onnx")
    words = onnx.numpy_helper.from_array(np.arange(8, dtype=np.float32).reshape(4, 2), "words")
    entry = onnx.helper.make_tensor_value_info("tokens", onnx.TensorProto.INT64, ["n", 3])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3, 2])
    node = onnx.helper.make_node("Gather", ["words", "tokens"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [entry], [result], [words])
    for name in ("one", "same"):
        (tmp_path / "repository" / name / "1").mkdir(parents=True)
        made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(made, tmp_path / "repository" / name / "1" / "model.onnx")
    running = gateway(tmp_path / "repository").wait_ready()
    compared = compare(running, "one", "same")
    assert compared.returncode == 0, compared
    assert re.search(r"on \d+ inputs$", compared.stdout, re.MULTILINE), "all of them, modulo four"
    np.savez(tmp_path / "beyond.npz", tokens=np.full((1, 3), 4))
    mine = compare(running, "one", "same", "--data", str(tmp_path / "beyond.npz"))
    assert (mine.returncode, mine.stdout) == (1, "")
    assert mine.stderr.startswith("modelport: one: ")


def test_two_networks_of_one_interface_differ(
    gateway: Start, tmp_path: Path, runtime_environment: Callable[[str], Any]
) -> None:
    for name in ("onnx", "mxnet"):
        runtime_environment(name)
        folder = ROOT / "model_repo" / f"digits_{name}"
        toml = (folder / "model.toml").read_text()
        add_copy(tmp_path / "repository", name, list((folder / "1").iterdir()), toml=toml.replace("labels", "#"))
    running = gateway(tmp_path / "repository").wait_ready()
    compared = compare(running, "onnx", "mxnet", "--data", str(ROOT / "examples/digits/heldout.npz"))
    assert (compared.returncode, "they differ" in compared.stdout) == (1, True), compared
    # Both recognize nearly all digits: only the scores differ.
    assert compare(running, "onnx", "mxnet", "--tolerance", "3", "--allow-loss").returncode == 0
