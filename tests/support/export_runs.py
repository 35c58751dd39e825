"""Exports in tests, made with the real environments, and runs of the exported models."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gateway.config import Sources, home, read_settings
from gateway.environments.environment import Environment
from gateway.export import cases
from gateway.export.cases import Case
from gateway.export.export import ExportRequest, export
from gateway.export.jobs import CasesJob, Jobs, bare_load
from gateway.export.report import Report
from gateway.export.runners import RUNNERS
from gateway.export.workspace import Environments
from runtimes.control import Load
from tests.support import ROOT

REPOSITORY = ROOT / "model_repo"


def environments() -> Environments:
    return Environments(home(), read_settings(Sources()), lambda line: None)


def run_export(model: str, target: str, out: Path, **options: Any) -> Report:
    """Export in this process; options: fields of ExportRequest. Raises CannotExport."""
    request = ExportRequest(model, target, out, repository=options.pop("repository", REPOSITORY), **options)
    return asyncio.run(export(request, environments(), lambda line: None))


def answer(target: str, folder: Path, inputs: Mapping[str, np.ndarray], scratch: Path) -> dict[str, np.ndarray]:
    """Run the export in this folder in the first of its runners, row by row if its batch size is fixed at one."""
    return asyncio.run(_answer(target, folder, inputs, scratch))


async def _answer(target: str, folder: Path, inputs: Mapping[str, np.ndarray], scratch: Path) -> dict[str, np.ndarray]:
    runner = RUNNERS[target][0]
    environment = await environments().get(runner.environment)
    artifact = folder if target == "tfjs" else folder / f"model.{target}"
    load = bare_load(environment.runtime, artifact, 1, **({"backend": runner.backend} if runner.backend else {}))
    return await _run(environment, load, inputs, scratch)


def answer_of(runtime: str, artifact: Path, inputs: Mapping[str, np.ndarray], scratch: Path) -> dict[str, np.ndarray]:
    """Run an artifact in a runtime that serves it."""

    async def run() -> dict[str, np.ndarray]:
        environment = await environments().get(runtime)
        return await _run(environment, bare_load(environment.runtime, artifact, 1), inputs, scratch)

    return asyncio.run(run())


async def _run(
    environment: Environment, load: Load, inputs: Mapping[str, np.ndarray], scratch: Path
) -> dict[str, np.ndarray]:
    jobs = Jobs(scratch, lambda line: None)
    described = await jobs.run(environment, CasesJob(load).to_json())
    rows = described["signatures"][described["signature"]][0][0][2][0]
    file, results = cases.write(Case("given", dict(inputs)), jobs.folder("given")), jobs.folder("results")
    job = CasesJob(load, files=[file], results=results, fixed=max(rows, 0))
    result = await jobs.run(environment, job.to_json())
    assert result["answers"] == [{}], result
    return cases.read(results / file.name)
