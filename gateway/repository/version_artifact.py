"""Finds the artifact of a version, as its configuration says, and the runtime with the packages that it needs."""

import os
from collections.abc import Mapping
from pathlib import Path

from gateway.environments.mlflow_packages import MLMODEL, read_mlflow_packages
from gateway.environments.model_packages import read_requirements, with_model_packages, with_packages
from gateway.environments.runtime import Runtime
from gateway.repository.errors import UnknownFormat
from gateway.repository.formats import Artifact, find_artifact, identify
from gateway.repository.model_toml import ModelToml


def version_artifact(folder: Path, toml: ModelToml, runtimes: Mapping[str, Runtime]) -> Artifact:
    """Return the artifact in a version's folder. Raises UnknownFormat, BrokenRequirements."""
    return _with_packages(_find_artifact(folder, toml, runtimes), toml)


def single_artifact(path: Path, runtimes: Mapping[str, Runtime]) -> Artifact:
    """Return the artifact at a path, which no configuration describes. Raises UnknownFormat, BrokenRequirements."""
    toml = ModelToml()
    return _with_packages(_allowed(identify(path, runtimes), toml), toml)


def _find_artifact(folder: Path, toml: ModelToml, runtimes: Mapping[str, Runtime]) -> Artifact:
    """Return the artifact in a version's folder, considering `artifact` and `runtime`. Raises UnknownFormat."""
    if toml.runtime:
        if toml.runtime not in runtimes:
            raise UnknownFormat(f"there is no runtime '{toml.runtime}'; there are {', '.join(sorted(runtimes))}")
        runtimes = {toml.runtime: runtimes[toml.runtime]}
    if not toml.artifact:
        return _allowed(find_artifact(folder, runtimes, named=bool(toml.runtime)), toml)
    # normpath, not resolve: a name with ".." must not leave the folder, but symbolic links in it may lead anywhere.
    # Anyone who can put a link there could also put the file itself there.
    path = Path(os.path.normpath(folder / toml.artifact))
    if not path.is_relative_to(os.path.normpath(folder)) or not path.exists():
        raise UnknownFormat(
            f"its configuration names the artifact '{toml.artifact}', which is not in version {folder.name}"
        )
    return _allowed(identify(path, runtimes, named=bool(toml.runtime)), toml)


def _allowed(artifact: Artifact, toml: ModelToml) -> Artifact:
    """Return the artifact, if it may be served without its archive's handler. Raises UnknownFormat."""
    if artifact.archive and artifact.archive.unserved_handler and not toml.runtime:
        name = artifact.runtime.installed_name
        raise UnknownFormat(
            f'{artifact.archive.unserved_handler}: write runtime = "{name}" in model.toml to serve the model without it'
        )
    return artifact


def _with_packages(artifact: Artifact, toml: ModelToml) -> Artifact:
    """Return the artifact with a runtime that has the packages which the model asks for. Raises BrokenRequirements."""
    folder = artifact.path.parent
    if handler := artifact.handler:
        file = artifact.archive.folder / handler.requirements if artifact.archive and handler.requirements else None
        requested = read_requirements(file) if file else ()
        return artifact._replace(
            runtime=with_packages(
                artifact.runtime, requested, toml.python, extras=tuple({*toml.extras, *handler.extras})
            )
        )
    if artifact.path.name != MLMODEL:
        return artifact._replace(runtime=with_model_packages(artifact.runtime, folder, toml.python, toml.extras))
    requested, python = read_mlflow_packages(folder)
    source = "its model.toml" if toml.python else "it was made with MLflow, which"
    runtime = with_packages(artifact.runtime, requested, toml.python or python, source, toml.extras)
    return artifact._replace(runtime=runtime)
