"""Real clients, each in an environment and a process of its own: their generated code and ours collide in one."""

import subprocess
import sys
from pathlib import Path

from gateway.config import home


def client_python(name: str, *requirements: str, alone: tuple[str, ...] = ()) -> Path:
    """The interpreter of a virtual environment with these packages, built once under MODELPORT_HOME.

    `alone`: packages to install without what they ask for, since `requirements` has it under another name.
    """
    folder = home() / "test-clients" / name
    python, marker = folder / "bin" / "python", folder / "complete"
    wanted = "\n".join((*requirements, *alone))
    if not marker.exists() or marker.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, *requirements], check=True)
        if alone:
            subprocess.run([*install, "--no-deps", *alone], check=True)
        marker.write_text(wanted)
    return python


def run_client(python: Path, script: Path, *arguments: str) -> str:
    """What the script prints; fails with what it complains about."""
    done = subprocess.run(
        [str(python), "-I", str(script), *arguments], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
