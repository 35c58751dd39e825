"""Real clients, each in its own environment and process, because their generated code collides with the gateway's."""

import subprocess
import sys
from pathlib import Path

from gateway.config import home


def client_python(name: str, *requirements: str, alone: tuple[str, ...] = ()) -> Path:
    """The interpreter of a virtual environment with these packages, built once under MODELPORT_HOME.

    `alone`: packages to install without their dependencies, which `requirements` has under other names.
    """
    folder = home() / "test-clients" / name
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


def run_client(python: Path, script: Path, *arguments: str) -> str:
    """Return the script's output. Fails with it if the script fails."""
    done = subprocess.run(
        [str(python), "-I", str(script), *arguments], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
