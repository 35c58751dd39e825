"""Dockerfile.gpu builds environments with a part of the gateway, so that other changes do not rebuild them."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.support import ROOT

DOCKERFILE = (ROOT / "Dockerfile.gpu").read_text()
# Packages that the image's build stage does not install.
ABSENT = ("fastapi", "pydantic", "uvicorn", "uvloop", "orjson", "numpy", "grpc", "google.protobuf", "psutil", "PIL")
LIST = f"""
import sys
sys.modules.update(dict.fromkeys({ABSENT!r}))
from gateway.cli import main
sys.exit(main(["runtimes", "list"]))
"""


def _stage(name: str) -> str:
    return DOCKERFILE.split(f"AS {name}")[1].split("\nFROM ")[0]


def test_what_is_copied_for_the_environments_is_enough(tmp_path: Path) -> None:
    for copied in re.findall(r"^COPY ((?:gateway\S* )+)(\S+)$", _stage("environments"), re.M):
        *sources, target = *copied[0].split(), tmp_path / copied[1]
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, target)
    shutil.copytree(ROOT / "runtimes", tmp_path / "runtimes", ignore=shutil.ignore_patterns("__pycache__"))
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "MODELPORT_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", LIST], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "ONNX Runtime" in done.stdout


def test_modules_to_compile_are_named_where_they_are_not_copied_and_tried_where_they_are_compiled() -> None:
    """Without the file, the package cannot be built; without the trial, an image could lack the module."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for module in project["tool"]["setuptools"]["ext-modules"]:
        for source in module["sources"]:
            assert f"touch {source}\n" in _stage("environments")
        assert f"import {module['name']}'" in _stage("gateway")
