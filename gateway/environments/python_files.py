"""Searches the usual folders for files that may be Python interpreters."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

_NAME = re.compile(r"python(3(\.\d+)?)?")


def python_files() -> Iterator[Path]:
    """Yield executables with the name of a Python, each once. They need not run."""
    seen = set()
    for folder in _folders():
        for file in sorted(folder.glob("python*")):
            if not _NAME.fullmatch(file.name) or not file.is_file() or not os.access(file, os.X_OK):
                continue
            # python and python3 usually link to python3.X, but the shims of some version managers link to one program.
            target = file.resolve()
            identity = target if _NAME.fullmatch(target.name) else file
            if identity not in seen:
                seen.add(identity)
                yield file


def _folders() -> Iterator[Path]:
    for entry in os.environ.get("PATH", "").split(os.pathsep):
        if os.path.isabs(entry):
            yield Path(entry)
    yield from sorted(_setting("PYENV_ROOT", "~/.pyenv").glob("versions/*/bin"))
    data = _setting("XDG_DATA_HOME", "~/.local/share")
    yield from sorted(_setting("UV_PYTHON_INSTALL_DIR", str(data / "uv" / "python")).glob("*/bin"))
    for prefix in (os.environ.get("HOMEBREW_PREFIX"), "/opt/homebrew", "/home/linuxbrew/.linuxbrew", "/usr/local"):
        if prefix:
            yield Path(prefix) / "bin"
            yield from sorted(Path(prefix).glob("opt/python@3*/bin"))
    yield from sorted(Path("/Library/Frameworks/Python.framework/Versions").glob("3.*/bin"))
    yield Path("/usr/bin")


def _setting(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or default).expanduser()
