"""`modelport export`: runs an export, or lists the routes."""

import asyncio
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

from gateway.config import Settings
from gateway.export.errors import CannotExport
from gateway.export.export import ExportRequest, export
from gateway.export.routes import SOURCES, TARGETS, routes
from gateway.export.runners import RUNNERS
from gateway.export.workspace import Environments

Result = TypeVar("Result")


def run_export(request: ExportRequest, home: Path, settings: Settings) -> int:
    """Export, and print the progress. Returns the exit code."""

    def on_progress(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    environments = Environments(home, settings, on_progress)
    try:
        report = asyncio.run(stoppable(export(request, environments, on_progress)))
    except CannotExport as error:
        if error.detail:
            print(error.detail, file=sys.stderr)
        print(f"modelport: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("modelport: stopped; nothing was written", file=sys.stderr)
        return 130
    print(report.text(), end="")
    print(f"written to {request.out}")
    return 0


async def stoppable(work: Coroutine[Any, Any, Result]) -> Result:
    """Cancel the work on SIGTERM, as on Ctrl-C, so that it cleans up."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


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
