"""Pipelines in a repository that is served: their states, how they are described, and requests in several dialects."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.gateway_process import Gateway, start_gateway
from tests.support.image_files import save
from tests.support.model_repositories import add_fake

SCORES = [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}]
# Every fake model doubles what it gets, so two steps answer four times the input.
TWO_STEPS = """
[[steps]]
model = "first"
inputs = { x = "in" }
outputs = { y = "mid" }

[[steps]]
model = "second"
inputs = { x = "mid" }
outputs = { y = "out" }
"""
BOTH = """
[[steps]]
model = "decoupled"
inputs = { in = "in" }
outputs = { out = "mid" }

[[steps]]
model = "many"
inputs = { x = "in" }
outputs = { y = "out" }
"""
ENSEMBLE = """
platform: "ensemble"
max_batch_size: 4
input [ { name: "IN" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "labels.txt" } ]
ensemble_scheduling {
  step [
    {
      model_name: "first" model_version: -1
      input_map { key: "x" value: "IN" }
      output_map { key: "y" value: "between" }
    },
    {
      model_name: "second" model_version: 1
      input_map { key: "x" value: "between" }
      output_map { key: "y" value: "OUT" }
    }
  ]
}
"""
CHOICE = """
[[steps]]
model = "first"
inputs = { x = "in" }
outputs = { y = "out" }
when = "once"

