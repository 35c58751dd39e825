"""The reference reproduces the outputs that DL4J stored with its models, and runs every network."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.unit.runtimes.dl4j import arrays, reference, zips
from tests.unit.runtimes.dl4j.networks import NETWORKS

STORED = ("b6-SyntheticCNN", "it2020-04-MLPMoon", "it2020-04-RnnCsvSequenceClassification1")


def last_floats(content: bytes, n: int) -> np.ndarray:
    return np.frombuffer(content[-4 * n :], ">f4").astype(np.float64)


@pytest.mark.parametrize("case", STORED)
def test_it_gives_the_answers_that_dl4j_stored(zoo: Path, case: str) -> None:
    folder = zoo / "dl4j" / case
    if not folder.is_dir():
        pytest.skip(f"this zoo has no dl4j/{case}")
    with zipfile.ZipFile(folder / "model.zip") as file:
        configuration, content = json.loads(file.read("configuration.json")), file.read("coefficients.bin")
    row = last_floats(content, reference.parameter_count(configuration))
    assert arrays.array(row) == content
    inputs, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    for name in inputs.files:
        (output,) = reference.forward(configuration, row, [inputs[name]])
        np.testing.assert_allclose(output, expected[name.replace("in", "out")], rtol=0, atol=2e-7)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_runs(name: str) -> None:
    network = NETWORKS[name]
    outputs = network.outputs()
    assert len(outputs) == len(network.configuration.get("networkOutputs", [0]))
    for each in outputs:
        assert np.isfinite(each).all()
        assert each.std() > 0.01  # constant numbers would not reveal a mistake
    json.dumps(network.configuration)


def test_one_dimensional_convolutions_were_read_differently_before_m1() -> None:
    """Before M1, the order is [out, in, k], as in the parameter's shape."""
    network = NETWORKS["convolution_1d"]
    row, inputs = network.coefficients(), list(network.samples().values())
    (old,) = reference.forward(reference.before_m1(network.configuration), row, inputs)
    weights, bias = row[5:].reshape(5, 3, 4), row[:5]
    windows = np.lib.stride_tricks.sliding_window_view(inputs[0].astype(float), 4, axis=2)
    np.testing.assert_allclose(old, np.tanh(np.einsum("nctk,ock->not", windows, weights) + bias[:, None]), atol=1e-12)
    assert np.abs(old - network.outputs()[0]).max() > 0.1


@pytest.mark.parametrize(
    ("era", "dtype", "case"),
    [
        ("JAVACPP", "FLOAT", "080-MLP_1"),
        ("LONG_SHAPE", "FLOAT", "100b3-CustomLayerExample_float"),
        ("MIXED_DATA_TYPES", "FLOAT", "it2020-04-MLPMoon"),
    ],
)
def test_zips_are_written_as_dl4j_writes_them(zoo: Path, tmp_path: Path, era: str, dtype: str, case: str) -> None:
    with zipfile.ZipFile(zoo / "dl4j" / case / "model.zip") as file:
        content = file.read("coefficients.bin")
    head = len(arrays.array(np.zeros(0), dtype, era))
    row = np.frombuffer(content[head:], ">f4")
    zips.write(tmp_path / "model.zip", {"confs": []}, row, era=era, dtype=dtype)
    with zipfile.ZipFile(tmp_path / "model.zip") as file:
        assert file.read("coefficients.bin") == content
        assert json.loads(file.read("configuration.json")) == {"confs": []}
