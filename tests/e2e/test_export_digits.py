"""The digit classifiers, exported for a phone and a browser, recognize as many held-out digits as the originals."""

import json
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from gateway.export.comparison import within
from tests.support import ROOT
from tests.support.environments import RUNTIMES
from tests.support.export_runs import answer, answer_of, run_export

REPORTED = json.loads((ROOT / "examples/digits/accuracy.json").read_text())
LABELS = [str(digit) for digit in range(10)]


def held_out() -> tuple[np.ndarray, np.ndarray]:
    with np.load(ROOT / "examples/digits/heldout.npz") as file:
        return file["image"].astype(np.float32), file["label"]


@pytest.mark.parametrize("target", ["tflite", "tfjs"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_accuracy_is_the_originals(runtime: str, target: str, tmp_path: Path) -> None:
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    scratch.mkdir()
    report = run_export(f"digits_{runtime}", target, out)
    assert [each[0] for each in report.inputs] == ["image"]
    assert [each[0] for each in report.outputs] == ["scores"]
    assert all(within(each, 1e-4) and each.top1 == 1.0 for run in report.runs for each in run.differences)
    images, labels = held_out()
    scores = answer(target, out, {"image": images}, scratch)["scores"]
    assert float((scores.argmax(axis=1) == labels).mean()) == pytest.approx(REPORTED[f"digits_{runtime}"], abs=1e-9)
    if target == "tfjs" and runtime in ("onnx", "savedmodel"):  # the gateway serves it, too
        (scratch / "served").mkdir()
        served = answer_of("savedmodel", out / "model.json", {"image": images}, scratch / "served")["scores"]
        np.testing.assert_allclose(served, scores, rtol=0, atol=1e-5)


def test_labels_lie_in_the_file(tmp_path: Path) -> None:
    """The labels are in a zip archive appended to the model, where Android Studio and TFLite's tools look for them."""
    run_export("digits_onnx", "tflite", tmp_path / "out")
    with ZipFile(tmp_path / "out" / "model.tflite") as archive:
        assert archive.read("labels_scores.txt").decode().split() == LABELS


@pytest.mark.parametrize("precision", ["float16", "dynamic", "int8"])
def test_quantised(precision: str, tmp_path: Path) -> None:
    check, calibrate = tmp_path / "check.npz", tmp_path / "calibrate.npz"
    images, labels = held_out()
    np.savez(check, image=images[100:])
    np.savez(calibrate, image=images[:100])
    whole = run_export("digits_savedmodel", "tflite", tmp_path / "whole", check=check)
    out = tmp_path / "out"
    report = run_export(
        "digits_savedmodel", "tflite", out, precision=precision, check=check,
        calibrate=calibrate if precision == "int8" else None,
    )  # fmt: skip
    assert report.exported.bytes < whole.exported.bytes
    (tmp_path / "scratch").mkdir()
    scores = answer("tflite", out, {"image": images[100:]}, tmp_path / "scratch")["scores"]
    assert float((scores.argmax(axis=1) == labels[100:]).mean()) > REPORTED["digits_savedmodel"] - 0.01
