"""A runtime's own Python environment: where it is, whether it is ready, and how to build it."""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.environments import interpreters, lockfile, npm, prepare, steps
from gateway.environments.errors import EnvironmentUnavailable
from gateway.environments.interpreters import Interpreter
from gateway.environments.lock import locked
from gateway.environments.lockfile import Lock, Target
from gateway.environments.runtime import Runtime
from gateway.environments.versions import humanize

__all__ = ["Environment", "EnvironmentUnavailable", "Locator", "build", "locate"]

# Part of every folder's name. Increase it when the layout of an environment changes.
_LAYOUT = 1
MARKER = "modelport.json"
# Disk space needed per byte of download, observed with torch and tensorflow: the wheels, and what is unpacked from
# them. Too small, and the disk fills up during a build; too large, and builds that would fit are refused.
_DISK_PER_DOWNLOAD = 4
_SYSTEMS = {"linux": "Linux", "linux-musl": "Linux with musl", "macos": "macOS", "darwin": "macOS"}


@dataclass(frozen=True)
class Environment:
    """A runtime's environment, built or not.

    folder  None for an interpreter that already has the framework, where nothing is built or removed
    lock    what is installed, and nothing else; None if pip chooses the versions of dependencies
    """

    runtime: Runtime
    accelerator: str
    folder: Path | None
    interpreter: Interpreter
    lock: Lock | None = None

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

    @property
    def hashes(self) -> dict[str, str]:
        """Normalized name of a distribution → SHA-256 of the file that was downloaded for it, where that is known."""
        return dict(self._marker().get("hashes", {}))

    @property
    def locked(self) -> bool:
        """Whether it was built from a lock or, if it is not ready, will be."""
        return bool(self._marker().get("lock")) if self.ready else self.lock is not None

    def size_bytes(self) -> int:
        """Return its size on disk, even if half-built; 0 for an interpreter that is not modelport's."""
        if self.folder is None:
            return 0
        return int(self._marker().get("size_bytes", 0)) or steps.size_of(self.folder)

    def _marker(self) -> Mapping[str, Any]:
        # An external interpreter may be that of an environment that modelport built, for an image.
        return marker_in(self.folder or self.python.parent.parent)


