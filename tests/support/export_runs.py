"""Exports as tests make and run them: the library's own functions, in the real environments."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gateway.config import Sources, home, read_settings
from gateway.export import cases as files
from gateway.export.cases import Case
from gateway.export.export import ExportRequest, export
from gateway.export.jobs import Jobs
from gateway.export.report import Report
from gateway.export.runners import RUNNERS
from gateway.export.source import Environments, bare_load, cases_job
from tests.support import ROOT

REPOSITORY = ROOT / "model_repo"


def environments() -> Environments:
    return Environments(home(), read_settings(Sources()), lambda line: None)


def run_export(model: str, target: str, out: Path, **wanted: Any) -> Report:
    """Raises CannotExport."""
    asked = ExportRequest(model, target, out, repository=wanted.pop("repository", REPOSITORY), **wanted)
    return asyncio.run(export(asked, environments(), lambda line: None))


def answer(target: str, folder: Path, inputs: Mapping[str, np.ndarray], scratch: Path) -> dict[str, np.ndarray]:
    """What the export in the folder gives, in the first of its runners; a batch of one is fed row by row."""
    return asyncio.run(_answer(target, folder, inputs, scratch))


async def _answer(target: str, folder: Path, inputs: Mapping[str, np.ndarray], scratch: Path) -> dict[str, np.ndarray]:
    runner = RUNNERS[target][0]
    environment = await environments().get(runner.environment)
    artifact = folder if target == "tfjs" else folder / f"model.{target}"
    load = bare_load(environment.runtime, artifact, 1, **({"backend": runner.backend} if runner.backend else {}))
    jobs = Jobs(scratch, lambda line: None)
    described = await jobs.run(environment, cases_job(load))
    rows = described["signatures"][described["signature"]][0][0][2][0]
    given, results = files.write(Case("given", dict(inputs)), jobs.folder("given")), jobs.folder("results")
    told = await jobs.run(environment, cases_job(load, files=[given], results=results, fixed=max(rows, 0)))
    assert told["answers"] == [{}], told
    return files.read(results / given.name)
