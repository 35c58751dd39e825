"""`modelport runtimes list` and `modelport runtimes install`."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from rich.console import Console
from rich.table import Table

from gateway.environments.environment import Environment, EnvironmentUnavailable, Locator, build, locate
from gateway.environments.runtime import converters, discover


def list_runtimes(home: Path, accelerator: str, externals: Mapping[str, Path]) -> int:
    """Print what is installed and what could be. `externals`: runtime → interpreter that has its framework already."""
    table = Table(box=None, pad_edge=False)
    for column in ("RUNTIME", "FRAMEWORK", "STATE", "PYTHON", "PACKAGES", "DISK", "DOWNLOAD"):
        table.add_column(column, overflow="fold")
    locator = Locator(home, accelerator, externals)
    for runtime in [*discover().values(), *converters().values()]:
        download = _size(runtime.download_mb.get(runtime.accelerator(accelerator), 0) * 1e6)
        try:
            found = locator.locate(runtime)
        except EnvironmentUnavailable as error:
            table.add_row(runtime.name, runtime.title, f"cannot: {error}", "", "", "", download)
        else:
            version = ".".join(map(str, found.interpreter.version)) + ("" if found.folder else " (yours)")
            state = "ready" if found.ready else "not built"
            packages = _packages(found)
            table.add_row(
                runtime.name,
                runtime.title,
                state,
                version,
                packages,
                _size(found.size_bytes()),
                download if found.folder else "",
            )
    Console(highlight=False, markup=False).print(table)
    return 0


def install(name: str, home: Path, accelerator: str, python: Path | None) -> int:
    """Build a runtime's environment now, telling how it goes. Returns the exit code."""
    runtimes = {**discover(), **converters()}
    if name not in runtimes:
        return _failed(f"there is no runtime '{name}': installed are {', '.join(sorted(runtimes))}")
    try:
        found = locate(runtimes[name], accelerator, home, python=python)
        if found.ready:
            print(f"{name} is ready: {_packages(found)}")
            return 0
        if runtimes[name].licenses:
            print(f"  licenses: {runtimes[name].licenses}", flush=True)
        asyncio.run(build(found, lambda line: print(f"  {line}", flush=True)))
    except EnvironmentUnavailable as error:
        if error.detail:
            print(error.detail)
        return _failed(str(error))
    except KeyboardInterrupt:
        print("modelport: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(f"{name} is ready: {_packages(found)}, {_size(found.size_bytes())}")
    return 0


def _failed(sentence: str) -> int:
    print(f"modelport: {sentence}", file=sys.stderr)
    return 1


def _packages(environment: Environment) -> str:
    """What runtime.toml names for this machine, in the versions that are installed or would be."""
    if environment.folder is None:
        return ""
    versions = {canonicalize_name(name): version for name, version in environment.installed.items()}
    told = []
    for each in environment.runtime.requirements[environment.accelerator]:
        try:
            requirement = Requirement(each)
        except InvalidRequirement:
            continue  # an option of pip's, or a path
        if requirement.marker is None or requirement.marker.evaluate({"python_version": environment.interpreter.minor}):
            wanted = str(requirement.specifier).removeprefix("==")
            told.append(f"{requirement.name} {versions.get(canonicalize_name(requirement.name), wanted)}".strip())
    return ", ".join(told)


def _size(count: float) -> str:
    if not count:
        return ""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
