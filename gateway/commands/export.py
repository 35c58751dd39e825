"""`modelport export`: runs an export, or lists the routes."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gateway.commands import offline
from gateway.config import Settings
from gateway.export.errors import CannotExport
from gateway.export.export import ExportRequest, check, export
from gateway.export.pipeline import export_pipeline
from gateway.export.pipeline_report import PipelineReport
from gateway.export.report import Report
from gateway.export.routes import SOURCES, TARGETS, routes
from gateway.export.runners import RUNNERS
from gateway.export.source import choose, found_at
from gateway.export.workspace import Environments


def run_export(request: ExportRequest, home: Path, settings: Settings) -> int:
    """Export, and print the progress. Returns the exit code."""
    try:
        report = offline.run(partial(_export, request), home, settings, "stopped; nothing was written")
    except offline.Ended as ended:
        return ended.code
    print(report.text(), end="")
    print(f"written to {request.out}")
    return 0


async def _export(
    request: ExportRequest, environments: Environments, on_progress: Callable[[str], None]
) -> Report | PipelineReport:
    check(request)  # what is wrong with it whatever the model is comes first
    found = found_at(request.model, request.repository, environments.known)
    if choose(request.model, request.repository, request.version, found).steps:
        return await export_pipeline(request, environments, on_progress)
    return await export(request, environments, on_progress)


def list_routes() -> int:
    """Print all routes, with their tools and the environments that these need."""
    table = Table(box=None, pad_edge=False)
    for column in ("FROM", "TO", "BY, BEST FIRST", "ENVIRONMENTS"):
        table.add_column(column, overflow="fold")
    for source in SOURCES:
        for target in TARGETS:
            try:
                found = routes(source, target)
            except CannotExport:
                table.add_row(source, target, "no route", "")
                continue
            for number, route in enumerate(found):
                name = f"{route.name} ({route.about})" if route.about else route.name
                verifying = [runner.environment for runner in RUNNERS[route.gives(source)]]
                needed = ", ".join(dict.fromkeys([*route.environments, *verifying, *_packaging(target)]))
                table.add_row("" if number else source, "" if number else target, name, needed)
    Console(highlight=False, markup=False).print(table)
    return 0


def _packaging(target: str) -> Sequence[str]:
    return {"tflite": ("export-lite",), "web": ("export-web",)}.get(target, ())
