"""A real TensorBoard shows profiles of a CNTK and of a PyTorch model: their figures, and graphs with compute times."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.browser import Browser
from tests.support.client_environments import client_python, run_client

# Model → a scope of its graph that takes time, and the last of its nodes.
MODELS = {"digits_cntk": ("Convolution_1", "ReLU"), "digits_torchscript": ("layers", "aten::linear")}


@pytest.fixture(scope="module")
def viewer() -> Path:
    """The Python of an environment with TensorBoard."""
    return client_python("tensorboard", "tensorboard==2.21.0")


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory, runtime_environment: Any) -> Path:
    """A folder with a profile of each model."""
    folder = tmp_path_factory.mktemp("logs")
    for model in MODELS:
        runtime_environment(model.removeprefix("digits_"))
        options = ["--output", folder / model, "--batch-sizes", "1,4", "--threads", "1", "--seconds", "0.05"]
        command = [sys.executable, "-m", "gateway", "profile", model, "--repository", ROOT / "model_repo", *options]
        done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def tensorboard(viewer: Path, logs: Path) -> Iterator[str]:
    """The address of a TensorBoard that shows the logs."""
    flags = ["--logdir", logs, "--host", "127.0.0.1", "--port", "0", "--load_fast=false"]
    started = subprocess.Popen(
        [str(each) for each in (viewer.parent / "tensorboard", *flags)], stderr=subprocess.PIPE, text=True
    )
    assert started.stderr is not None
    said = []
    for line in started.stderr:
        said.append(line)
        if found := re.search(r"TensorBoard \S+ at (http://\S+?)/? ", line):
            yield found[1]
            break
    else:
        pytest.fail("".join(said))
    started.terminate()
    started.communicate(timeout=30)


@pytest.mark.runtime("cntk")
@pytest.mark.runtime("torchscript")
@pytest.mark.parametrize("model", MODELS)
def test_tensorboard_reads_what_was_written(model: str, viewer: Path, logs: Path) -> None:
    script = ROOT / "tests" / "browser" / "tensorboard_script.py"
    found = json.loads(run_client(viewer, script, str(logs / model / "tensorboard")))
    assert found["1 thread"]["scalars"]["latency/p50_ms"].keys() == {"1", "4"}
    graph = found["graph"]
    nodes = {node["name"]: node for node in graph["nodes"]}
    assert {name for node in nodes.values() for name in node["inputs"]} <= set(nodes)
    assert graph["times"]
    assert set(graph["times"]) <= set(nodes)
    scope, operator = MODELS[model]
    timed = {nodes[name]["operator"] for name in graph["times"] if name.startswith(f"{scope}/")}
    assert operator in timed
    assert sorted(graph["texts"]) == ["operators/text_summary", "summary/text_summary"]


@pytest.mark.runtime("cntk")
@pytest.mark.runtime("torchscript")
@pytest.mark.parametrize("model", MODELS)
def test_its_pages_show_the_model(model: str, tensorboard: str, browser: Browser, tmp_path: Path) -> None:
    """The Graphs page has the scope, and tells its compute time; Time Series has the figures."""
    scope, _ = MODELS[model]
    choose = [
        step
        for number, text in enumerate([f"{model}/tensorboard/graph", "threads 1"])
        for step in (
            {"do": "click", "selector": f"tf-graph-controls paper-dropdown-menu >> nth={number}"},
            {"do": "click", "selector": f'paper-item:has-text("{text}"):visible'},
        )
    ]
    shot = {"do": "screenshot", "file": str(tmp_path / f"{model}.png"), "whole": False}
    graphs = [
        {"do": "wait", "selector": "tf-graph-dashboard svg .node"},
        *choose,
        {"do": "click", "selector": 'paper-radio-button:has-text("Compute time")'},
        {"do": "click", "selector": f'tf-graph-dashboard svg g.node[data-name="{scope}"]'},
        {"do": "wait", "selector": "tf-node-info >> text=/[1-9][0-9.,]* [µm]s/"},
        shot,
    ]
    assert browser.visit(f"{tensorboard}/#graphs", graphs).complaints == []
    figures = [
        {"do": "wait", "selector": f'card-view:has-text("{tag}")'} for tag in ("latency/p50_ms", "latency/p99_ms")
    ]
    assert browser.visit(f"{tensorboard}/#timeseries", figures).complaints == []
