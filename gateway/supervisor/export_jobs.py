"""Runs the exports that clients start by REST: each is a `modelport export` process, and only one runs at a time."""

import asyncio
import itertools
import json
import logging
import shutil
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gateway.errors import NotFound, Overloaded, Unavailable, Unsupported
from gateway.process.child import Child
from runtimes.redaction import redacted

log = logging.getLogger("export")

# Finished exports that clients can still fetch. Each keeps a model's size or more on disk.
_MAX_KEPT = 8
# Lines of progress that a status has; the last line of a failed export is its error.
_MAX_LINES = 50


@dataclass
class _Job:
    model: str
    version: str
    folder: Path
    state: Literal["RUNNING", "DONE", "FAILED", "CANCELLED"] = "RUNNING"
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_MAX_LINES))
    task: "asyncio.Task[None] | None" = None

    @property
    def archive(self) -> Path:
        return self.folder / "export.zip"


class ExportJobs:
    """Starts, reports and cancels exports.

    repository_of  model → the folder of its repository; None if it is in none
    pythons        runtime → interpreter, from the gateway's settings
    require_locks  whether exports build environments only from lock files
    """

    def __init__(
        self,
        repository_of: Callable[[str], Path | None],
        folder: Path,
        pythons: Mapping[str, Path],
        allowed: bool,
        require_locks: bool = False,
    ) -> None:
        self._repository_of = repository_of
        self._folder = folder
        self._pythons = pythons
        self._allowed = allowed
        self._require_locks = require_locks
        self._jobs: dict[str, _Job] = {}
        self._ids = itertools.count(1)

    def start(self, model: str, version: str, options: Mapping[str, str]) -> dict[str, Any]:
        """Start an export and return its status. Raises ModelportError.

        options: flags of the command, without dashes → values
        """
        self._check_allowed()
        repository = self._repository_of(model)
        if repository is None:
            raise Unsupported(f"model '{model}' cannot be exported: only models of a repository can be")
        if any(job.state == "RUNNING" for job in self._jobs.values()):
            raise Overloaded("another export is running, and only one can run at a time; try again later")
        self._delete_old()
        name = str(next(self._ids))
        folder = self._folder / f"export-{name}"
        folder.mkdir(parents=True)
        job = self._jobs[name] = _Job(model, version, folder)
        job.task = asyncio.create_task(self._run(job, repository, options))
        return self.status(model, name)

    def status(self, model: str, name: str) -> dict[str, Any]:
        """Return an export's status. Raises ModelportError."""
        job = self._find(model, name)
        status: dict[str, Any] = {
            "id": name,
            "model_name": job.model,
            "model_version": job.version,
            "state": job.state,
            "progress": list(job.lines),
        }
        if job.state == "FAILED":
            status["error"] = job.lines[-1].removeprefix("modelport: ") if job.lines else "it ended without a message"
        elif job.state == "DONE":
            status["report"] = json.loads((job.folder / "result" / "export.json").read_text())
        return status

    def result(self, model: str, name: str) -> str:
        """Return the path of the zip archive. Raises ModelportError."""
        job = self._find(model, name)
        if job.state == "RUNNING":
            raise Unavailable(f"export '{name}' is still running; try again when its state is DONE")
        if job.state != "DONE":
            raise NotFound(f"export '{name}' of model '{model}' has no result: it is {job.state}")
        return str(job.archive)

    async def cancel(self, model: str, name: str) -> None:
        """Stop an export if it is running, and delete its result. Raises ModelportError."""
        await _stop(self._find(model, name))
        self._delete(name)

    async def close(self) -> None:
        for job in self._jobs.values():
            await _stop(job)

    def _check_allowed(self) -> None:
        if not self._allowed:
            raise Unsupported("models cannot be exported here: the server was started without --allow-export")

    def _find(self, model: str, name: str) -> _Job:
        job = self._jobs.get(name)
        if job is None or job.model != model:
            raise NotFound(f"model '{model}' has no export '{name}'; the last {_MAX_KEPT} are kept")
        return job

    def _delete_old(self) -> None:
        for name in list(self._jobs)[: max(0, len(self._jobs) + 1 - _MAX_KEPT)]:
            self._delete(name)

    def _delete(self, name: str) -> None:
        if job := self._jobs.pop(name, None):  # None if two clients cancel the same export
            shutil.rmtree(job.folder, ignore_errors=True)

    async def _run(self, job: _Job, repository: Path, options: Mapping[str, str]) -> None:
        command = [sys.executable, "-P", "-m", "gateway", "export", "--repository", str(repository)]
        command += ["--version", job.version, "--out", str(job.folder / "result")]
        command += ["--require-locks" if self._require_locks else "--no-require-locks"]
        command += [part for flag, value in options.items() for part in (f"--{flag}", value)]
        command += [part for name, path in self._pythons.items() for part in ("--python", f"{name}={path}")]
        try:
            child = await Child.spawn([*command, "--", job.model], _LineRecorder(job.lines), ())  # type: ignore[arg-type]
            code = await child.wait()
            if not code:
                await asyncio.to_thread(_pack, job)
            job.state = "FAILED" if code else "DONE"
        except asyncio.CancelledError:
            job.state = "CANCELLED"
            raise
        except Exception:
            log.exception("an export of %s failed", job.model)
            job.lines.append("the gateway could not run it; its log says why")
            job.state = "FAILED"
        log.info("export of %s: %s", job.model, job.state)


class _LineRecorder:
    """Stands in for the logger of `Child`: it logs the process's output, and keeps the last lines for clients."""

    def __init__(self, lines: deque[str]) -> None:
        self._lines = lines

    def info(self, template: str, text: str) -> None:
        log.info(template, text)
        self._lines.append(redacted(text))


def _pack(job: _Job) -> None:
    shutil.make_archive(str(job.archive.with_suffix("")), "zip", job.folder / "result")


async def _stop(job: _Job) -> None:
    if job.task is not None and not job.task.done():
        job.task.cancel()
        await asyncio.gather(job.task, return_exceptions=True)
