"""Files of PyTorch answer as PyTorch itself, in every protocol.

Among them are nested values, lists, texts, optional arguments, files of the Lite Interpreter, files that other versions
of PyTorch saved, and AOTInductor packages, whose shared library is loaded inside the sandbox.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support import ROOT
from tests.support.environments import skip_or_fail
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.protocols import EVERY_PROTOCOL, PROTOCOLS

MAKE = Path(__file__).parent / "make_pytorch.py"
# A folder for each version, with what it saved: see the file make.py there.
VERSIONS = Path(__file__).parent / "pytorch_versions"
SAVED = {f"{file.parent.name}_{file.stem}": file for file in sorted(VERSIONS.glob("*/*.pt*"))}
CASES = {
    "detector": "detector",
    "recurrent": "recurrent",
    "masked": "masked",
    "unmasked": "masked",
    "updates": "updates",
    "shouts": "shouts",
    "lite": "lite",
    "compiled": "compiled",
    "declared": "declared",
    **{name: name for name in SAVED},
}
NO_COMPILER = "AOTInductor needs a C++ compiler, and there is no g++"
COMPILED = ("compiled", "declared")
pytestmark = pytest.mark.runtime("torchscript")


@pytest.fixture(scope="module")
def made(runtime_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pytorch")
    command = [runtime_python("torchscript"), "-I", "-W", "ignore", MAKE, folder]
    env = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    for name, file in SAVED.items():
        place_saved(folder, name, file)
    return folder


def place_saved(folder: Path, name: str, file: Path) -> None:
    """Put a file of another version into the repository, and its inputs and expected outputs beside the others."""
    version = folder / "repository" / name / "1"
    version.mkdir(parents=True)
    shutil.copy(file, version / f"model{file.suffix}")
    values = json.loads((file.parent / "expected.json").read_text())
    np.savez(folder / f"{name}.inputs.npz", x=np.array(values["x"], np.float32), ids=np.array(values["ids"]))
    outputs = {key: np.array(value) for key, value in values.items() if key not in ("x", "ids")}
    if file.suffix == ".pt":
        outputs = {"OUTPUT__0": outputs["scores"], "OUTPUT__1": outputs["parts_1"]}
    np.savez(folder / f"{name}.expected.npz", **outputs)


@pytest.fixture(scope="module")
def serving(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    running = start_gateway(made / "repository", tmp_path_factory.mktemp("gateway"), "--allow-python").wait_ready()
    yield running
    running.close()


def arrays(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as stored:
        return {
            name: stored[name].astype(object) if stored[name].dtype.kind == "S" else stored[name] for name in stored
        }


@pytest.mark.parametrize(
    ("case", "protocol"),
    # TensorFlow Serving's helper reads numbers only.
    [(case, protocol) for case in CASES for protocol in EVERY_PROTOCOL if (case, protocol) != ("shouts", "tfserving")],
)
def test_answers_equal_pytorch(made: Path, serving: Gateway, case: str, protocol: str) -> None:
    if case in COMPILED and not shutil.which("g++"):
        skip_or_fail(NO_COMPILER)
    inputs, expected = arrays(made / f"{case}.inputs.npz"), arrays(made / f"{case}.expected.npz")
    outputs = EVERY_PROTOCOL[protocol](serving, CASES[case], inputs)
    if list(outputs) == [""]:
        outputs = {next(iter(expected)): outputs[""]}
    assert sorted(outputs) == sorted(expected)
    for name, array in expected.items():
        answer = outputs[name]
        assert answer.shape == array.shape, name
        if array.dtype == object:
            assert [str(each) for each in answer.ravel()] in (
                [str(each) for each in array.ravel()],
                [each.decode() for each in array.ravel()],
            )
        else:
            np.testing.assert_allclose(answer, array, rtol=0, atol=1e-5, err_msg=name)


def test_rows_of_compiled_code_run_together_and_alone(made: Path, serving: Gateway) -> None:
    if not shutil.which("g++"):
        skip_or_fail(NO_COMPILER)
    assert any("declared version 1 is READY, batching up to 32 rows" in line for line in serving.log), serving.log
    inputs, expected = arrays(made / "declared.inputs.npz"), arrays(made / "declared.expected.npz")
    row = PROTOCOLS["v2-binary"](serving, "declared", {name: array[1:] for name, array in inputs.items()})
    for name, array in expected.items():
        np.testing.assert_allclose(row[name], array[1:], rtol=0, atol=1e-5)


def test_a_profile_says_what_compiled_code_does_not_show(made: Path, tmp_path: Path) -> None:
    if not shutil.which("g++"):
        skip_or_fail(NO_COMPILER)
    command = [sys.executable, "-m", "gateway", "profile", "declared", "--repository", made / "repository"]
    command += ["--allow-python", "--seconds", "0.01", "--batch-sizes", "2", "--threads", "1", "--output", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done
    notes = json.loads((tmp_path / "profile.json").read_text())["notes"]
    assert "operators are not timed: PyTorch's profiler does not see what AOTInductor has compiled" in notes
    assert "the file has no graph to show: AOTInductor has compiled it into a library" in notes


@pytest.mark.parametrize(
    ("model", "inputs", "words"),
    [
        ("compiled", {"INPUT__0": [[1.0, 2.0]], "INPUT__1": [[0.0] * 3]}, "input 'INPUT__0' does not fit"),
        (
            "compiled",
            {"INPUT__0": [[1.0] * 4] * 3, "INPUT__1": [[0.0] * 3]},
            "shapes of the inputs do not match each other",
        ),
        (
            "compiled",
            {"INPUT__0": [[1.0] * 4], "INPUT__1": [[0.0] * 3] * 5},
            "shapes of the inputs do not match each other",
        ),
        ("detector", {"images_0": [[1.0]], "images_2": [[1.0]]}, "input 'images_1' is missing"),
        ("recurrent", {"x": [[[1.0] * 3]], "state_0": [[[1.0] * 4]]}, "input 'state_1' is missing"),
    ],
)
def test_what_does_not_fit_is_refused(serving: Gateway, model: str, inputs: dict[str, object], words: str) -> None:
    if model == "compiled" and not shutil.which("g++"):
        skip_or_fail(NO_COMPILER)
    reply = serving.post(f"/predict/{model}", {"inputs": inputs})
    assert (reply.status, words in reply.json()["error"]) == (400, True), reply
