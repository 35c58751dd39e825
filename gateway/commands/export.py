"""`modelport export`."""

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


def run_export(wanted: ExportRequest, home: Path, settings: Settings) -> int:
    """Export, telling how it goes. Returns the exit code."""

    def told(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    try:
        report = asyncio.run(_stoppable(export(wanted, Environments(home, settings, told), told)))
    except CannotExport as error:
        if error.detail:
            print(error.detail, file=sys.stderr)
        print(f"modelport: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("modelport: stopped; nothing was written", file=sys.stderr)
        return 130
    print(report.text(), end="")
    print(f"written to {wanted.out}")
    return 0


async def _stoppable(work: Coroutine[Any, Any, Result]) -> Result:
    """SIGTERM ends it as Ctrl-C does: what was begun is removed."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def list_routes() -> int:
    """Print what can be exported to what, by which tools, and which environments these need."""
    table = Table(box=None, pad_edge=False)
    for column in ("FROM", "TO", "BY, BEST FIRST", "ENVIRONMENTS"):
        table.add_column(column, overflow="fold")
    for source in SOURCES:
        for target in TARGETS:
            try:
                found = routes(source, target)
            except CannotExport:
                table.add_row(source, target, "no way", "")
                continue
            for place, route in enumerate(found):
                name = f"{route.name} ({route.about})" if route.about else route.name
                proving = [runner.environment for runner in RUNNERS[route.gives(source)]]
                needed = ", ".join(dict.fromkeys([*route.environments, *proving, *_finishing(target)]))
                table.add_row("" if place else source, "" if place else target, name, needed)
    Console(highlight=False, markup=False).print(table)
    return 0


def _finishing(target: str) -> Sequence[str]:
    return {"tflite": ("export-lite",), "web": ("export-web",)}.get(target, ())
