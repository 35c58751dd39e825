"""A program of torch.export becomes an ExecuTorch program by `modelport export`, and both are served."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from gateway.export.errors import CannotExport
from gateway.export.report import Report
from tests.support import ROOT
from tests.support.export_runs import run_export
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.model_repositories import add_copy
from tests.support.protocols import PROTOCOLS


class Served(NamedTuple):
    gateway: Gateway
    expected: dict[str, np.ndarray]
    report: Report
    export: Path


@pytest.fixture(scope="module")
def served(runtime_environment: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    scratch = tmp_path_factory.mktemp("executorch")
    script = [runtime_environment("executorch").python, "-I", ROOT / "tests/e2e/make_executorch.py", scratch]
    done = subprocess.run(script, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    report = run_export(str(scratch / "model.pt2"), "executorch", scratch / "export")
    repository = scratch / "repository"
    add_copy(repository, "original", [scratch / "model.pt2"])
    add_copy(repository, "exported", [scratch / "export" / "model.pte"])
    content = (scratch / "export" / "model.pte").read_bytes()
    broken = {
        # As if this ExecuTorch had been built without the backend.
        "backend": content.replace(b"XnnpackBackend", b"AnotherBackend"),
        "version": content[:4] + b"ET11" + content[8:],
        "truncated": content[:200],
    }
    for name, each in broken.items():
        (scratch / f"{name}.pte").write_bytes(each)
        add_copy(repository, name, [scratch / f"{name}.pte"])
    with np.load(scratch / "expected.npz") as file:
        expected = dict(file)
    running = start_gateway(repository, scratch).wait_ready()
    yield Served(running, expected, report, scratch / "export")
    running.close()


def inputs(served: Served) -> dict[str, np.ndarray]:
    return {name: served.expected[name] for name in ("image", "gain")}


def test_the_export_is_proven_and_keeps_the_rows_dynamic(served: Served) -> None:
    assert "batches have up to 64 rows, because the program has no bound of its own" in served.report.notes
    assert [tuple(each) for each in served.report.inputs] == [
        ("image", "FP32", (-1, 1, 8, 8)),
        ("gain", "FP32", (-1, 1)),
    ]
    readme = (served.export / "README.md").read_text()
    assert 'Runtime.get().load_program("model.pte").load_method("forward")' in readme


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_answers_are_those_of_pytorch(served: Served, protocol: str) -> None:
    for model in ("exported", "original"):
        answer = PROTOCOLS[protocol](served.gateway, model, inputs(served))
        for name in ("scores", "mean"):
            np.testing.assert_allclose(answer[name], served.expected[name], rtol=1e-4, atol=1e-5)


def test_tensorflow_serving_and_torchserve(served: Served) -> None:
    image, gain = served.expected["image"].tolist(), served.expected["gain"].tolist()
    columns = {"inputs": {"image": image, "gain": gain}}
    rows = [{"image": one, "gain": other} for one, other in zip(image, gain, strict=True)]
    predictions = served.gateway.post("/v1/models/exported:predict", {"instances": rows}).json()["predictions"]
    scores = [each["scores"] for each in predictions]
    np.testing.assert_allclose(scores, served.expected["scores"], rtol=1e-4, atol=1e-5)
    assert served.gateway.post("/predictions/exported", columns).status == 200


def test_more_rows_than_memory_was_planned_for_run_in_parts(served: Served) -> None:
    served.gateway.wait_for("exported version 1 is READY, batching up to ")
    many = {name: np.resize(array, (65, *array.shape[1:])) for name, array in inputs(served).items()}
    answer = PROTOCOLS["grpc"](served.gateway, "exported", many)
    np.testing.assert_allclose(answer["scores"], np.resize(served.expected["scores"], (65, 3)), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_served_says_why(served: Served) -> None:
    reasons = {name: entry["reason"] for (name, _), entry in served.gateway.index().items()}
    assert "it needs the backend 'AnotherBackend', and this ExecuTorch has" in reasons["backend"]
    assert "reads files that begin with ET12" in reasons["version"]
    assert reasons["truncated"] == "the file is damaged: its methods cannot be read"


def test_compare_shows_both(served: Served) -> None:
    command = [sys.executable, "-m", "gateway", "compare", "--url", f"http://{served.gateway.http}"]
    done = subprocess.run([*command, "original", "exported"], capture_output=True, text=True, timeout=240, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_cannot_be_exported_says_why(served: Served, tmp_path: Path) -> None:
    with pytest.raises(CannotExport, match="no route from onnx to executorch"):
        run_export("digits_onnx", "executorch", tmp_path / "out")
    with pytest.raises(CannotExport, match="float32 only"):
        run_export("digits_torchscript", "executorch", tmp_path / "out", precision="float16")
    with pytest.raises(CannotExport, match="models of executorch cannot be exported"):
        run_export(str(served.export / "model.pte"), "onnx", tmp_path / "out")
