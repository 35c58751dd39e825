"""The environments on this machine, by their folders: those of models with packages of their own, and removal."""

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from gateway.environments import interpreters, steps
from gateway.environments.environment import MARKER, Environment, marker_in, mutex_file
from gateway.environments.errors import EnvironmentUnavailable
from gateway.environments.lock import locked_now
from gateway.environments.runtime import Runtime

# What `environment.locate` makes: the runtime's name, the accelerator, and a hash.
_FOLDER = re.compile(r"(?P<runtime>.+)-(?P<accelerator>cpu|cuda)-[0-9a-f]{12}")


def folders(home: Path) -> dict[str, list[Path]]:
    """Return the folders of environments, complete or not, by the name of their runtime.

    A runtime has several if it was built for two accelerators, or with other packages before.
    """
    found: dict[str, list[Path]] = {}
    for folder in _folders(home):
        match = _FOLDER.fullmatch(folder.name)
        if match and folder.is_dir():
            found.setdefault(match["runtime"], []).append(folder)
    return found


def of_models(home: Path, runtimes: Mapping[str, Runtime]) -> Iterator[Environment]:
    """Yield the complete environments that have packages of a model in addition to those of its runtime."""
    for name, each in folders(home).items():
        base = runtimes.get(name.rpartition("-")[0])
        if name in runtimes or base is None or not (base.model_requirements or base.extras):
            continue
        for folder in each:
            marker, interpreter = marker_in(folder), interpreters.chosen(steps.python_of(folder))
            if marker and interpreter:
                accelerator = str(marker["accelerator"])
                requirements = {accelerator: tuple(marker["requirements"])}
                runtime = replace(base, name=name, base=base.name, requirements=requirements)
                yield Environment(runtime, accelerator, folder, interpreter)


def remove(folder: Path) -> None:
    """Delete an environment. Raises EnvironmentUnavailable if it is being built, or if a process runs in it."""
    try:
        with locked_now(mutex_file(folder)):
            user = _user(folder)
            if user is not None:
                raise EnvironmentUnavailable(
                    f"process {user} runs in the environment {folder.name}: stop its gateway, or unload its models"
                )
            # Delete the marker first, so that the environment is not ready even if the rest is interrupted.
            (folder / MARKER).unlink(missing_ok=True)
            shutil.rmtree(folder)
    except BlockingIOError:
        raise EnvironmentUnavailable(
            f"the environment {folder.name} is being built: wait for the build, or stop it"
        ) from None
    except OSError as error:
        raise EnvironmentUnavailable(f"the environment {folder.name} cannot be removed: {error.strerror}") from None


def _folders(home: Path) -> list[Path]:
    try:
        return sorted((home.expanduser().absolute() / "environments").iterdir())
    except OSError:
        return []


def _user(folder: Path) -> int | None:
    """Return the id of a process that runs in the environment, as far as this user may see it; None if none does."""
    import psutil  # here, because the stage of an image that builds environments does not have it

    python = str(steps.python_of(folder))
    for process in psutil.process_iter(["cmdline"]):
        if python in (process.info["cmdline"] or ())[:1]:
            return int(process.pid)
    return None
