"""Kinds of models × frameworks × targets: each is exported and verified, or refused with a reason.

All of them take half an hour, so only some models are tried unless MODELPORT_EXPORT_TABLE=all is set.

table.toml has the expected result for each framework, model and target: "any" if it is verified for any batch size,
"one" for a batch of one, or a part of the reason for a refusal. A cell that changes in either direction fails.
`shapes` are the values of --shape, for models with dynamic sizes that a target must fix.
"""

import asyncio
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway.environments.environment import Environment
from gateway.export.comparison import within
from gateway.export.errors import CannotExport
from gateway.export.export import ExportRequest, export
from gateway.export.report import Report
from tests.support.export_runs import environments

HERE = Path(__file__).parent
EXPECTED: dict[str, dict[str, dict[str, Any]]] = tomllib.loads((HERE / "table.toml").read_text())
TARGETS = ("tflite", "tfjs", "onnx")
WANTED = os.environ.get("MODELPORT_EXPORT_TABLE", "mlp multi").split()
# Two at a time: an export spends most of its time importing a framework, on one core.
AT_A_TIME = 2


class Cell(NamedTuple):
    framework: str
    model: str
    target: str


CELLS = [
    Cell(framework, model, target)
    for framework, models in EXPECTED.items()
    for model in models
    for target in TARGETS
    if model in WANTED or WANTED == ["all"]
]


@pytest.fixture(scope="session")
def models(
    runtime_environment: Callable[[str], Environment], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Return a repository of a framework's models, made in its environment."""
    root = tmp_path_factory.mktemp("models")

    def make(framework: str) -> Path:
        folder = root / framework
        if not folder.exists():
            python = runtime_environment(framework).python if framework != "onnx" else sys.executable
            command = [str(python), str(HERE / "make" / f"{framework}.py"), str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=200)
            assert done.returncode == 0, done.stderr[-3000:]
        return folder

    return make


@pytest.fixture(scope="session")
def outcomes(
    request: pytest.FixtureRequest, models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[Cell, Report | str]:
    """The outcome of each requested cell: its report, or the reason for the refusal."""
    wanted: list[Cell] = [
        item.callspec.params["cell"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.function is test_cell
    ]
    repositories = {cell.framework: models(cell.framework) for cell in wanted}
    folder, known = tmp_path_factory.mktemp("table"), environments()

    async def one(cell: Cell, turn: asyncio.Semaphore) -> Report | str:
        shapes = {name: tuple(sizes) for name, sizes in EXPECTED[cell.framework][cell.model].get("shapes", {}).items()}
        order = ExportRequest(
            cell.model, cell.target, folder / "-".join(cell), repositories[cell.framework], shapes=shapes
        )
        async with turn:
            try:
                return await export(order, known, lambda line: None)
            except CannotExport as error:
                return str(error)

    async def everything() -> list[Report | str]:
        turn = asyncio.Semaphore(AT_A_TIME)
        return await asyncio.gather(*[one(cell, turn) for cell in wanted])

    return dict(zip(wanted, asyncio.run(everything()), strict=True))


@pytest.mark.timeout(0)  # the first test waits for the exports of all
@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_cell(cell: Cell, outcomes: dict[Cell, Report | str]) -> None:
    expected, outcome = EXPECTED[cell.framework][cell.model][cell.target], outcomes[cell]
    if expected not in ("any", "one"):
        assert isinstance(outcome, str), "the export works now"
        assert expected in outcome
        assert "Traceback" not in outcome
        return
    assert isinstance(outcome, Report), outcome
    verified = [run for run in outcome.runs if not run.problem]
    assert verified
    assert all(within(each, 1e-4) for run in verified for each in run.differences)
    assert ("one" if any("fixed at 1" in note for note in outcome.notes) else "any") == expected


def test_names_order_and_datatypes_are_the_served_ones(models: Callable[[str], Path], tmp_path: Path) -> None:
    """Two inputs of different datatypes and two outputs of the same shape, as in the archive's own signature."""
    order = ExportRequest("multi", "tflite", tmp_path / "out", models("torchscript"))
    asyncio.run(export(order, environments(), lambda line: None))
    report: Any = json.loads((tmp_path / "out" / "export.json").read_text())
    assert [entry[:2] for entry in report["inputs"]] == [["tokens", "INT64"], ["features", "FP32"]]
    assert [entry[0] for entry in report["outputs"]] == ["onset", "note"]
