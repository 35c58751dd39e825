"""A runtime's own Python environment: where it is, whether it is ready, and how to build and remove it."""

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.environments import interpreters, npm, prepare, steps
from gateway.environments.errors import EnvironmentUnavailable
from gateway.environments.interpreters import Interpreter
from gateway.environments.lock import locked, locked_now
from gateway.environments.runtime import Runtime
from gateway.environments.versions import humanize

__all__ = ["Environment", "EnvironmentUnavailable", "Locator", "build", "locate", "remove"]

# Part of every folder's name. Increase it when the layout of an environment changes.
_LAYOUT = 1
_MARKER = "modelport.json"
# Disk space needed per byte of download, observed with torch and tensorflow: the wheels, and what is unpacked from
# them. Too small, and the disk fills up during a build; too large, and builds that would fit are refused.
_DISK_PER_DOWNLOAD = 4
_SYSTEMS = {"linux": "Linux", "linux-musl": "Linux with musl", "macos": "macOS", "darwin": "macOS"}


@dataclass(frozen=True)
class Environment:
    """folder: None for an interpreter that already has the framework, where nothing is built or removed."""

    runtime: Runtime
    accelerator: str
    folder: Path | None
    interpreter: Interpreter

    @property
    def python(self) -> Path:
        """The interpreter that workers run."""
        return steps.python_of(self.folder) if self.folder else self.interpreter.path

    @property
    def ready(self) -> bool:
        return self.python.exists() and (self.folder is None or bool(self._marker()))

    @property
    def installed(self) -> dict[str, str]:
        """Distribution → version, as built; empty if the environment is not ready or was not built by modelport."""
        return dict(self._marker().get("installed", {}))

    def size_bytes(self) -> int:
        """Return its size on disk, even if half-built; 0 for an interpreter that is not modelport's."""
        if self.folder is None:
            return 0
        return int(self._marker().get("size_bytes", 0)) or steps.size_of(self.folder)

    def _marker(self) -> Mapping[str, Any]:
        return _marker_in(self.folder) if self.folder else {}


def locate(
    runtime: Runtime, accelerator: str, home: Path, python: Path | None = None, external: bool = False
) -> Environment:
    """Find out where this runtime's environment is or would be, without building it. Raises EnvironmentUnavailable.

    python    the interpreter to build it from, instead of searching for one
    external  whether `python` already has the framework, and is the environment itself
    """
    interpreter = interpreters.chosen(python) if python else None
    if python and interpreter is None:
        raise EnvironmentUnavailable(
            f"the Python set for {runtime.title} does not run: give the path of an interpreter"
        )
    if external:
        assert interpreter is not None, "an external environment is an interpreter"
        # An environment that modelport built, such as the image's for the CPU, records its accelerator. Others are
        # assumed to support the requested one.
        accelerator = _marker_in(interpreter.path.parent.parent).get("accelerator", accelerator)
        return Environment(runtime, accelerator, None, interpreter)
    accelerator = runtime.accelerator(accelerator)
    if not runtime.requirements.get(accelerator):
        others = [name for name, packages in runtime.requirements.items() if packages]
        advice = f"use {' or '.join(others)}" if others else f"set [runtimes.{runtime.name}] python to one with it"
        raise EnvironmentUnavailable(f"{runtime.title} has no packages for the accelerator {accelerator}: {advice}")
    _check_platform(runtime, *_this_machine())
    if interpreter is None:
        interpreter = interpreters.find(runtime.pythons, runtime.title)
    elif not interpreter.satisfies(runtime.pythons):
        raise EnvironmentUnavailable(
            f"{runtime.title} needs Python {humanize(runtime.pythons)}, but the one given is {interpreter.minor}"
        )
    elif not interpreter.has_venv:
        raise EnvironmentUnavailable(
            f"the Python set for {runtime.title} lacks venv or ensurepip: install them, or set another one"
        )
    _check_platform(runtime, *interpreter.platform.rsplit("-", 1))
    key = [_LAYOUT, runtime.requirements[accelerator], interpreter.minor, interpreter.implementation]
    key += [each for each in (runtime.without_dependencies, runtime.npm, prepare.digest(runtime)) if each]
    digest = hashlib.sha256(json.dumps([*key, interpreter.platform, accelerator]).encode()).hexdigest()
    folder = home.expanduser().absolute() / "environments" / f"{runtime.name}-{accelerator}-{digest[:12]}"
    return Environment(runtime, accelerator, folder, interpreter)


