"""The command `modelport export`, run as a user runs it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import ROOT

COMMAND = [sys.executable, "-m", "gateway", "export"]


def run(*arguments: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=200, env=environment, cwd=cwd)


def test_it_tells_what_it_did(tmp_path: Path, runtime_environment: Callable[[str], Any]) -> None:
    runtime_environment("onnx")
    out = tmp_path / "made" / "here"
    done = run("digits_onnx", "--to", "onnx", "--out", str(out))
    assert done.returncode == 0, done
    assert "digits_onnx version 1: onnx → onnx, float32" in done.stdout
    assert {"model.onnx", "export.json"} <= {file.name for file in out.iterdir()}
    assert [file.name for file in out.parent.iterdir()] == ["here"]
    again = run("digits_onnx", "--to", "onnx", "--out", str(out))
    assert (again.returncode, "exists already" in again.stderr) == (1, True)
    assert run("digits_onnx", "--to", "onnx", "--out", str(out), "--overwrite").returncode == 0


def test_an_artifact_by_its_path(tmp_path: Path, runtime_environment: Callable[[str], Any]) -> None:
    runtime_environment("onnx")
    done = run(str(ROOT / "model_repo/digits_onnx/1/model.onnx"), "--to", "onnx", cwd=tmp_path)
    assert done.returncode == 0, done
    assert (tmp_path / "model-onnx" / "model.onnx").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_leaves_nothing(
    number: signal.Signals, tmp_path: Path, runtime_environment: Callable[[str], Any]
) -> None:
    runtime_environment("onnx")
    process = subprocess.Popen(
        [*COMMAND, "digits_onnx", "--to", "onnx", "--out", str(tmp_path / "out")],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=ROOT, start_new_session=True,
        # If a shell runs the tests in the background, they ignore SIGINT, and so would their child processes.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stderr is not None
    before = []
    for line in process.stderr:
        before.append(line)
        if "loading" in line:
            break
    else:
        pytest.fail(f"it ended on its own: {before}")
    process.send_signal(number)
    _, said = process.communicate(timeout=100)
    assert (process.returncode, "nothing was written" in said) == (130, True), said
    assert list(tmp_path.iterdir()) == []


def test_what_came_out_and_differs_is_no_export(tmp_path: Path, runtime_environment: Callable[[str], Any]) -> None:
    """FP16 differs from FP32, which a tolerance of zero does not allow; the error says by how much."""
    runtime_environment("onnx")
    arguments = ("digits_onnx", "--to", "onnx", "--quantize", "float16", "--tolerance", "0")
    done = run(*arguments, "--out", str(tmp_path / "out"))
    assert (done.returncode, "output 'scores' differs by" in done.stderr) == (1, True), done
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nobody", "--to", "onnx"), "there is no model 'nobody'"),
        (("digits_onnx", "--to", "onnx", "--version", "7"), "has no version '7'"),
        (("digits_onnx", "--to", "tflite", "--quantize", "int8"), "--calibrate DATA.npz"),
        (("digits_onnx", "--to", "onnx", "--shape", "image"), "use NAME=SIZES"),
        (("digits_onnx", "--to", "onnx", "--repository", "nowhere"), "does not exist"),
        (("digits_onnx", "--to", "onnx", "--shape", "picture=1,8"), "has no input 'picture' for --shape"),
        (("digits_onnx", "--to", "onnx", "--shape", "image=1,8"), "--shape image is [1, 8], but the model expects"),
        (("digits_onnx", "--to", "onnx", "--tolerance", "nan"), "--tolerance is nan: it must be"),
        (("digits_onnx", "--to", "onnx", "--tolerance", "-1"), "--tolerance is -1.0: it must be"),
        (("model_repo", "--to", "onnx"), "models: give one artifact's path"),
        (("digits_onnx",), "give MODEL and --to, or --list"),
        (("digits_onnx", "--to", "onnx", "--check", "nothing.npz"), "cannot be read"),
        (("digits_onnx", "--to", "onnx", "--check", "README.md"), "is not an npz"),
        (("digits_onnx", "--to", "onnx", "--signature", "other"), "there is no signature 'other'"),
    ],
)
def test_what_is_wrong_is_said(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = run(*arguments, "--out", str(tmp_path / "out"))
    assert (done.returncode != 0, message in done.stderr) == (True, True), done
    assert list(tmp_path.iterdir()) == []


def test_inputs_that_do_not_fit_are_said(tmp_path: Path) -> None:
    for name, array in {"wide": np.zeros((2, 65), np.float32), "words": np.array([["a"] * 64])}.items():
        np.savez(tmp_path / f"{name}.npz", image=array)
        done = run(
            "digits_onnx", "--to", "onnx", "--out", str(tmp_path / "o"), "--check", str(tmp_path / f"{name}.npz")
        )
        assert (done.returncode, "the model expects" in done.stderr) == (1, True), done
    np.savez(tmp_path / "other.npz", picture=np.zeros((2, 64), np.float32), words=np.zeros(2))
    done = run("digits_onnx", "--to", "onnx", "--out", str(tmp_path / "o"), "--check", str(tmp_path / "other.npz"))
    assert (done.returncode, "must hold an array for each of the inputs image" in done.stderr) == (1, True), done


def test_recorded_inputs_are_taken(tmp_path: Path, runtime_environment: Callable[[str], Any]) -> None:
    runtime_environment("onnx")
    model = tmp_path / "repository" / "digits"
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.onnx").write_bytes((ROOT / "model_repo/digits_onnx/1/model.onnx").read_bytes())
    np.savez(model / "samples.npz", **{"image.0": np.ones((3, 64), np.float32), "image.1": np.zeros((1, 64))})
    done = run("digits", "--to", "onnx", "--repository", str(tmp_path / "repository"), "--out", str(tmp_path / "out"))
    assert (done.returncode, "matches the original on 2 inputs (recorded in samples.npz)" in done.stdout) == (
        0,
        True,
    ), done


def test_the_list_names_pairs_routes_and_environments() -> None:
    done = run("--list")
    assert done.returncode == 0
    for word in ("torchscript", "savedmodel", "mxnet", "onnx", "tflite", "tfjs", "litert-torch", "export-tf"):
        assert word in done.stdout


def test_only_an_export_is_replaced(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear")
    for out in (mine, tmp_path / "mine" / "letter.txt"):
        done = run("digits_onnx", "--to", "onnx", "--out", str(out), "--overwrite")
        assert (done.returncode, "is not an export, so --overwrite does not replace it" in done.stderr) == (1, True), (
            done
        )
    here = run("digits_onnx", "--to", "onnx", "--out", ".", "--overwrite", cwd=mine)
    assert (here.returncode, "contains the current folder" in here.stderr) == (1, True), here
    assert (mine / "letter.txt").read_text() == "dear"


def test_weights_in_a_file_of_their_own_go_along(tmp_path: Path, runtime_environment: Callable[[str], Any]) -> None:
    import onnx

    runtime_environment("onnx")
    model = onnx.load(ROOT / "model_repo/digits_onnx/1/model.onnx")
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    done = run(str(tmp_path / "net.onnx"), "--to", "onnx", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done
    assert (tmp_path / "out" / "net.onnx.data").stat().st_size > 10_000
