"""The environments for exports, and exports of the example models that are made once for all tests."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Settings, home
from gateway.environments.environment import Environment
from gateway.export import export as exporting
from gateway.export.report import Report
from gateway.export.routes import Route
from gateway.export.routes import routes as all_routes
from gateway.export.workspace import Environments
from tests.support import ROOT


def make(model: str, target: str, out: Path, only: str = "", **wanted: Any) -> Report:
    """Export a model in this process. only: the format that a route must end in."""

    def routes(source: str, target: str, precision: str = "float32") -> list[Route]:
        return [each for each in all_routes(source, target, precision) if only in ("", each.gives(source))]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "routes", routes)
        order = exporting.ExportRequest(model, target, out, ROOT / "model_repo", **wanted)
        return asyncio.run(exporting.export(order, Environments(home(), Settings(), print), print))


@pytest.fixture(scope="session")
def exported(
    tmp_path_factory: pytest.TempPathFactory, runtime_environment: Callable[[str], Environment]
) -> Callable[[str, str, str], tuple[Path, Report]]:
    """Return the folder and report of an export, by model, target, and the only format allowed ("" for any)."""
    made: Mapping[tuple[str, str, str], tuple[Path, Report]] = {}

    def get(model: str, target: str, only: str = "") -> tuple[Path, Report]:
        key = (model, target, only)
        if key not in made:
            runtime_environment("onnx")
            out = tmp_path_factory.mktemp("exports") / "-".join(filter(None, key))
            made[key] = (out, make(model, target, out, only))  # type: ignore[index]
        return made[key]

    return get
