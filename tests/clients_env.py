"""Real clients, each in an environment and a process of its own: their generated code and ours collide in one."""

import subprocess
import sys
from pathlib import Path

from gateway.config import home


def client_python(name: str, *requirements: str) -> Path:
    """The interpreter of a virtual environment with these packages, built once under MODELPORT_HOME."""
    folder = home() / "test-clients" / name
    python, marker = folder / "bin" / "python", folder / "complete"
    if not marker.exists() or marker.read_text() != "\n".join(requirements):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *requirements], check=True)
        marker.write_text("\n".join(requirements))
    return python


def run_client(python: Path, script: Path, *arguments: str) -> str:
    """What the script prints; fails with what it complains about."""
    done = subprocess.run(
        [str(python), "-I", str(script), *arguments], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
