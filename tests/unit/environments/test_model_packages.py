"""The runtime of a model that names packages: equal requests share it, different ones do not, and none runs code."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.environments.environment import EnvironmentUnavailable, build, locate
from gateway.environments.errors import BrokenRequirements
from gateway.environments.model_packages import read_requirements, with_model_packages
from gateway.environments.runtime import Runtime, discover

PYTHON = discover()["python"]


def of(folder: Path, requirements: str = "", python: str = "", runtime: Runtime = PYTHON) -> Runtime:
    folder.mkdir(exist_ok=True)
    (folder / "requirements.txt").write_text(requirements)
    return with_model_packages(runtime, folder, python)


def test_a_model_without_packages_has_the_runtime_itself(tmp_path: Path) -> None:
    assert with_model_packages(PYTHON, tmp_path) is PYTHON
    assert of(tmp_path, "# nothing\n\n") is PYTHON


def test_equal_requests_share_an_environment_and_others_do_not(tmp_path: Path) -> None:
    first = of(tmp_path / "a", "emoji==2.15.0\npillow >= 10 # pictures\n")
    assert first == of(tmp_path / "b", "# the same\npillow>=10\n\nemoji==2.15.0")
    assert first.name.startswith("python-")
    assert first.installed_name == first.backend("python") == "python"
    assert first.requirements["cpu"] == ("numpy", "emoji==2.15.0", "pillow>=10")
    others = [of(tmp_path / "c", "emoji==2.14.0"), of(tmp_path / "d", "emoji==2.15.0", "3.11")]
    assert len({each.name for each in (PYTHON, first, *others)}) == 4
    assert others[1].pythons == "==3.11.*"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--extra-index-url http://x", "line 1 of its requirements.txt is an option of pip"),
        ("-r other.txt", "is an option of pip"),
        ("-e .", "is an option of pip"),
        ("tiny==1.0 --hash=sha256:00", "is an option of pip"),
        ("tiny @ https://example.com/tiny.tar.gz", "is a URL"),
        ("git+https://example.com/tiny", "does not name a package"),
        ("./tiny", "does not name a package"),
    ],
)
def test_only_packages_of_the_index_are_accepted(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(BrokenRequirements, match=said) as caught:
        of(tmp_path, line)
    assert "example.com" not in str(caught.value)


@pytest.mark.parametrize(("content", "said"), [(b"\xff", "is not UTF-8"), (b"#" * 300_000, "over the limit")])
def test_an_unreadable_file_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "requirements.txt").write_bytes(content)
    with pytest.raises(BrokenRequirements, match=said):
        read_requirements(tmp_path / "requirements.txt")


def test_a_python_version_must_be_one_that_the_runtime_supports(tmp_path: Path) -> None:
    with pytest.raises(BrokenRequirements, match=r"names Python 3\.6, but its runtime needs Python 3\.8 or newer"):
        of(tmp_path, python="3.6")
    with pytest.raises(BrokenRequirements, match="but ONNX Runtime chooses its own; remove"):
        with_model_packages(discover()["onnx"], tmp_path, "3.12")


def test_locks_do_not_cover_the_packages_of_models(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentUnavailable, match="which no lock covers: turn require_locks off"):
        locate(of(tmp_path, "tiny==1.0"), "cpu", tmp_path, require_lock=True)


def test_a_package_that_would_have_to_be_built_is_refused(tmp_path, runtime, wheel):
    """To build it would run its code outside of the sandbox."""
    wheel("base")
    source = tmp_path / "wheels" / "tiny-1.0.tar.gz"
    source.write_bytes(b"not even read")
    base = replace(runtime("base==1.0"), model_requirements="requirements.txt")
    wanted = of(tmp_path / "model", "tiny==1.0", runtime=base)
    environment = locate(wanted, "cpu", tmp_path / "home")
    with pytest.raises(EnvironmentUnavailable):
        asyncio.run(build(environment, lambda line: None))
    wheel("tiny")
    asyncio.run(build(environment, lambda line: None))
    assert {"base", "tiny"} <= set(environment.installed)
    assert os.path.basename(str(environment.folder)).startswith(f"{wanted.name}-cpu-")
