"""Models of TensorFlow 1 answer as TensorFlow itself, in every protocol.

They are made in the runtime's environment by TensorFlow 2's interface for TensorFlow 1. What make_tensorflow1.py has
made in TensorFlow 1.15.5 (Python 3.7, tensorflow-hub 0.12.0) is in the folder tensorflow_1_15.
"""

import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.export_runs import answer, run_export
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.protocols import EVERY_PROTOCOL

HERE = Path(__file__).parent
STORED = HERE / "tensorflow_1_15"
# Their inputs, and those of which some may be left out.
MODELS = {"triton": ["image"], "found": ["image"], "words": ["word"], "text": ["x"], "hub": ["x"], "archive": ["x"]}
ALL = {**MODELS, **{f"{name}_1_15": MODELS[name] for name in ("triton", "found", "words", "text", "hub")}}


@pytest.fixture(scope="module")
def made(runtime_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tensorflow1")
    command = [runtime_python("savedmodel"), "-I", "-W", "ignore", HERE / "make_tensorflow1.py", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    archive = folder / "repository" / "archive" / "1"
    archive.mkdir(parents=True)
    with tarfile.open(archive / "module_1.tar.gz", "w:gz") as file:  # as TF Hub delivers one
        file.add(folder / "repository" / "hub" / "1", ".")
    for kind in ("inputs", "expected"):
        shutil.copy(folder / f"hub.{kind}.npz", folder / f"archive.{kind}.npz")
        for file in STORED.glob(f"*.{kind}.npz"):
            shutil.copy(file, folder / file.name.replace(".", "_1_15.", 1))
    for model in (STORED / "repository").iterdir():
        shutil.copytree(model, folder / "repository" / f"{model.name}_1_15")
    return folder


@pytest.fixture(scope="module")
def serving(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    running = start_gateway(made / "repository", tmp_path_factory.mktemp("gateway")).wait_ready()
    yield running
    running.close()


def arrays(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as stored:
        return {
            name: stored[name].astype(object) if stored[name].dtype.kind == "S" else stored[name] for name in stored
        }


@pytest.mark.runtime("savedmodel")
@pytest.mark.parametrize("protocol", EVERY_PROTOCOL)
@pytest.mark.parametrize("model", ALL)
def test_answers_equal_tensorflow(made: Path, serving: Gateway, model: str, protocol: str) -> None:
    inputs, expected = arrays(made / f"{model}.inputs.npz"), arrays(made / f"{model}.expected.npz")
    assert set(ALL[model]) <= set(inputs)
    outputs = EVERY_PROTOCOL[protocol](serving, model, inputs)
    if model.startswith("found"):
        outputs.pop("scores", None)
    assert sorted(outputs) == sorted(expected)
    for name, array in expected.items():
        assert outputs[name].shape == array.shape
        np.testing.assert_allclose(outputs[name], array, rtol=0, atol=1e-6)


@pytest.mark.runtime("savedmodel")
@pytest.mark.parametrize("protocol", EVERY_PROTOCOL)
def test_an_input_with_a_default_value_may_be_given(made: Path, serving: Gateway, protocol: str) -> None:
    inputs, expected = arrays(made / "text.inputs.npz"), arrays(made / "text.expected.npz")
    outputs = EVERY_PROTOCOL[protocol](serving, "text", {**inputs, "scale": np.float32(8)})
    np.testing.assert_allclose(outputs["y"], expected["y"] * 2, rtol=1e-6)


@pytest.mark.runtime("savedmodel")
def test_tensorflow_serving_describes_and_answers(made: Path, serving: Gateway) -> None:
    inputs, expected = arrays(made / "triton.inputs.npz"), arrays(made / "triton.expected.npz")
    reply = serving.post("/v1/models/triton:predict", {"instances": inputs["image"].tolist()})
    assert reply.status == 200, reply
    np.testing.assert_allclose([each["scores"] for each in reply.json()["predictions"]], expected["scores"], atol=1e-6)
    described = serving.get("/v1/models/triton/metadata").json()["metadata"]["signature_def"]["signature_def"]
    (signature,) = described.values()
    assert signature["inputs"]["image"]["dtype"] == "DT_FLOAT"
    assert [dim["size"] for dim in signature["inputs"]["image"]["tensor_shape"]["dim"]] == ["-1", "8", "8", "1"]
    assert sorted(signature["outputs"]) == ["best:1", "scores"]


@pytest.mark.runtime("savedmodel")
def test_what_is_served_and_what_is_refused(serving: Gateway) -> None:
    log = "\n".join(serving.log)
    for model in ("triton", "found", "hub"):
        assert f"{model} version 1 is READY, batching up to" in log, log
    assert "output 'places.dense_shape' is part of a ragged or sparse tensor" in log
    platforms = {model: serving.get(f"/v2/models/{model}").json()["platform"] for model in MODELS}
    assert platforms == {
        **dict.fromkeys(("triton", "found", "words"), "tensorflow_graphdef"),
        **dict.fromkeys(("text", "hub", "archive"), "tensorflow_savedmodel"),
    }
    body = {"inputs": {"x": [[1.0, 2.0]], "scale": 1.0}, "outputs": ["wave"]}
    reply = serving.post("/predict/text", json.dumps(body).encode())
    assert reply.status == 400, reply
    assert "complex64" in reply.json()["error"], reply
    config: Any = serving.get("/v2/models/triton/config").json()
    assert (config["platform"], config["backend"]) == ("tensorflow_graphdef", "tensorflow")


@pytest.mark.runtime("savedmodel")
@pytest.mark.parametrize("model", ["triton", "text"])
def test_exports_compute_the_same(made: Path, model: str, tmp_path: Path) -> None:
    run_export(model, "tflite", tmp_path / "lite", repository=made / "repository")
    inputs, expected = arrays(made / f"{model}.inputs.npz"), arrays(made / f"{model}.expected.npz")
    outputs = answer("tflite", tmp_path / "lite", inputs, tmp_path)
    assert sorted(outputs) == sorted(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(outputs[name], array, rtol=0, atol=1e-5)
