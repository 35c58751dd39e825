"""Finds the model that a location names: an artifact, REPOSITORY/MODEL, or a repository with one model."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from gateway.config import SettingsError
from gateway.environments.runtime import Runtime
from gateway.errors import InvalidRequest, NotFound, Unavailable
from gateway.repository.errors import RepositoryError
from gateway.repository.model_config import ModelConfig
from gateway.repository.model_folder import ModelFolder, is_version, scan_model
from gateway.repository.model_toml import ModelToml, VersionPolicy
from gateway.repository.scan import scan

_SCHEME = "://"


def fetched(location: str) -> Path:
    """Return where the location's files are on this machine. Remote ones are downloaded.

    Raises NotFound, InvalidRequest, or Unavailable if a store does not answer.
    """
    if _SCHEME in location:
        from gateway.contents.errors import StoreError
        from gateway.remote.fetch import fetch
        from gateway.remote.location import BadLocation

        try:
            return fetch(location)
        except (BadLocation, SettingsError) as error:
            raise InvalidRequest(str(error)) from None
        except StoreError as error:
            raise Unavailable(str(error)) from None
    path = Path(os.path.expanduser(location)).absolute()  # Path.expanduser raises errors for users that do not exist
    if not os.path.exists(path):
        raise NotFound(f"'{location}' does not exist; it must be an artifact, a model's folder or a repository")
    return path


def absolute(location: str) -> str:
    """Return the location for processes with other working directories. Remote ones stay as they are."""
    return location if _SCHEME in location else os.path.abspath(os.path.expanduser(location))


def find_model(path: Path, version: str, runtimes: Mapping[str, Runtime]) -> list[ModelConfig]:
    """Return the chosen version of the model, then the models that it runs if it is a pipeline.

    version  a number or label; "" for the newest

    Raises InvalidRequest, NotFound.
    """
    if path.is_dir() and is_version(path.name) and _is_model(path.parent):
        path, version = path.parent, version or path.name
    configs = _versions(path, version, runtimes) if _is_model(path) else _scan(path, runtimes)
    names = sorted({config.name for config in configs})
    if not names:
        raise NotFound(f"'{path}' has no model; it must be an artifact, a model's folder or a repository")
    if len(names) > 1:
        raise InvalidRequest(
            f"'{path}' is a repository of several models; name one of them, such as '{path / names[0]}'"
        )
    if not _is_model(path) and path.is_dir() and (path / names[0]).is_dir():
        path = path / names[0]  # the only model of a repository
        configs = _versions(path, version, runtimes) if _is_model(path) else configs
    chosen = _choose(configs, version)
    return [chosen, *_steps(chosen, path.parent, runtimes, {chosen.name})]


def _is_model(path: Path) -> bool:
    """Return whether a folder is a model's, with a folder for each version."""
    return path.is_dir() and any(is_version(entry.name) and entry.is_dir() for entry in path.iterdir())


def _versions(path: Path, version: str, runtimes: Mapping[str, Runtime]) -> list[ModelConfig]:
    """Return a model's versions: those that its policy serves, or all of them if one is asked for by its number."""
    overrides = ModelToml(version_policy=VersionPolicy(all=True)) if version.isdigit() else ModelToml()
    return scan_model(ModelFolder(path.name, path, overrides), runtimes)


def _scan(path: Path, runtimes: Mapping[str, Runtime]) -> list[ModelConfig]:
    try:
        return scan(path, runtimes)
    except RepositoryError as error:
        raise InvalidRequest(str(error)) from None


def _choose(configs: list[ModelConfig], version: str) -> ModelConfig:
    if configs[0].version == "":  # a problem of the model as a whole
        raise InvalidRequest(f"model '{configs[0].name}' cannot be loaded: {configs[0].problem}")
    number = str(configs[0].toml.version_labels.get(version, version.lstrip("0")))
    fitting = [each for each in configs if not version or each.version == number]
    if not fitting:
        known = ", ".join(config.version for config in configs)
        raise NotFound(f"model '{configs[0].name}' has no version '{version}'; it has {known}")
    chosen = max(fitting, key=lambda config: int(config.version))
    if chosen.problem:
        raise InvalidRequest(f"model '{chosen.name}' cannot be loaded: {chosen.problem}")
    return chosen


def _steps(
    config: ModelConfig, repository: Path, runtimes: Mapping[str, Runtime], seen: set[str]
) -> Iterator[ModelConfig]:
    for step in config.steps:
        if step.model not in seen:
            seen.add(step.model)
            versions = scan_model(ModelFolder(step.model, repository / step.model), runtimes)
            yield from (replace(each, toml=each.toml.model_copy(update={"load": "always"})) for each in versions)
            for each in versions:
                yield from _steps(each, repository, runtimes, seen)
