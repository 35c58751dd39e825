"""Real clients, each in its own environment and process, because their generated code collides with the gateway's."""

import fcntl
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

from gateway.config import home
from tests.support import ROOT
from tests.support.gateway_process import add_plugin

# One environment for both, because each has pyarrow and pandas. Spark 4.3 does not fully support pandas 3.
ENGINES = ("pyspark==4.3.0", "ray[data,serve]==2.60.0", "pandas>=2,<3", "pyarrow>=15")


def client_python(name: str, *requirements: str, alone: tuple[str, ...] = ()) -> Path:
    """The interpreter of a virtual environment with these packages, built once under MODELPORT_HOME.

    `alone`: packages to install without their dependencies, which `requirements` has under other names.
    """
    folder = home() / "test-clients" / name
    folder.mkdir(parents=True, exist_ok=True)
    # Another process of the test run may need it at the same time.
    with open(folder.with_name(f"{name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _built(folder, requirements, alone)


def engines_python() -> Path:
    """The interpreter of an environment with Spark, Ray, and this checkout of modelport with the fake runtime."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    python = client_python("engines", *project["dependencies"], *ENGINES)
    (packages,) = python.parent.parent.glob("lib/python3*/site-packages")
    # Finds the entry points too, in the folder that `pip install --editable` has left in the checkout.
    (packages / "checkout.pth").write_text(f"{ROOT}\n{add_plugin(packages)}\n")
    return python


def _built(folder: Path, requirements: tuple[str, ...], alone: tuple[str, ...]) -> Path:
    python, marker = folder / "bin" / "python", folder / "complete"
    expected = "\n".join((*requirements, *alone))
    if not marker.exists() or marker.read_text() != expected:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, *requirements], check=True)
        if alone:
            subprocess.run([*install, "--no-deps", *alone], check=True)
        marker.write_text(expected)
    return python


def run_client(python: Path, script: Path, *arguments: str, cwd: Path | None = None, **environment: str) -> str:
    """Return the script's output. Fails with it if the script fails, or takes 240 s.

    environment: additional variables.
    """
    process = subprocess.Popen(
        [str(python), "-I", "-X", "faulthandler", str(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=os.environ | environment,
    )
    try:
        stdout, stderr = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # Python writes where it waits, since faulthandler is on
        stdout, stderr = process.communicate()
    assert process.returncode == 0, stdout + stderr
    return stdout
