"""A model repository made for Triton is served unchanged to NVIDIA's own client."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.generated import model_config_pb2
from tests.e2e.proto_fields_script import fields
from tests.support.client_environments import client_python, run_client
from tests.support.gateway_process import Gateway
from tests.support.model_repositories import add_fake

HERE = Path(__file__).parent
CLIENT = ("tritonclient", "tritonclient[all]==2.73.0")

SIMPLE = """
name: "simple"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [
  { name: "INPUT0" data_type: TYPE_INT32 dims: [ 16 ] },
  { name: "INPUT1" data_type: TYPE_INT32 dims: [ 16 ] }
]
output [
  { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 16 ] },
  { name: "OUTPUT1" data_type: TYPE_INT32 dims: [ 16 ] }
]
"""
LETTERS = """
backend: "onnxruntime"
max_batch_size: 4
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "letters.txt" } ]
dynamic_batching { preferred_batch_size: [ 2, 4 ] max_queue_delay_microseconds: 2000 }
instance_group [ { count: 2 kind: KIND_CPU } ]
version_policy: { latest: { num_versions: 2 } }
optimization { graph { level: 1 } }
tomorrow: "what a newer Triton has"
"""
COLOURS = """
name: "colours"
platform: "onnxruntime_onnx"
max_batch_size: 0
default_model_filename: "net.onnx"
input [
  { name: "data" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 3, 4, 4 ] reshape { shape: [ 1, 3, 4, 4 ] } }
]
output [
  {
    name: "means"
    data_type: TYPE_FP32
    dims: [ 3 ]
    reshape { shape: [ 1, 3, 1, 1 ] }
    label_filename: "names.txt"
  }
]
"""
# Outputs before inputs, and neither in order: the numbers in the names are the positions.
MATRICES = """
platform: "pytorch_libtorch"
max_batch_size: 4
output [
  { name: "OUTPUT__1" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } },
  { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 2, 2 ] } }
]
input [
  { name: "INPUT__1" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 2, 2 ] } },
  { name: "INPUT__0" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 2, 2 ] } }
]
parameters { key: "INFERENCE_MODE" value { string_value: "true" } }
"""
NUMBERS = """
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } }
output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } }
"""
ENSEMBLE = """
name: "ensemble"
platform: "ensemble"
ensemble_scheduling { step [ { model_name: "simple" model_version: -1 input_map { key: "a" value: "b" } } ] }
"""


def lay_out(repository: Path, made: Path) -> None:
    """Write folders and files in Triton's layout."""
    artifacts = {
        "simple/1/model.onnx": "add_sub.onnx",
        "letters/1/model.onnx": "twice.onnx",
        "letters/3/model.onnx": "twice.onnx",
        "colours/1/net.onnx": "means.onnx",
        "colours/1/other.onnx": "one.onnx",
        "matrices/1/model.pt": "pair.pt",
        "numbers/1/model.onnx/model.onnx": "one.onnx",
        "untold/1/model.onnx": "twice.onnx",
    }
    configurations = {
        "simple": SIMPLE,
        "letters": LETTERS,
        "colours": COLOURS,
        "matrices": MATRICES,
        "numbers": NUMBERS,
        "ensemble": ENSEMBLE,
        "scripted": 'backend: "python"',
    }
    for place, artifact in artifacts.items():
        (repository / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made / artifact, repository / place)
    for model, text in configurations.items():
        (repository / model / "1").mkdir(parents=True, exist_ok=True)
        (repository / model / "config.pbtxt").write_text(text)
    (repository / "letters" / "letters.txt").write_text("a\nb\nc\nd\n")
    (repository / "colours" / "names.txt").write_text("red\ngreen\nblue\n")
    (repository / "scripted" / "1" / "model.py").touch()


@pytest.mark.runtime("onnx")
@pytest.mark.runtime("torchscript")
def test_a_repository_made_for_triton_runs_as_it_is(
    gateway: Callable[..., Gateway], runtime_python: Callable[[str], Path], tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    made = tmp_path / "made"
    made.mkdir()
    runtime_python("onnx")
    subprocess.run([sys.executable, HERE / "make_triton_onnx.py", made], check=True)
    subprocess.run([runtime_python("torchscript"), HERE / "make_triton_torchscript.py", made / "pair.pt"], check=True)
    lay_out(tmp_path / "repository", made)
    running = gateway(tmp_path / "repository").wait_ready()
    index = running.index()
    ready = {unit for unit, entry in index.items() if entry["state"] == "READY"}
    assert ready == {
        *((model, "1") for model in ("simple", "letters", "colours", "matrices", "numbers", "untold")),
        ("letters", "3"),
    }, index
    script = HERE / "triton_repository_script.py"
    assert "all of it worked" in run_client(client_python(*CLIENT), script, running.http, running.grpc)
    warnings = [line for line in running.log if "config.pbtxt has settings that are ignored here" in line]
    left = "dynamic_batching.preferred_batch_size, optimization, tomorrow"
    assert len(warnings) == 1
    assert f"letters: its config.pbtxt has settings that are ignored here: {left}" in warnings[0]


def test_a_warning_comes_once_and_again_when_the_file_changes(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for version in ("1", "2"):
        add_fake(repository, "m", version)
    pbtxt = repository / "m" / "config.pbtxt"
    text = 'backend: "fake" version_policy { all { } } optimization { }'
    pbtxt.write_text(text)
    running = gateway(repository).wait_ready()
    warning = "m: its config.pbtxt has settings that are ignored here: optimization"
    # The same config.pbtxt applies to a new version.
    add_fake(repository, "m", "3")
    running.wait_for("m version 3 is READY")
    assert sum(warning in line for line in running.log) == 1
    since = len(running.log)
    pbtxt.write_text(text + " # again")
    running.wait_for(warning, since)
    running.wait_for("m version 3 is READY", since)
    assert sum(warning in line for line in running.log) == 2


def test_model_toml_goes_before_config_pbtxt(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    add_fake(tmp_path / "repository", "m", toml="max_batch_size = 3")
    (tmp_path / "repository" / "m" / "config.pbtxt").write_text("max_batch_size: 5")
    running = gateway(tmp_path / "repository").wait_ready()
    assert any("m: its config.pbtxt is not read, because there is a model.toml" in line for line in running.log)
    assert running.get("/v2/models/m/config").json()["max_batch_size"] == 3


def test_a_broken_config_pbtxt_is_its_models_own_problem(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "good")
    add_fake(repository, "m")
    pbtxt = repository / "m" / "config.pbtxt"
    pbtxt.write_bytes(b"input [ {\x00\xff")
    running = gateway(repository).wait_ready()
    assert running.infer("good", {"x": [[1, 2, 3, 4]]}) == {"y": [[2, 4, 6, 8]]}
    assert "m/config.pbtxt is not a model configuration" in running.index()[("m", "")]["reason"]
    since = len(running.log)
    pbtxt.write_text('backend: "fake" max_batch_size: 2')
    running.wait_for("m version 1 is READY, batching up to 2 rows", since)


def test_model_configuration_is_declared_as_tritonclient_has_it() -> None:
    script = HERE / "proto_fields_script.py"
    theirs = json.loads(run_client(client_python(*CLIENT), script, "tritonclient.grpc.model_config_pb2"))
    assert json.loads(json.dumps(fields(model_config_pb2))) == theirs
