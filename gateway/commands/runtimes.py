"""`modelport runtimes list`, `modelport runtimes install` and `modelport runtimes remove`."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from rich.console import Console
from rich.table import Table

from gateway.environments import built
from gateway.environments.environment import Environment, EnvironmentUnavailable, Locator, build, locate, marker_in
from gateway.environments.runtime import Runtime, converters, discover
from gateway.environments.steps import size_of


def list_runtimes(home: Path, accelerator: str, externals: Mapping[str, Path], require_locks: bool = False) -> int:
    """Print which runtimes are installed or available. externals: runtime → interpreter that has its framework."""
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for column in ("RUNTIME", "FRAMEWORK", "STATE", "LOCK", "PYTHON", "PACKAGES", "DISK", "DOWNLOAD"):
        least = 12 if column == "FRAMEWORK" else None
        table.add_column(column, overflow="fold", min_width=least)
    locator = Locator(home, accelerator, externals, require_locks)
    runtimes = {**discover(), **converters()}
    for runtime in runtimes.values():
        try:
            table.add_row(*_row(locator.locate(runtime), accelerator))
        except EnvironmentUnavailable as error:
            table.add_row(*_unavailable(runtime, accelerator, error))
    for found in built.of_models(home, runtimes):
        table.add_row(*_row(found, accelerator))
    Console(highlight=False, markup=False).print(table)
    return 0


def _row(found: Environment, accelerator: str) -> tuple[str, ...]:
    version = ".".join(map(str, found.interpreter.version)) + ("" if found.folder else " (yours)")
    return (
        found.runtime.name,
        found.runtime.title,
        "ready" if found.ready else "not built",
        "" if found.folder is None else "yes" if found.locked else "no",
        version,
        _packages(found),
        _size(found.size_bytes()),
        _download(found.runtime, accelerator) if found.folder else "",
    )


def _unavailable(runtime: Runtime, accelerator: str, error: EnvironmentUnavailable) -> tuple[str, ...]:
    return runtime.name, runtime.title, f"unavailable: {error}", "", "", "", "", _download(runtime, accelerator)


def _download(runtime: Runtime, accelerator: str) -> str:
    return _size(runtime.download_mb.get(runtime.accelerator(accelerator), 0) * 1e6)


def remove(name: str, home: Path) -> int:
    """Delete all environments of a runtime, or of models with certain packages. Returns the exit code."""
    found = built.folders(home)
    if name not in found:
        return _failed(f"no environment of '{name}' is built: built are {', '.join(sorted(found)) or 'none'}")
    for folder in found[name]:
        size = _size(marker_in(folder).get("size_bytes", 0) or size_of(folder)) or "0 MB"
        try:
            built.remove(folder)
        except EnvironmentUnavailable as error:
            return _failed(str(error))
        print(f"removed {folder}, {size}")
    return 0


def install(name: str, home: Path, accelerator: str, python: Path | None, require_locks: bool = False) -> int:
    """Build a runtime's environment, and print the progress. Returns the exit code."""
    runtimes = {**discover(), **converters()}
    if name not in runtimes:
        return _failed(f"there is no runtime '{name}': installed are {', '.join(sorted(runtimes))}")
    try:
        found = locate(runtimes[name], accelerator, home, python, require_lock=require_locks)
        if found.ready:
            print(f"{name} is ready: {_packages(found)}")
            return 0
        if runtimes[name].licenses:
            print(f"  licenses: {runtimes[name].licenses}", flush=True)
        print("  locked: every file is checked against its hash" if found.locked else "  not locked", flush=True)
        asyncio.run(build(found, lambda line: print(f"  {line}", flush=True)))
    except EnvironmentUnavailable as error:
        if error.detail:
            print(error.detail)
        return _failed(str(error))
    except KeyboardInterrupt:
        print("modelport: stopped; run the same command again to continue", file=sys.stderr)
        return 130
    print(f"{name} is ready: {_packages(found)}, {_size(found.size_bytes())}")
    return 0


def _failed(sentence: str) -> int:
    print(f"modelport: {sentence}", file=sys.stderr)
    return 1


def _packages(environment: Environment) -> str:
    """Return the requirements in runtime.toml for this machine, in the versions that are or would be installed.

    Those that are installed without their dependencies, such as OpenVINO, are the first.
    """
    if environment.folder is None:
        return ""
    versions = {canonicalize_name(name): version for name, version in environment.installed.items()}
    packages = []
    runtime = environment.runtime
    for each in (*runtime.without_dependencies, *runtime.requirements[environment.accelerator]):
        try:
            requirement = Requirement(each)
        except InvalidRequirement:
            continue  # an option of pip, or a path
        if requirement.marker is None or requirement.marker.evaluate({"python_version": environment.interpreter.minor}):
            specified = str(requirement.specifier).removeprefix("==")
            version = versions.get(canonicalize_name(requirement.name), specified)
            packages.append(f"{requirement.name} {version}".strip())
    return ", ".join(packages)


def _size(count: float) -> str:
    if not count:
        return ""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
