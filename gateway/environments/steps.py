"""The steps of building an environment in a folder. Each can be interrupted and repeated."""

import asyncio
import logging
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import TypeVar

from packaging.version import Version

from gateway.environments import interpreters, pip
from gateway.environments.errors import EnvironmentUnavailable
from gateway.environments.subprocesses import run_module

log = logging.getLogger("environments")
Result = TypeVar("Result")

_PIP_OPTIONS = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off", "--no-warn-script-location")


def python_of(folder: Path) -> Path:
    return folder / "bin" / "python"


def check_disk(folder: Path, title: str, needed_mb: float) -> None:
    """Raises EnvironmentUnavailable if the disk lacks space. Files left by an interrupted build count as installed."""
    needed = needed_mb * 1e6 - size_of(folder)
    free = shutil.disk_usage(folder.parent).free
    if free < needed:
        raise EnvironmentUnavailable(
            f"{title}'s environment needs about {needed / 1e9:.1f} GB of disk space, but {free / 1e9:.1f} GB is free: "
            "free some, or set MODELPORT_HOME to a folder on a larger disk"
        )


async def make_venv(python: Path, folder: Path, progress: Callable[[str], None]) -> None:
    """Create a virtual environment with pip at its final path, since it cannot be moved. A working one is kept.

    Raises EnvironmentUnavailable.
    """
    if await in_thread(_has_usable_venv, folder):
        return
    progress("creating the environment")
    await in_thread(_delete, folder)
    output: deque[str] = deque(maxlen=15)
    returncode = await run_module(python, "venv", [str(folder)], output.append)
    if returncode:
        log.info("venv failed with %d:\n%s", returncode, "\n".join(output))
        raise EnvironmentUnavailable(
            f"Python's venv module failed with exit code {returncode}: try another Python", "\n".join(output)
        )


async def install(
    folder: Path, requirements: Iterable[str], minor: str, progress: Callable[[str], None], options: Iterable[str] = ()
) -> dict[str, str]:
    """Run pip install in the folder's environment, with the user's pip configuration. Raises EnvironmentUnavailable.

    Returns distribution → SHA-256 of the file that was downloaded for it; nothing from a pip that cannot report it.
    """
    file = folder / "requirements.txt"
    file.write_text("".join(f"{requirement}\n" for requirement in requirements))
    report = folder / "pip-report.json"
    report.unlink(missing_ok=True)
    if _reports(folder):
        options = [*options, "--report", str(report)]
    output = pip.Output()

    def on_line(line: str) -> None:
        if step := output.feed(line):
            progress(step)

    returncode = await run_module(
        python_of(folder), "pip", ["install", *_PIP_OPTIONS, *options, "-r", str(file)], on_line
    )
    if returncode:
        detail = "\n".join(output.lines)
        log.info("pip failed with %d:\n%s", returncode, detail)
        raise EnvironmentUnavailable(output.failure(returncode, minor), detail)
    return pip.reported_hashes(report.read_text()) if report.exists() else {}


def installed(folder: Path) -> dict[str, str]:
    """Return distribution → version."""
    return dict(sorted((each.name, each.version) for each in distributions_in(folder)))


def distributions_in(folder: Path) -> list[Distribution]:
    return list(distributions(path=[str(site) for site in _site_packages(folder)]))


def size_of(folder: Path) -> int:
    """Return the bytes in all files under the folder; 0 if it does not exist."""
    return sum(os.lstat(os.path.join(root, name)).st_size for root, _, names in os.walk(folder) for name in names)


async def in_thread(function: Callable[..., Result], *arguments: object) -> Result:
    """Like asyncio.to_thread, but a cancelled caller waits for it, so that its writes do not race with later steps."""
    task = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _reports(folder: Path) -> bool:
    """Whether the folder's pip has --report in its final format, version 1."""
    return Version(installed(folder).get("pip", "0")) >= Version("23")


def _has_usable_venv(folder: Path) -> bool:
    for site in _site_packages(folder):
        _remove_half_installed(site)
        if any(site.glob("pip-*.dist-info")) and interpreters.inspect(python_of(folder)):
            return True
    return False


def _remove_half_installed(site: Path) -> None:
    """Remove the .dist-info folder of distributions whose installation was interrupted, so that pip repeats it.

    pip treats a distribution as installed once its METADATA exists, which may be before its other files do. Its last
    step is to rewrite RECORD with an entry for INSTALLER. The other files can stay: pip replaces them.
    """
    for dist_info in site.glob("*.dist-info"):
        record = dist_info / "RECORD"
        if not record.is_file() or f"{dist_info.name}/INSTALLER," not in record.read_text(errors="replace"):
            shutil.rmtree(dist_info)


def _delete(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _site_packages(folder: Path) -> list[Path]:
    return list(folder.glob("lib/python3*/site-packages"))
