"""Models with operators of torchvision and torchaudio themselves, in environments that `extras` in model.toml builds.

They need wheels for the same build of PyTorch as the one that pip finds, which not every index has.
"""

import json
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from gateway.environments.model_packages import with_model_packages
from gateway.environments.runtime import discover
from tests.support.environments import ready_environment
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.model_repositories import add_copy
from tests.support.protocols import EVERY_PROTOCOL

MAKE = Path(__file__).parent / "make_torch_extras.py"
MODELS = {
    "torchvision": ("vision_script", "vision_program"),
    "torchaudio": ("audio_script", "audio_program", "aligner"),
}
pytestmark = pytest.mark.runtime("torchscript")


class Served(NamedTuple):
    gateway: Gateway
    folder: Path


@pytest.fixture(scope="module", params=list(MODELS))
def served(
    request: pytest.FixtureRequest, runtime_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    package, folder = request.param, tmp_path_factory.mktemp(request.param)
    runtime = discover()["torchscript"]
    (wanted,) = runtime.extras[package]["cpu"]
    require_same_build(runtime_python("torchscript"), wanted)
    extended = with_model_packages(runtime, Path("nowhere"), extras=(package,))
    command = [ready_environment(extended).python, "-I", MAKE, folder, package]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    for name in MODELS[package]:
        (file,) = folder.glob(f"{name}.pt*")
        add_copy(folder / "repository", name, [file], toml=f'extras = ["{package}"]\n')
    running = start_gateway(folder / "repository", folder).wait_ready()
    yield Served(running, folder)
    running.close()


def require_same_build(python: Path, wanted: str) -> None:
    """Skip the test unless pip finds the package for the build of PyTorch that the interpreter has."""
    has = "import importlib.metadata; print(importlib.metadata.version('torch'))"
    torch = subprocess.run([python, "-I", "-c", has], capture_output=True, text=True, check=True).stdout.strip()
    find = [python, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps", "--ignore-installed"]
    found = subprocess.run(
        [*find, "--only-binary", ":all:", "--report", "-", wanted], capture_output=True, text=True, timeout=240
    )
    assert found.returncode == 0, found.stderr[-2000:]
    (package,) = json.loads(found.stdout)["install"]
    version = package["metadata"]["version"]
    if torch.partition("+")[2] != version.partition("+")[2]:
        pytest.skip(
            f"pip finds {wanted} as {version}, which is not of the same build as PyTorch {torch}: PIP_EXTRA_INDEX_URL "
            "or PIP_FIND_LINKS can name a place that has one, such as PyTorch's index of CPU builds"
        )
    if "+" not in torch and (sys.platform, platform.machine()) == ("linux", "x86_64"):
        pytest.skip("pip finds CUDA builds, whose environments take 5 GB each")


@pytest.mark.parametrize("protocol", EVERY_PROTOCOL)
def test_answers_equal_those_of_the_package(served: Served, protocol: str) -> None:
    for file in served.folder.glob("*.npz"):
        with np.load(file) as stored:
            arrays: dict[str, Any] = dict(stored)
        expected = {name: arrays.pop(name) for name in list(arrays) if name.startswith("OUTPUT__")}
        outputs = EVERY_PROTOCOL[protocol](served.gateway, file.stem, arrays)
        assert list(outputs) == list(expected)
        for name, array in expected.items():
            np.testing.assert_allclose(outputs[name], array, rtol=0, atol=1e-6, err_msg=f"{file.stem} {name}")
