"""Models of the fake runtime, loaded in the test's own process."""

import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.embedded import model as embedded
from gateway.environments.runtime import discover, read_runtime
from tests.support import ROOT
from tests.support.model_repositories import add_fake


def use_fake_runtime(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let `modelport.load` find the fake runtime, with the interpreter of the tests."""
    fake = read_runtime(ROOT / "runtimes/fake", "fake")
    monkeypatch.setattr(embedded, "discover", lambda: {**discover(), "fake": fake})
    (folder / "modelport.toml").write_text(f'[runtimes.fake]\npython = "{sys.executable}"\n')
    monkeypatch.chdir(folder)


def add_model(folder: Path, name: str = "m", toml: str = "", **described: Any) -> str:
    """Return the location of a new fake model."""
    add_fake(folder / "repository", name, toml=toml, **described)
    return str(folder / "repository" / name)
