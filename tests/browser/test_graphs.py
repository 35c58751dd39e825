"""The graph of a model of each format, drawn by Netron in a real browser, without a request to another server."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gateway.environments.environment import Environment
from tests.support import ROOT
from tests.support.browser import Browser, Visit
from tests.support.gateway_process import Gateway, start_gateway

EXPORTED = """
import sys, torch
model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())
torch.export.save(torch.export.export(model, (torch.zeros(1, 3),)), sys.argv[1])
"""
SHOWN = {"do": "wait", "selector": "body[data-graph]"}
FRAME = "document.querySelector('iframe').contentDocument"
NODES = {"do": "read", "script": f"[...{FRAME}.querySelectorAll('.node')].map((node) => node.textContent).join('|')"}
NOTE = {"do": "read", "script": "document.getElementById('note').textContent"}

# model → names of operators that it has
OPERATORS = {
    "digits_onnx": ("Gemm", "Softmax"),
    "external": ("Gather", "Add"),
    "half_plus_two": ("Mul", "Add"),  # TensorFlow Lite
    "digits_torchscript": ("conv2d", "softmax"),
    "exported": ("linear", "relu"),  # torch.export
    "digits_savedmodel": ("ReadVariableOp", "VarHandleOp"),
    "digits_mxnet": ("Convolution", "FullyConnected"),
    "digits_cntk": ("ElementDivide", "Reshape"),
    "recurrent": ("Transpose", "LSTM"),  # Deeplearning4j, by its translation
}


@pytest.fixture(scope="module")
def graphs(
    tmp_path_factory: pytest.TempPathFactory, runtime_environment: Callable[[str], Environment], zoo: Path
) -> Iterator[Gateway]:
    """A gateway that serves Deeplearning4j only. The graph of other models is there although they are not served."""
    scratch = tmp_path_factory.mktemp("graphs")
    repository = scratch / "repository"
    for name in OPERATORS:
        if name.startswith("digits_"):
            shutil.copytree(ROOT / "model_repo" / name, repository / name)
    (tflite,) = zoo.glob("tflite/saved_model_half_plus_two*/*.tflite")
    (dl4j,) = zoo.glob("dl4j/080-LSTM_1/*.zip")
    for name, file in (("half_plus_two", tflite), ("recurrent", dl4j)):
        (repository / name / "1").mkdir(parents=True)
        shutil.copy(file, repository / name / "1")
    (repository / "exported" / "1").mkdir(parents=True)
    python = runtime_environment("torchscript").python
    subprocess.run([python, "-c", EXPORTED, repository / "exported" / "1" / "model.pt2"], check=True, timeout=200)
    with_external_data(repository / "external" / "1")
    (repository / "broken" / "1").mkdir(parents=True)
    (repository / "broken" / "1" / "model.onnx").write_bytes(b"no model")
    runtime_environment("dl4j")
    started = start_gateway(repository, scratch, "--only", "dl4j")
    yield started.wait_ready()
    started.close()


def with_external_data(folder: Path) -> None:
    folder.mkdir(parents=True)
    table = numpy_helper.from_array(np.ones((4, 2), np.float32), "table")
    nodes = [helper.make_node("Gather", ["table", "row"], ["found"]), helper.make_node("Add", ["found"] * 2, ["twice"])]
    row = helper.make_tensor_value_info("row", TensorProto.INT64, ["rows"])
    twice = helper.make_tensor_value_info("twice", TensorProto.FLOAT, ["rows", 2])
    model = helper.make_model(helper.make_graph(nodes, "external", [row], [twice], [table]))
    onnx.save(
        model, folder / "100% of #1?.onnx", save_as_external_data=True, location="the weights.bin", size_threshold=0
    )


def visit(browser: Browser, gateway: Gateway, model: str, *steps: dict[str, str]) -> Visit:
    return browser.visit(f"http://{gateway.http}/console/models/{model}/graph", [SHOWN, *steps]).check()


@pytest.mark.parametrize("model", OPERATORS)
def test_operators_are_shown(browser: Browser, graphs: Gateway, model: str) -> None:
    nodes = visit(browser, graphs, model, NODES).results[-1]
    for operator in OPERATORS[model]:
        assert operator in nodes


def test_weights_in_files_of_their_own_are_read_when_they_are_looked_at(browser: Browser, graphs: Gateway) -> None:
    steps = (
        {"do": "click", "selector": ".node:has-text('Gather')", "frame": "iframe"},
        {"do": "click", "selector": ".sidebar-item-value-button >> nth=0", "frame": "iframe"},
    )
    visited = visit(browser, graphs, "external", *steps)
    assert any(url.split("?")[0].endswith("/artifact/the%20weights.bin") for url in visited.asked)


def test_netron_neither_reports_nor_remembers_anything_nor_leads_elsewhere(browser: Browser, graphs: Gateway) -> None:
    """Its menu shows what concerns the graph. Its own start page would ask for consent, and send what is opened."""
    menu = f"[...{FRAME}.querySelectorAll('#menu .menu-label')].map((label) => label.textContent)"
    steps = [
        {"do": "click", "selector": "#menu-button", "frame": "iframe"},
        {"do": "read", "script": menu},
        {"do": "click", "selector": "text=Show Attributes", "frame": "iframe"},
        {"do": "click", "selector": "#menu-button", "frame": "iframe"},
        {"do": "click", "selector": "text=Properties", "frame": "iframe"},
        {"do": "read", "script": f"{FRAME}.cookie"},
        {"do": "axe"},
    ]
    visited = visit(browser, graphs, "digits_onnx", *steps)
    labels = visited.results[2]
    assert "Export as PNG" in labels
    assert not [label for label in labels if "Open" in label or "Issue" in label or "About" in label]
    assert visited.results[-2:] == ["", []]


def test_a_file_that_netron_cannot_read_is_explained(browser: Browser, graphs: Gateway) -> None:
    note = visit(browser, graphs, "broken", NOTE).results[-1]
    assert note.startswith("Netron 9.3.3 cannot show this model: ")
