"""Exports that clients ask for by REST: each is the command `modelport export` in its own process, one at a time."""

import asyncio
import itertools
import json
import logging
import shutil
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gateway.errors import NotFound, Overloaded, Unavailable, Unsupported
from gateway.process.child import Child
from runtimes.redaction import redacted

log = logging.getLogger("export")

_MAX_KEPT = 8
_MAX_LINES = 50


@dataclass
class _Export:
    model: str
    version: str
    folder: Path
    state: Literal["RUNNING", "DONE", "FAILED", "CANCELLED"] = "RUNNING"
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_MAX_LINES))
    task: "asyncio.Task[None] | None" = None

    @property
    def archive(self) -> Path:
        return self.folder / "export.zip"


class Exports:
    """repository: None where models are not in one. pythons: runtime → interpreter, as the gateway was told."""

    def __init__(self, repository: Path | None, folder: Path, pythons: Mapping[str, Path], allowed: bool) -> None:
        self._repository = repository
        self._folder = folder
        self._pythons = pythons
        self._allowed = allowed
        self._exports: dict[str, _Export] = {}
        self._ids = itertools.count(1)

    def start(self, model: str, version: str, options: Mapping[str, str]) -> dict[str, Any]:
        """Begin one; its status. options: flags of the command → values. Raises ModelportError."""
        self._check_allowed()
        if any(export.state == "RUNNING" for export in self._exports.values()):
            raise Overloaded("another export is running, and there is one at a time; ask again later")
        self._forget_old()
        name = str(next(self._ids))
        folder = self._folder / f"export-{name}"
        folder.mkdir(parents=True)
        export = self._exports[name] = _Export(model, version, folder)
        export.task = asyncio.create_task(self._run(export, options))
        return self.status(model, name)

    def status(self, model: str, name: str) -> dict[str, Any]:
        """Raises ModelportError."""
        export = self._find(model, name)
        told: dict[str, Any] = {
            "id": name,
            "model_name": export.model,
            "model_version": export.version,
            "state": export.state,
            "progress": list(export.lines),
        }
        if export.state == "FAILED":
            told["error"] = export.lines[-1].removeprefix("modelport: ") if export.lines else "it ended without a word"
        elif export.state == "DONE":
            told["report"] = json.loads((export.folder / "result" / "export.json").read_text())
        return told

    def result(self, model: str, name: str) -> str:
        """The zip archive. Raises ModelportError."""
        export = self._find(model, name)
        if export.state == "RUNNING":
            raise Unavailable(f"export '{name}' is still running; ask again when its state is DONE")
        if export.state != "DONE":
            raise NotFound(f"export '{name}' of model '{model}' has no result: it is {export.state}")
        return str(export.archive)

    async def cancel(self, model: str, name: str) -> None:
        """End it, and forget it with its result. Raises ModelportError."""
        export = self._find(model, name)
        await _stop(export)
        self._drop(name)

    async def close(self) -> None:
        for export in self._exports.values():
            await _stop(export)

    def _check_allowed(self) -> None:
        if not self._allowed:
            raise Unsupported("models are not exported here: the server was started without --allow-export")
        if self._repository is None:
            raise Unsupported("only models of a repository are exported, and this server has none")

    def _find(self, model: str, name: str) -> _Export:
        export = self._exports.get(name)
        if export is None or export.model != model:
            raise NotFound(f"model '{model}' has no export '{name}'; the last {_MAX_KEPT} are kept")
        return export

    def _forget_old(self) -> None:
        for name in list(self._exports)[: max(0, len(self._exports) + 1 - _MAX_KEPT)]:
            self._drop(name)

    def _drop(self, name: str) -> None:
        if export := self._exports.pop(name, None):  # two may ask for its end
            shutil.rmtree(export.folder, ignore_errors=True)

    async def _run(self, export: _Export, options: Mapping[str, str]) -> None:
        command = [sys.executable, "-P", "-m", "gateway", "export", "--repository", str(self._repository)]
        command += ["--version", export.version, "--out", str(export.folder / "result")]
        command += [part for flag, value in options.items() for part in (f"--{flag}", value)]
        command += [part for name, path in self._pythons.items() for part in ("--python", f"{name}={path}")]
        try:
            child = await Child.spawn([*command, "--", export.model], _Lines(export.lines), ())  # type: ignore[arg-type]
            code = await child.wait()
            if not code:
                await asyncio.to_thread(_pack, export)
            export.state = "FAILED" if code else "DONE"
        except asyncio.CancelledError:
            export.state = "CANCELLED"
            raise
        except Exception:
            log.exception("an export of %s failed", export.model)
            export.lines.append("the gateway could not run it; its log says why")
            export.state = "FAILED"
        log.info("export of %s: %s", export.model, export.state)


class _Lines:
    """What a log is to `Child`: it keeps the last lines, for clients."""

    def __init__(self, lines: deque[str]) -> None:
        self._lines = lines

    def info(self, form: str, text: str) -> None:
        log.info(form, text)
        self._lines.append(redacted(text))


def _pack(export: _Export) -> None:
    shutil.make_archive(str(export.archive.with_suffix("")), "zip", export.folder / "result")


async def _stop(export: _Export) -> None:
    if export.task is not None and not export.task.done():
        export.task.cancel()
        await asyncio.gather(export.task, return_exceptions=True)
