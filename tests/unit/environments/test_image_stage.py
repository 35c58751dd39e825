"""Dockerfile.gpu builds environments with a part of the gateway, so that other changes do not rebuild them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT

# Packages that the image's build stage does not install.
ABSENT = ("fastapi", "uvicorn", "uvloop", "orjson", "numpy", "grpc", "google.protobuf", "psutil", "PIL")
LIST = f"""
import sys
sys.modules.update(dict.fromkeys({ABSENT!r}))
from gateway.cli import main
sys.exit(main(["runtimes", "list"]))
"""


def test_what_is_copied_for_the_environments_is_enough(tmp_path: Path) -> None:
    text = (ROOT / "Dockerfile.gpu").read_text()
    stage = text.split("AS environments")[1].split("\nFROM ")[0]
    for copied in re.findall(r"^COPY ((?:gateway\S* )+)(\S+)$", stage, re.M):
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