[[steps]]
model = "two"
inputs = { in = "in" }
outputs = { out = "out" }
when = "not once"
"""


def add_pipeline(repository: Path, name: str, text: str, file: str = "model.toml") -> None:
    (repository / name / "1").mkdir(parents=True, exist_ok=True)
    (repository / name / file).write_text(text)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pipelines") / "repository"


@pytest.fixture(scope="module")
def running(repository: Path) -> Iterator[Gateway]:
    add_fake(repository, "first", toml="max_batch_size = 8")
    add_fake(repository, "second", toml='max_batch_size = 8\n[labels]\ny = "labels.txt"')
    add_fake(repository, "many", answers=3)
    add_fake(repository, "broken", load_error="it is corrupt")
    add_fake(repository, "wide", inputs=[{"name": "x", "datatype": "FP32", "shape": [-1, 5]}])
    pictures = [{"name": "x", "datatype": "FP32", "shape": [-1, 3, 2, 2]}]
    add_fake(repository, "pixels", toml="max_batch_size = 8", inputs=pictures, outputs=[{**pictures[0], "name": "y"}])
    (repository / "second" / "labels.txt").write_text("a\nb\nc\nd\n")
    add_pipeline(repository, "two", TWO_STEPS)
    add_pipeline(repository, "ensemble", ENSEMBLE, "config.pbtxt")
    (repository / "ensemble" / "labels.txt").write_text("A\nB\nC\nD\n")
    add_pipeline(repository, "choice", CHOICE)
    either = CHOICE.replace('y = "out"', 'y = "double"').replace('out = "out"', 'out = "fourfold"')
    add_pipeline(repository, "either", either)
    picture = '[preprocess]\nsize = [2, 2]\n[[steps]]\nmodel = "pixels"\ninputs = { x = "in" }\noutputs = { y = "out" }'
    add_pipeline(repository, "picture", picture)
    add_pipeline(repository, "decoupled", TWO_STEPS.replace('"second"', '"many"'))
    add_pipeline(repository, "both", BOTH)
    for name, other in {"failed": "broken", "unfit": "wide", "missing": "nobody"}.items():
        add_pipeline(repository, name, TWO_STEPS.replace('"second"', f'"{other}"'))
    add_pipeline(repository, "loop", TWO_STEPS.replace('x = "in"', 'x = "out"'))
    gateway = start_gateway(repository, repository.parent, "--fronts", "1").wait_ready()
    yield gateway
    gateway.close()


def test_each_state_has_one_sentence_that_names_the_step(running: Gateway) -> None:
    index = running.index()
    for name in ("two", "ensemble", "choice", "picture", "decoupled"):
        assert index[name, "1"]["state"] == "READY", index[name, "1"]
    reasons = {name: index[name, "1"]["reason"] for name in ("both", "failed", "unfit", "missing")}
    assert reasons == {
        "both": "its steps 'decoupled', 'many' are decoupled and neither needs what the other makes, so nothing says "
        "which of their answers belong together; put one behind the other",
        "failed": "its step 'broken' is UNAVAILABLE: it is corrupt",
        "unfit": "input 'x' of step 'wide' has shape [-1, 5] (-1 is any size), but output 'y' of step 'first' has "
        "shape [-1, 4] (-1 is any size); make them fit",
        "missing": "its step 'nobody' is not served: it is not in the repository, or it was unloaded",
    }
    assert "its steps wait for each other: " in index["loop", ""]["reason"]
    assert running.get("/v2/models/two/ready").status == 200
    refused = running.post("/predict/failed", {"inputs": {"in": [[1, 2, 3, 4]]}})
    assert (refused.status, "its step 'broken' is UNAVAILABLE" in refused.body.decode()) == (503, True)


def test_a_pipeline_answers_in_every_dialect(running: Gateway) -> None:
    assert running.infer("two", {"in": [[1, 2, 3, 4]]}) == {"out": [[4, 8, 12, 16]]}
    tensor = {"name": "IN", "datatype": "FP32", "shape": [2, 4], "data": list(range(8))}
    top = {"name": "OUT", "parameters": {"classification": 1}}
    answer = running.post("/v2/models/ensemble/infer", {"inputs": [tensor], "outputs": [top]}).json()
    assert answer["outputs"][0]["data"] == ["12.000000:3:D", "28.000000:3:D"]
    top = {"name": "out", "parameters": {"classification": 1}}
    answer = running.post("/v2/models/two/infer", {"inputs": [{**tensor, "name": "in"}], "outputs": [top]}).json()
    assert answer["outputs"][0]["data"] == ["12.000000:3:d", "28.000000:3:d"]  # the labels of the step
    answer = running.post("/v1/models/two:predict", {"instances": [{"in": [1, 2, 3, 4]}]}).json()
    assert answer == {"predictions": [[4, 8, 12, 16]]}
    for once, factor in ((True, 2), (False, 4)):
        inputs = {"in": [[1, 2, 3, 4]], "once": [once]}
        assert running.infer("choice", inputs) == {"out": [[factor, 2 * factor, 3 * factor, 4 * factor]]}


def test_an_output_has_its_name_where_it_does_not_stand_for_another(running: Gateway) -> None:
    for once, output, factor in ((True, "double", 2), (False, "fourfold", 4)):
        values = [[factor, 2 * factor, 3 * factor, 4 * factor]]
        body = {"inputs": {"in": [[1, 2, 3, 4]], "once": [once]}}
        assert running.post("/v1/models/either:predict", body).json() == {"outputs": {output: values}}
        assert running.post("/predictions/either", body).json() == {output: values}
    assert running.post("/v1/models/two:predict", {"inputs": {"in": [[1, 2, 3, 4]]}}).json() == {
        "outputs": [[4, 8, 12, 16]]
    }


def test_an_image_becomes_the_input_of_the_first_step(running: Gateway) -> None:
    picture = save(Image.fromarray(np.full((5, 5, 3), 255, np.uint8)))
    reply = running.post("/predict/picture", picture, {"Content-Type": "image/png"})
    assert (reply.status, np.unique(reply.json()["outputs"]["out"]).tolist()) == (200, [510.0])


def test_a_pipeline_is_described_like_any_model(running: Gateway) -> None:
    metadata = running.get("/v2/models/two").json()
    assert metadata == {
        "name": "two",
        "versions": ["1"],
        "platform": "ensemble",
        "inputs": [{"name": "in", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "out", "datatype": "FP32", "shape": [-1, 4]}],
    }
    config = running.get("/v2/models/ensemble/config").json()
    assert (config["platform"], config["max_batch_size"], config["instance_group"]) == ("ensemble", 4, [])
    assert "dynamic_batching" not in config
    assert config["output"][0]["label_filename"] == "labels.txt"
    first, second = config["ensemble_scheduling"]["step"]
    assert (first["model_name"], first["model_version"]) == ("first", -1)
    assert (second["model_name"], second["model_version"]) == ("second", 1)
    assert (second["input_map"], second["output_map"]) == ({"x": "between"}, {"y": "OUT"})
    signature = running.get("/v1/models/two/metadata").json()["metadata"]["signature_def"]["signature_def"]["default"]
    assert (list(signature["inputs"]), list(signature["outputs"])) == (["in"], ["out"])
    running.infer("two", {"in": [[1, 2, 3, 4]]})
    for model in ("two", "second"):
        (statistics,) = running.get(f"/v2/models/{model}/stats").json()["model_stats"]
        assert statistics["inference_stats"]["success"]["count"] >= 1
    overview = running.get("/console/data").json()
    (described,) = [each for each in overview["models"] if each["name"] == "choice"]
    assert described["steps"] == [
        {"model": "first", "version": "1", "state": "READY", "reason": "", "when": "once"},
        {"model": "two", "version": "1", "state": "READY", "reason": "", "when": "not once"},
    ]
    assert 'modelport_workers_up{model="two"' not in running.get("/metrics").body.decode()


def test_what_the_commands_can_do_with_a_pipeline(running: Gateway, repository: Path) -> None:
    done = modelport("compare", "two", "two", "--url", f"http://{running.http}")
    assert done.returncode == 0, done.stdout + done.stderr
    listed = modelport("models", "--url", f"http://{running.http}").stdout
    assert "its step 'nobody' is not served" in " ".join(listed.split())
    no_profile = "model 'two' is a pipeline, which has no artifact of its own: name one of its steps, first, second"
    no_export = "pipeline 'two' cannot be exported to onnx as a whole, because of step 'first' ("
    for arguments, refusal in ((("export", "two", "--to", "onnx"), no_export), (("profile", "two"), no_profile)):
        done = modelport(*arguments, "--repository", str(repository))
        assert (done.returncode != 0, refusal in " ".join((done.stdout + done.stderr).split())) == (True, True), done


def modelport(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "gateway", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_pipeline_follows_its_steps(running: Gateway, repository: Path) -> None:
    """Unloaded, loaded again, loaded with another signature, restored: nobody touches the pipeline."""
    refused = running.post("/v2/repository/models/two/unload", {"parameters": {"unload_dependents": True}})
    assert (refused.status, "unload the steps one by one: first, second" in refused.body.decode()) == (501, True)
    assert running.post("/v2/repository/models/second/unload", {}).status == 200
    reason = "its step 'second' is not served: it is not in the repository, or it was unloaded"
    assert running.index()["two", "1"]["reason"] == reason
    assert running.post("/v2/repository/models/two/load", {}).status == 200  # as in Triton, its steps come with it
    assert running.infer("two", {"in": [[1, 2, 3, 4]]}) == {"out": [[4, 8, 12, 16]]}
    artifact = repository / "second" / "1" / "model.fake.json"
    before = artifact.read_text()
    artifact.write_text(json.dumps({"inputs": [{"name": "x", "datatype": "INT32", "shape": [-1, 4]}]}))
    assert running.post("/v2/repository/models/second/load", {}).status == 200
    reason = running.index()["two", "1"]["reason"]
    assert reason == "input 'x' of step 'second' is INT32, but output 'y' of step 'first' is FP32; make them equal"
    artifact.write_text(before)
    assert running.post("/v2/repository/models/second/load", {}).status == 200
    assert running.index()["two", "1"]["state"] == "READY"
    assert running.infer("two", {"in": [[1, 2, 3, 4]]}) == {"out": [[4, 8, 12, 16]]}
