"""Models that DL4J wrote, from 0.8 to 2020: each returns the outputs that DL4J stored with it, in every protocol."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.export.comparison import within
from runtimes.dl4j import layers
from runtimes.dl4j.archive import read
from runtimes.dl4j.configuration import network
from runtimes.dl4j.registry import LAYERS, PREPROCESSORS, VERTICES
from tests.support.export_runs import answer, run_export
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.model_repositories import add_copy
from tests.support.protocols import EVERY_PROTOCOL

assert layers  # importing it fills the registry
STORED = {
    "100b3-CustomLayerExample_float": 1,
    "alpha-upsampling": 1,
    "b6-SyntheticCNN": 1,
    "it2020-04-MLPMoon": 2,
    "it2020-04-RnnCsvSequenceClassification1": 1,
}
# DL4J stored no outputs with these models. The shapes of an input and of its output.
WITHOUT_OUTPUTS = {"080-LSTM_1": ((2, 3, 7), (2, 5, 7)), "080-MLP_1": ((4, 3), (4, 5))}


@pytest.fixture(scope="module")
def serving(
    zoo: Path, runtime_environment: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    runtime_environment("dl4j")
    scratch = tmp_path_factory.mktemp("dl4j")
    for name in (*STORED, *WITHOUT_OUTPUTS, "080-CNN_1"):
        add_copy(scratch / "repository", name, [zoo / "dl4j" / name / "model.zip"])
    running = start_gateway(scratch / "repository", scratch).wait_ready()
    yield running
    running.close()


def pairs(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return inputs and the outputs that DL4J stored for them."""
    with np.load(folder / "inputs.npz") as inputs, np.load(folder / "expected.npz") as outputs:
        return [(inputs[name], outputs[name.replace("in", "out")]) for name in inputs.files]


@pytest.mark.parametrize("protocol", EVERY_PROTOCOL)
@pytest.mark.parametrize("name", STORED)
def test_answers_equal_dl4js(zoo: Path, serving: Gateway, name: str, protocol: str) -> None:
    """All rows together, and the first one alone."""
    stored = pairs(zoo / "dl4j" / name)
    assert len(stored) == STORED[name]
    for given, wanted in stored:
        for rows in (slice(None), slice(0, 1)):
            answer = EVERY_PROTOCOL[protocol](serving, name, {"in": given[rows]})["out"]
            assert answer.shape == wanted[rows].shape
            np.testing.assert_allclose(answer, wanted[rows], rtol=0, atol=1e-5)


@pytest.mark.parametrize("protocol", EVERY_PROTOCOL)
@pytest.mark.parametrize("name", WITHOUT_OUTPUTS)
def test_answers_have_the_right_shape(serving: Gateway, name: str, protocol: str) -> None:
    given, wanted = WITHOUT_OUTPUTS[name]
    sample = np.random.default_rng(0).normal(size=given).astype(np.float32)
    answer = EVERY_PROTOCOL[protocol](serving, name, {"in": sample})["out"]
    assert (answer.shape, answer.dtype) == (wanted, np.float32)
    # Softmax over the classes, [N, classes] or [N, classes, time].
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-5)


def test_a_file_that_contradicts_itself_is_refused(serving: Gateway) -> None:
    """The preprocessor expects images of 28 x 28, but the last layer's weights fit 26 x 26. DL4J runs it on neither."""
    status = serving.index()["080-CNN_1", "1"]
    assert status["state"] == "UNAVAILABLE"
    assert "layer 2 'layer2' (OutputLayer): it expects sizes of [2028] but gets [2352]" in status["reason"]


def test_what_is_called_stored_is_here(zoo: Path) -> None:
    """The layers with the evidence "stored" are exactly those in networks that DL4J stored outputs for."""
    found: set[str] = set()
    for name in STORED:
        for node in network(read(str(zoo / "dl4j" / name / "model.zip")).configuration).nodes:
            found |= {node.kind, *([node.preprocessor.kind] if node.preprocessor else [])}
    for table in (LAYERS, PREPROCESSORS, VERTICES):
        stored = {kind for kind, entry in table.items() if entry.evidence == "stored"}
        assert stored == found & set(table)


# Sizes that an export needs, but the file does not record.
SIZES = {
    "080-LSTM_1": (1, 3, 6),
    "alpha-upsampling": (1, 1, 28, 28),
    "b6-SyntheticCNN": (1, 1, 28, 28),
    "it2020-04-RnnCsvSequenceClassification1": (1, 1, 60),
}


@pytest.mark.parametrize("target", ["onnx", "tflite"])
@pytest.mark.parametrize("name", [*STORED, *WITHOUT_OUTPUTS])
def test_exports_are_proven(zoo: Path, name: str, target: str, tmp_path: Path) -> None:
    add_copy(tmp_path / "repository", name, [zoo / "dl4j" / name / "model.zip"])
    shapes = {"in": SIZES[name]} if name in SIZES else {}
    report = run_export(name, target, tmp_path / "out", repository=tmp_path / "repository", shapes=shapes)
    assert all(within(each, 1e-4) for run in report.runs for each in run.differences)
    if name in STORED:
        given, wanted = pairs(zoo / "dl4j" / name)[0]
        (tmp_path / "scratch").mkdir()
        found = answer(target, tmp_path / "out", {"in": given}, tmp_path / "scratch")["out"]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
