"""Model repositories for tests, of fake models and of real ones."""

import json
import shutil
from pathlib import Path
from typing import Any


def add_fake(repository: Path, name: str, version: str = "1", toml: str = "", **described: Any) -> Path:
    """A model of the fake runtime; `described` is its artifact (see runtimes/fake/runtime.py)."""
    folder = repository / name / version
    folder.mkdir(parents=True, exist_ok=True)
    if toml:
        (repository / name / "model.toml").write_text(toml)
    # Put in place with one rename, as a careful user would.
    partial = folder / ".partial"
    partial.write_text(json.dumps(described))
    return partial.rename(folder / "model.fake.json")


def add_copy(repository: Path, name: str, artifacts: list[Path], version: str = "1", toml: str = "") -> Path:
    """A real model, by copying its files into a version folder."""
    folder = repository / name / version
    folder.mkdir(parents=True, exist_ok=True)
    if toml:
        (repository / name / "model.toml").write_text(toml)
    for artifact in artifacts:
        if artifact.is_dir():
            shutil.copytree(artifact, folder / artifact.name, dirs_exist_ok=True)
        else:
            shutil.copy(artifact, folder / artifact.name)
    return folder
