"""Runs the processes that measure a model: each number of threads and instances in processes of its own."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.export.jobs import RouteFailed
from gateway.export.source import Source
from gateway.export.workspace import Workspace
from gateway.profile.point import Point, measured

# Each configuration is measured this often: in this order, then in reverse, so that no configuration has only the
# beginning, when the machine may be cooler or busier.
_PASSES = 2
_POLL_S = 0.02


@dataclass
class _Runs:
    """What all processes have measured for one point."""

    durations: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    growth_bytes: int = 0
    failed: str = ""


class Sweep:
    """Measures sizes with several configurations, which are pairs of threads and instances.

    `points` has what was measured so far, at any time.

    seconds       how long a point is measured, in all passes together
    memory_bytes  what instances that run at the same time may use together
    """

    def __init__(
        self,
        source: Source,
        workspace: Workspace,
        inputs: Path,
        sizes: Sequence[int],
        seconds: float,
        memory_bytes: int,
        on_progress: Callable[[str], None],
    ) -> None:
        self._source = source
        self._workspace = workspace
        self._inputs = inputs
        self._sizes = sizes
        self._seconds = seconds
        self._memory_bytes = memory_bytes
        self._on_progress = on_progress
        self._runs: dict[tuple[int, int, int], _Runs] = {}
        self._open: list[tuple[int, int, Path]] = []
        self.load_seconds: float | None = None
        self.loaded_bytes = self.load_peak_bytes = 0
        self.notes: list[str] = []

    async def run(self, configurations: Sequence[tuple[int, int]]) -> None:
        """Measure all configurations. If it is cancelled, what was measured until then stays in `points`."""
        try:
            for number in range(_PASSES):
                for threads, instances in configurations[:: -1 if number % 2 else 1]:
                    name = _name(threads, instances)
                    if instances > 1 and self._peak_bytes() * instances > self._memory_bytes:
                        self._note(f"{name} would need more memory than the machine has")
                        continue
                    self._on_progress(f"measuring {name}, pass {number + 1} of {_PASSES}")
                    await self._measure(threads, instances)
        finally:
            self._collect()

    @property
    def points(self) -> list[Point]:
        found = []
        for (instances, threads, rows), runs in sorted(self._runs.items()):
            if runs.failed:
                found.append(Point(threads, instances, rows, failed=runs.failed))
            elif runs.durations:
                found.append(measured(threads, instances, rows, runs.durations, runs.peak_bytes, runs.growth_bytes))
        return found

    async def trace(self, threads: int, rows: int) -> Mapping[str, Any]:
        """Return the nodes and operators of one inference, and notes about them."""
        folder = self._workspace.jobs.folder("trace")
        job = self._job(threads, [], folder / "progress.json", None, rows)
        try:
            return await self._workspace.jobs.run(self._source.environment, job, threads)
        except RouteFailed as error:
            return {"nodes": [], "operators": None, "notes": [f"the times of its operators: {error}"]}

    async def _measure(self, threads: int, instances: int) -> None:
        """Measure the sizes that have not failed. A size whose first run ends the process fails; the others go on."""
        before: list[int] = []
        while (sizes := self._unfailed(threads, instances)) and sizes != before:
            reason = await self._run_together(threads, instances, sizes)
            self._collect(reason)
            if not reason:
                return
            before = sizes
        if sizes:
            self._note(f"with {_name(threads, instances)}, {reason}")

    def _unfailed(self, threads: int, instances: int) -> list[int]:
        return [rows for rows in self._sizes if not self._runs_of(threads, instances, rows).failed]

    async def _run_together(self, threads: int, instances: int, sizes: Sequence[int]) -> str:
        """Run one process for each instance. Returns why one of them ended early; "" if none did."""
        jobs, folder = self._workspace.jobs, self._workspace.jobs.folder("sweep")
        start = folder / "start" if instances > 1 else None
        files = [folder / f"progress-{number}.json" for number in range(instances)]
        self._open += [(threads, instances, file) for file in files]
        tasks = [
            asyncio.ensure_future(jobs.run(self._source.environment, self._job(threads, sizes, file, start), threads))
            for file in files
        ]
        try:
            if start:

                def is_ready() -> bool:
                    return any(task.done() for task in tasks) or all(_read(file).get("ready") for file in files)

                while not is_ready():  # noqa: ASYNC110 - other processes report by their files only
                    await asyncio.sleep(_POLL_S)
                start.touch()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, RouteFailed):
                return str(result)
            if isinstance(result, BaseException):
                raise result
        return ""

    def _job(
        self, threads: int, sizes: Sequence[int], progress: Path, start: Path | None, trace: int | None = None
    ) -> dict[str, Any]:
        source = self._source
        return {
            "action": "profile",
            "load": source.load._replace(threads=threads).to_json(),
            "signature": source.key,
            "inputs": str(self._inputs),
            "dim": source.served.dim if source.served else 0,
            "sizes": list(sizes),
            "seconds": self._seconds / _PASSES,
            "timeout_s": source.config.toml.execution_timeout_s,
            "progress": str(progress),
            "start": str(start or ""),
            "trace": trace,
        }

    def _collect(self, reason: str = "") -> None:
        """Add what open processes have measured. reason: why one ended early; a size that it ran then has failed."""
        for threads, instances, file in self._open:
            progress = _read(file)
            if not progress:
                continue
            loaded = progress["loaded"]
            self.load_seconds = min(loaded["seconds"], self.load_seconds or loaded["seconds"])
            self.loaded_bytes = max(self.loaded_bytes, int(loaded["bytes"]))
            self.load_peak_bytes = max(self.load_peak_bytes, int(loaded["peak_bytes"]))
            if progress["running"] is not None:
                self._runs_of(threads, instances, progress["running"]).failed = reason
            for point in progress["points"]:
                runs = self._runs_of(threads, instances, point["rows"])
                runs.durations += point["durations"]
                runs.peak_bytes = max(runs.peak_bytes, point["peak_bytes"])
                runs.growth_bytes = max(runs.growth_bytes, point["peak_bytes"] - int(loaded["bytes"]))
                runs.failed = runs.failed or point["failed"]
        self._open.clear()

    def _peak_bytes(self) -> int:
        return max((runs.peak_bytes for runs in self._runs.values()), default=0)

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _runs_of(self, threads: int, instances: int, rows: int) -> _Runs:
        return self._runs.setdefault((instances, threads, rows), _Runs())


def _name(threads: int, instances: int) -> str:
    each = "1 thread" if threads == 1 else f"{threads} threads"
    return each if instances == 1 else f"{instances} instances with {each} each"


def _read(file: Path) -> dict[str, Any]:
    """Return what a process has measured so far; {} if it has not begun."""
    try:
        progress: dict[str, Any] = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    return progress
