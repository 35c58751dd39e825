"""A model that its authors ship in four formats: our exports of two of them agree with the other two."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.export_runs import answer, run_export

# The name of the same output in each format. Two outputs have the same shape, so names and order matter.
NAMES = {
    "savedmodel": {"contour": "contour", "note": "note", "onset": "onset"},
    "onnx": {
        "contour": "StatefulPartitionedCall:0",
        "note": "StatefulPartitionedCall:1",
        "onset": "StatefulPartitionedCall:2",
    },
    "tfjs": {"contour": "Identity", "note": "Identity_1", "onset": "Identity_2"},
}
SOURCES = {"savedmodel": "basic-pitch-nmp/nmp", "onnx": "basic-pitch-nmp/nmp.onnx"}
SHIPPED = {"tflite": ("tflite/basic-pitch-nmp", "onnx"), "tfjs": ("tfjs/basic-pitch", "tfjs")}


@pytest.mark.parametrize("target", ["tflite", "tfjs"])
@pytest.mark.parametrize("source", ["savedmodel", "onnx"])
def test_it_agrees_with_what_its_authors_ship(zoo: Path, source: str, target: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = run_export(
        str(zoo / source / SOURCES[source]), target, out, check=zoo / source / "basic-pitch-nmp" / "inputs.npz"
    )
    shipped, theirs = SHIPPED[target]
    with np.load(zoo / shipped / "inputs.npz") as given, np.load(zoo / shipped / "expected.npz") as expected:
        inputs = {report.inputs[0][0]: given[given.files[0]]}
        wanted = {name: expected[NAMES[theirs][name]] for name in NAMES["savedmodel"]}
    (tmp_path / "scratch").mkdir()
    answered = answer(target, out, inputs, tmp_path / "scratch")
    assert sorted(answered) == sorted(NAMES[source].values())
    for name, array in wanted.items():
        np.testing.assert_allclose(answered[NAMES[source][name]], array, atol=1e-4, rtol=0)
