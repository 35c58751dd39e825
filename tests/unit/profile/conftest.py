"""Profiles of models of the fake runtime, which need no framework."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.config import RuntimeSettings, Settings
from gateway.environments.runtime import read_runtime
from gateway.export import workspace
from gateway.export.workspace import Environments
from gateway.profile import profile as profiles
from gateway.profile import sweep
from gateway.profile.profile import ProfileRequest, Result, profile
from tests.support import ROOT

SETTINGS = Settings(runtimes={"fake": RuntimeSettings(python=Path(sys.executable))})
OnProgress = Callable[[str], None]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Profile a model of tmp_path/"models" on one core. options: fields of ProfileRequest, and the number of passes."""
    monkeypatch.setattr(workspace, "discover", lambda: {"fake": read_runtime(ROOT / "runtimes/fake", "fake")})
    monkeypatch.setattr(profiles, "available_cores", lambda: 1)

    def start(on_progress: OnProgress = lambda line: None, **options: Any) -> Result:
        monkeypatch.setattr(sweep, "_PASSES", options.pop("passes", 1))
        request = ProfileRequest(
            **{
                "model": "m", "out": tmp_path / "out", "repository": tmp_path / "models",
                "batch_sizes": (1, 4, 8), "seconds": 0.01, **options,
            }
        )  # fmt: skip
        return asyncio.run(profile(request, Environments(tmp_path, SETTINGS, lambda line: None), on_progress))

    return start
