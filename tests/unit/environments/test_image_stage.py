"""Dockerfile.gpu builds environments with a part of the gateway, so that other changes do not rebuild them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT

DOCKERFILE = (ROOT / "Dockerfile.gpu").read_text()
# Packages that the image's build stage does not install.
ABSENT = ("fastapi", "uvicorn", "uvloop", "orjson", "numpy", "grpc", "google.protobuf", "psutil", "PIL")
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


def test_a_module_is_compiled_only_where_there_is_a_compiler_and_then_it_must_be_there() -> None:
    """The module is optional, so an image could lack it."""
    assert "setup.py" not in DOCKERFILE.split("AS gateway")[0]
    stage = _stage("gateway")
    assert stage.index(" gcc ") < stage.index("COPY setup.py ") < stage.index("-c 'import gateway.front.fast_path'")