def locate(
    runtime: Runtime,
    accelerator: str,
    home: Path,
    python: Path | None = None,
    external: bool = False,
    require_lock: bool = False,
) -> Environment:
    """Find out where this runtime's environment is or would be, without building it. Raises EnvironmentUnavailable.

    python        the interpreter to build it from, instead of searching for one
    external      whether `python` already has the framework, and is the environment itself
    require_lock  whether only an environment that was built from a lock will do
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
        accelerator = marker_in(interpreter.path.parent.parent).get("accelerator", accelerator)
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
    key += [interpreter.platform, accelerator]
    environments = home.expanduser().absolute() / "environments"
    plain = Environment(runtime, accelerator, environments / _name(runtime, accelerator, key), interpreter)
    lock = None if runtime.base else lockfile.find(runtime, accelerator, interpreter)
    if lock is None:
        if require_lock:
            raise EnvironmentUnavailable(
                _no_lock(runtime, Target(accelerator, interpreter.minor, interpreter.platform))
            )
        return plain
    folder = environments / _name(runtime, accelerator, [*key, lock.digest])
    from_lock = Environment(runtime, accelerator, folder, interpreter, lock)
    # One that was built before there was a lock stays in use: to build it again would take long and change nothing.
    return plain if plain.ready and not from_lock.ready and not require_lock else from_lock


def _name(runtime: Runtime, accelerator: str, key: list[Any]) -> str:
    return f"{runtime.name}-{accelerator}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]}"


def _no_lock(runtime: Runtime, target: Target) -> str:
    if runtime.base:
        return (
            f"{runtime.title} has packages that a model asks for, which no lock covers: "
            "turn require_locks off to build it"
        )
    if runtime.npm:
        return f"{runtime.title} has npm packages, which no lock covers: turn require_locks off to build it"
    return (
        f"{runtime.title} has no lock for {target}: "
        f"run 'modelport runtimes lock {runtime.name}', or turn require_locks off"
    )


@dataclass(frozen=True)
class Locator:
    """`locate` with the settings of one gateway or export. external: runtime → interpreter with its framework."""

    home: Path
    accelerator: str
    external: Mapping[str, Path]
    require_locks: bool = False

    def locate(self, runtime: Runtime) -> Environment:
        """Raises EnvironmentUnavailable."""
        python = self.external.get(runtime.name)
        external = python is not None
        return locate(runtime, self.accelerator, self.home, python, external, require_lock=self.require_locks)

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
        async with locked(mutex_file(folder), lambda: progress("waiting for another gateway that builds it")):
            if environment.ready:
                return
            since = time.monotonic()
            needed_mb = runtime.download_mb.get(environment.accelerator, 0) * _DISK_PER_DOWNLOAD
            await steps.in_thread(steps.check_disk, folder, runtime.title, needed_mb)
            await steps.make_venv(environment.interpreter.path, folder, progress)
            hashes = await _install(environment, folder, progress)
            if runtime.npm:
                await npm.install(folder, runtime.npm, progress)
            if runtime.prepare:
                await prepare.run(folder, runtime, progress)
            await steps.in_thread(_complete, environment, folder, hashes, time.monotonic() - since)
    except OSError as error:
        raise EnvironmentUnavailable(
            f"{runtime.title}'s environment cannot be created ({error.strerror}): "
            "set MODELPORT_HOME to a folder that you can write to"
        ) from error


async def _install(environment: Environment, folder: Path, progress: Callable[[str], None]) -> dict[str, str]:
    """Return distribution → SHA-256 of the file that was downloaded for it. Raises EnvironmentUnavailable."""
    minor = environment.interpreter.minor
    if lock := environment.lock:
        # Where the lock allows one file only, it is known even if pip is too old to report it.
        only = {pin.name: pin.hashes[0] for pin in lock.pins if len(pin.hashes) == 1}
        return only | await steps.install(folder, lock.requirements(), minor, progress, lockfile.PIP_OPTIONS)
    # To build a package runs its author's code outside of any box.
    options = ["--only-binary", ":all:"] if environment.runtime.base else []
    requirements = environment.runtime.requirements[environment.accelerator]
    hashes = await steps.install(folder, requirements, minor, progress, options)
    if alone := environment.runtime.without_dependencies:
        hashes |= await steps.install(folder, alone, minor, progress, ["--no-deps"])
    return hashes


def marker_in(folder: Path) -> Mapping[str, Any]:
    """Return what a complete build has recorded about itself; {} if there is none."""
    try:
        marker = json.loads((folder / MARKER).read_text())
    except (OSError, ValueError):
        return {}
    return marker if isinstance(marker, dict) else {}


def _complete(environment: Environment, folder: Path, hashes: Mapping[str, str], seconds: float) -> None:
    marker = {
        "runtime": environment.runtime.name,
        "accelerator": environment.accelerator,
        "python": ".".join(map(str, environment.interpreter.version)),
        "requirements": environment.runtime.requirements[environment.accelerator],
        "lock": environment.lock.digest if environment.lock else "",
        "installed": steps.installed(folder),
        "hashes": hashes,
        "seconds": round(seconds, 1),
        "size_bytes": steps.size_of(folder),
    }
    draft = folder / f"{MARKER}.draft"
    draft.write_text(json.dumps(marker, indent=1))
    os.replace(draft, folder / MARKER)


def mutex_file(folder: Path) -> Path:
    """Return the file whose lock is held by whoever changes the environment."""
    # Next to the folder, because the folder may be deleted and recreated under the lock.
    return folder.with_name(folder.name + ".lock")


def _this_machine() -> tuple[str, str]:
    return {"Linux": "linux", "Darwin": "macos"}.get(platform.system(), platform.system()), platform.machine()


def _check_platform(runtime: Runtime, system: str, machine: str) -> None:
    if runtime.platforms and f"{system}-{machine}" not in runtime.platforms:
        raise EnvironmentUnavailable(f"{runtime.title} has no wheel for {_SYSTEMS.get(system, system)} {machine}")
