"""Without a Python 3.6, CNTK's files are still served: our reader translates them, and ONNX Runtime runs them."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.export.comparison import within
from tests.support import ROOT
from tests.support.environments import skip_or_fail
from tests.support.export_runs import run_export
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.model_repositories import add_copy
from tests.support.protocols import PROTOCOLS

NO_SUCH_FOLDER = "/nonexistent"
MODELS = ROOT / "tests" / "unit" / "runtimes" / "cntk_onnx" / "models"


@pytest.fixture(scope="module")
def without_cntk(
    zoo: Path, runtime_environment: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway that finds no Python except its own."""
    everywhere = [file for folder in ("/usr/bin", "/usr/local/bin") for file in Path(folder).glob("python3.6")]
    if everywhere:
        skip_or_fail(f"{everywhere[0]} is found by every gateway, so that CNTK can always be had")
    runtime_environment("cntk_onnx")
    scratch = tmp_path_factory.mktemp("without_cntk")
    repository = scratch / "repository"
    add_copy(repository, "mnist_conv", [zoo / "cntk" / "mnist_conv" / "mnist_conv.cmf"])
    add_copy(repository, "digits", [ROOT / "model_repo/digits_cntk/1/digits.model"])
    add_copy(repository, "refused", [MODELS / "refused_unpooling.model"])
    add_copy(repository, "criterion", [MODELS / "criterion.model"])
    folders = ("PYENV_ROOT", "UV_PYTHON_INSTALL_DIR", "XDG_DATA_HOME", "HOMEBREW_PREFIX")
    hidden = dict.fromkeys(folders, NO_SUCH_FOLDER)
    running = start_gateway(repository, scratch, PATH=str(Path(sys.executable).parent), **hidden).wait_ready()
    yield running
    running.close()


def test_the_log_says_why(without_cntk: Gateway) -> None:
    without_cntk.wait_for(r"the runtime cntk is not available here: CNTK needs Python 3\.6, found")
    metadata = without_cntk.get("/v2/models/mnist_conv").json()
    assert (metadata["platform"], metadata["inputs"][0]["shape"]) == ("cntk_v2_onnx", [-1, 1, 28, 28])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_real_model_answers(zoo: Path, without_cntk: Gateway, protocol: str) -> None:
    """Three images, one after the other and as one batch."""
    folder = zoo / "cntk" / "mnist_conv"
    images, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    names = ["sample_4", "sample_9", "rand"]
    for rows in (*([name] for name in names), names):
        given = {"input": np.stack([images[name] for name in rows])}
        (answer,) = PROTOCOLS[protocol](without_cntk, "mnist_conv", given).values()
        np.testing.assert_allclose(answer, np.stack([expected[name] for name in rows]), rtol=0, atol=1e-5)


def test_digits_are_known_as_well(without_cntk: Gateway) -> None:
    with np.load(ROOT / "examples/digits/heldout.npz") as file:
        images, labels = file["image"].astype(np.float32), file["label"]
    (scores,) = PROTOCOLS["grpc"](without_cntk, "digits", {"image": images}).values()
    reported = json.loads((ROOT / "examples/digits/accuracy.json").read_text())["digits_cntk"]
    assert float((scores.argmax(axis=1) == labels).mean()) == pytest.approx(reported, abs=1e-9)


def test_what_is_not_covered_is_named(without_cntk: Gateway) -> None:
    entry = without_cntk.index()["refused", "1"]
    assert entry["state"] == "UNAVAILABLE"
    assert "Unpooling, 'up' (uid Unpooling" in entry["reason"]
    assert "serve the model by CNTK itself (the runtime cntk)" in entry["reason"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_model_with_its_loss_answers_with_and_without_labels(without_cntk: Gateway, protocol: str) -> None:
    with np.load(MODELS / "criterion.npz") as stored:
        given = {name: stored[f"in.{name}"] for name in ("v", "labels")}
        expected = {key[4:]: stored[key] for key in stored.files if key.startswith("out.")}
    alone = PROTOCOLS[protocol](without_cntk, "criterion", {"v": given["v"]})
    assert list(alone) == ["z"]
    everything = PROTOCOLS[protocol](without_cntk, "criterion", given)
    assert sorted(everything) == sorted(expected)
    for name, array in {**everything, "z": next(iter(alone.values()))}.items():
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-5)


def test_rows_of_json_leave_the_labels_out(without_cntk: Gateway) -> None:
    with np.load(MODELS / "criterion.npz") as stored:
        rows, expected = stored["in.v"].tolist(), stored["out.z"]
    named = [{"v": row} for row in rows]
    for path, instances in (
        ("/v1/models/criterion:predict", named),
        ("/predictions/criterion", named),
        ("/predict/criterion", named),
        ("/predict/criterion", rows),
    ):
        answer = without_cntk.post(path, {"instances": instances}).json()
        # An answer with one of several outputs has its name in every dialect.
        found = [row["z"] for row in answer.get("predictions", [])] or answer.get("outputs", answer)["z"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_loss_without_labels_and_the_mean_of_a_batch_are_refused(without_cntk: Gateway) -> None:
    for output, message in (
        ("loss", "input 'labels' is missing; output 'loss' needs it"),
        ("mean", "output 'mean' cannot be served: .*one value from all rows of a batch"),
    ):
        asked = {
            "inputs": [{"name": "v", "datatype": "FP32", "shape": [1, 5], "data": [0.0] * 5}],
            "outputs": [{"name": output}],
        }
        answer = without_cntk.post("/v2/models/criterion/infer", asked)
        assert answer.status == 400
        assert re.search(message, answer.json()["error"])


@pytest.mark.parametrize("target", ["onnx", "tflite", "tfjs"])
def test_a_real_model_is_exported_and_proven_by_cntk_itself(
    zoo: Path, runtime_environment: Callable[[str], Any], tmp_path: Path, target: str
) -> None:
    runtime_environment("cntk")
    report = run_export(str(zoo / "cntk" / "mnist_conv" / "mnist_conv.cmf"), target, tmp_path / "out")
    assert report.original.runner == "CNTK"
    assert report.runs
    assert all(within(each, 1e-4) for run in report.runs for each in run.differences)