@dataclass(frozen=True)
class Locator:
    """`locate` with the settings of one gateway or export. external: runtime → interpreter with its framework."""

    home: Path
    accelerator: str
    external: Mapping[str, Path]

    def locate(self, runtime: Runtime) -> Environment:
        """Raises EnvironmentUnavailable."""
        python = self.external.get(runtime.name)
        return locate(runtime, self.accelerator, self.home, python=python, external=python is not None)

    def check(self, runtime: Runtime) -> None:
        """Raises EnvironmentUnavailable if this machine cannot provide the environment, built or not.

        An interpreter that the user has set always counts as available: if it does not run, its models report that.
        """
        if runtime.name not in self.external:
            self.locate(runtime)


async def build(environment: Environment, progress: Callable[[str], None]) -> None:
    """Build the environment; returns immediately if it is ready. Raises EnvironmentUnavailable.

    `progress` gets short lines for people. A second gateway that needs the same environment waits for the first. If
    the build is interrupted, the environment is not ready, and the next build continues from there.
    """
    folder, runtime = environment.folder, environment.runtime
    if folder is None or environment.ready:
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        async with locked(_lock_file(folder), lambda: progress("waiting for another gateway that builds it")):
            if environment.ready:
                return
            since = time.monotonic()
            needed_mb = runtime.download_mb.get(environment.accelerator, 0) * _DISK_PER_DOWNLOAD
            await steps.in_thread(steps.check_disk, folder, runtime.title, needed_mb)
            await steps.make_venv(environment.interpreter.path, folder, progress)
            requirements = runtime.requirements[environment.accelerator]
            await steps.install(folder, requirements, environment.interpreter.minor, progress)
            if alone := runtime.without_dependencies:
                await steps.install(folder, alone, environment.interpreter.minor, progress, ["--no-deps"])
            if runtime.npm:
                await npm.install(folder, runtime.npm, progress)
            if runtime.prepare:
                await prepare.run(folder, runtime, progress)
            await steps.in_thread(_complete, environment, folder, time.monotonic() - since)
    except OSError as error:
        raise EnvironmentUnavailable(
            f"{runtime.title}'s environment cannot be created ({error.strerror}): "
            "set MODELPORT_HOME to a folder that you can write to"
        ) from error


def remove(environment: Environment) -> None:
    """Delete the environment, from which no worker may run.

    Raises EnvironmentUnavailable if it is being built, or if it was not built by modelport.
    """
    folder = environment.folder
    if folder is None:
        raise EnvironmentUnavailable(f"{environment.runtime.title} runs in your own Python: there is nothing to remove")
    if not folder.parent.exists():
        return
    try:
        with locked_now(_lock_file(folder)):
            # Delete the marker first, so that the environment is not ready even if the rest is interrupted.
            (folder / _MARKER).unlink(missing_ok=True)
            if folder.exists():
                shutil.rmtree(folder)
    except BlockingIOError:
        raise EnvironmentUnavailable(
            f"{environment.runtime.title}'s environment is being built: wait for the build, or stop it"
        ) from None


def _marker_in(folder: Path) -> Mapping[str, Any]:
    try:
        marker = json.loads((folder / _MARKER).read_text())
    except (OSError, ValueError):
        return {}
    return marker if isinstance(marker, dict) else {}


def _complete(environment: Environment, folder: Path, seconds: float) -> None:
    marker = {
        "runtime": environment.runtime.name,
        "accelerator": environment.accelerator,
        "python": ".".join(map(str, environment.interpreter.version)),
        "requirements": environment.runtime.requirements[environment.accelerator],
        "installed": steps.installed(folder),
        "seconds": round(seconds, 1),
        "size_bytes": steps.size_of(folder),
    }
    draft = folder / f"{_MARKER}.draft"
    draft.write_text(json.dumps(marker, indent=1))
    os.replace(draft, folder / _MARKER)


def _lock_file(folder: Path) -> Path:
    # Next to the folder, because the folder may be deleted and recreated under the lock.
    return folder.with_name(folder.name + ".lock")


def _this_machine() -> tuple[str, str]:
    return {"Linux": "linux", "Darwin": "macos"}.get(platform.system(), platform.system()), platform.machine()


def _check_platform(runtime: Runtime, system: str, machine: str) -> None:
    if runtime.platforms and f"{system}-{machine}" not in runtime.platforms:
        raise EnvironmentUnavailable(f"{runtime.title} has no wheel for {_SYSTEMS.get(system, system)} {machine}")
