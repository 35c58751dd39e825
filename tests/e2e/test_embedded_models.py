"""Models of real frameworks, loaded by this process: their values are those of the framework."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper

import modelport
from tests.support import ROOT
from tests.support.ended_processes import wait_ended

REPORTED = json.loads((ROOT / "examples/digits/accuracy.json").read_text())
ONNX_PROGRAM = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
numpy.save(sys.argv[3], session.run(None, {"image": numpy.load(sys.argv[2])})[0])
"""


def held_out() -> tuple[np.ndarray, np.ndarray]:
    with np.load(ROOT / "examples/digits/heldout.npz") as file:
        return file["image"].astype(np.float32), file["label"]


@pytest.mark.parametrize("runtime", ["onnx", "savedmodel", "torchscript"])
def test_accuracy_is_what_training_reported(runtime: str, runtime_environment: Callable[[str], Any]) -> None:
    runtime_environment(runtime)
    images, labels = held_out()
    with modelport.load(str(ROOT / "model_repo" / f"digits_{runtime}")) as model:
        scores = np.concatenate([each["scores"] for each in model.batches(images, rows=50)])
    accuracy = float((scores.argmax(axis=1) == labels).mean())
    assert accuracy == pytest.approx(REPORTED[f"digits_{runtime}"], abs=1e-9)


def test_values_are_those_of_the_framework(runtime_environment: Callable[[str], Any], tmp_path: Path) -> None:
    python, artifact = runtime_environment("onnx").python, ROOT / "model_repo/digits_onnx/1/model.onnx"
    images, _ = held_out()
    np.save(tmp_path / "in.npy", images[:32])
    files = [str(tmp_path / "in.npy"), str(tmp_path / "out.npy")]
    subprocess.run([str(python), "-c", ONNX_PROGRAM, str(artifact), *files], check=True)
    with modelport.load(str(artifact)) as model:
        np.testing.assert_array_equal(model.infer(image=images[:32])["scores"], np.load(files[1]))


def test_the_example_runs(runtime_environment: Callable[[str], Any]) -> None:
    runtime_environment("onnx")
    example = ROOT / "examples/embedded/digits_of_five_frameworks.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(example), "digits_onnx"], env=environment, capture_output=True, text=True, check=True
    )
    assert f"{REPORTED['digits_onnx']:.1%} of 355 images right" in done.stdout


def string_model(path: Path) -> None:
    """x: strings [n, 2] → y, each of them twice."""
    node = helper.make_node("StringConcat", ["x", "x"], ["y"])
    tensors = [helper.make_tensor_value_info(name, TensorProto.STRING, ["n", 2]) for name in ("x", "y")]
    graph = helper.make_graph([node], "g", tensors[:1], tensors[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)


def test_strings_and_a_worker_that_is_killed(runtime_environment: Callable[[str], Any], tmp_path: Path) -> None:
    runtime_environment("onnx")
    string_model(tmp_path / "twice.onnx")
    with modelport.load(str(tmp_path / "twice.onnx")) as model:
        assert model.signature.inputs[0] == modelport.TensorSpec("x", "BYTES", (-1, 2))
        waiting = [model.submit(x=[[f"a{number}", "ß"]]) for number in range(200)]
        for child in psutil.Process().children():
            os.kill(child.pid, signal.SIGKILL)
        waiting += [model.submit(x=[[f"a{number}", "ß"]]) for number in range(200, 400)]
        for number, answer in enumerate(waiting):
            assert answer.result(60)["y"].tolist() == [[f"a{number}a{number}".encode(), "ßß".encode()]]


def test_a_program_that_just_ends_leaves_no_process(runtime_environment: Callable[[str], Any], tmp_path: Path) -> None:
    runtime_environment("onnx")
    program = (
        "import modelport, psutil\n"
        f"model = modelport.load({str(ROOT / 'model_repo/digits_onnx')!r})\n"
        "print(*[each.pid for each in psutil.Process().children()])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    pids = [int(pid) for pid in done.stdout.split()]
    assert pids
    assert wait_ended(pids) == []
    assert done.stderr == ""
    assert list(tmp_path.glob("modelport-*")) == []
