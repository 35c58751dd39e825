"""Everything that a gateway serves: folders of this machine and remote locations, one after another."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gateway.contents.names import is_name
from gateway.environments.runtime import Runtime
from gateway.remote.location import is_remote
from gateway.remote.mirror import Mirror
from gateway.remote.mirrors import Mirrors
from gateway.repository.errors import RepositoryError
from gateway.repository.model_config import ModelConfig
from gateway.repository.model_folder import ModelFolder, read_configuration, scan_model
from gateway.repository.model_toml import ModelConfigError, ModelToml
from gateway.repository.scan import scan
from gateway.repository.scan_cache import ScanCache

log = logging.getLogger("models")


class Repositories:
    """A `Scan` of several places. If two have a model of the same name, the first is served, and the log says so.

    places      paths, and URLs of `SCHEMES`. Raises BadLocation or StoreError for URLs that cannot be used
    model_name  the name of a single model, if there is one place
    """

    def __init__(self, places: Sequence[str], mirrors: Mirrors, model_name: str = "") -> None:
        self._places: list[tuple[str, Path | Mirror]] = []
        for place in places:
            mirror = mirrors.get(place) if is_remote(place) else None
            self._places.append((str(mirror.location), mirror) if mirror else (place, Path(place).absolute()))
        self._caches = {place: ScanCache() for place, _ in self._places}
        self._model_name = model_name
        self._logged: set[tuple[str, str, str]] = set()
        self._folders: dict[str, Path] = {}  # model → the folder of its repository

    def folder_of(self, model: str) -> Path | None:
        """Return the folder of the repository in which the last scan found a model; None if it is in none."""
        return self._folders.get(model)

    def __call__(self, path: Path, runtimes: Mapping[str, Runtime]) -> list[ModelConfig]:
        """Return the versions of all places; `path` is not used. Raises RepositoryError."""
        found: list[ModelConfig] = []
        owners: dict[str, str] = {}
        twice: dict[tuple[str, str, str], None] = {}
        folders: dict[str, Path] = {}
        for place, source in self._places:
            if isinstance(source, Path):
                configs = scan(source, runtimes, self._model_name, self._caches[place])
            else:
                configs = scan_mirror(source, runtimes, self._model_name)
            folder = source if isinstance(source, Path) else source.path
            for config in configs:
                owner = owners.setdefault(config.name, place)
                if owner == place:
                    found.append(config)
                    if config.folder and folder:  # an artifact on its own has no such folder
                        folders[config.name] = folder
                else:
                    twice[config.name, owner, place] = None
        for each in twice:
            name, owner, place = each
            if each not in self._logged:
                log.error("%s: it is in %s and in %s; only the first is served; rename one of them", name, owner, place)
            # Of the model as a whole, so that it does not replace the version that is served.
            problem = "another repository has a model of the same name, which is not served; rename one of them"
            found.append(ModelConfig(name, "", f"in {place}", problem=problem))
        self._logged, self._folders = set(twice), folders
        return found


def scan_mirror(mirror: Mirror, runtimes: Mapping[str, Runtime], model_name: str = "") -> list[ModelConfig]:
    """Return the versions in a mirror's folder, and those whose files are missing, each with the reason."""
    path, name = mirror.path, mirror.location.stem.split(".")[0]
    if path is None:
        return [ModelConfig(name, "", problem, problem=problem) for problem in mirror.problems.values()]
    try:
        found = scan(path, runtimes, model_name)
    except RepositoryError as error:
        found = [ModelConfig(name, "", "", problem=str(error))]
    if mirror.is_artifact:
        return found
    return with_missing(found, mirror.problems, path, runtimes)


def scan_mirrored_model(
    mirror: Mirror, name: str, overrides: ModelToml, runtimes: Mapping[str, Runtime]
) -> list[ModelConfig]:
    """Return the versions of a model whose folder is a remote location."""
    path = mirror.path
    if path is None:
        reason = "its files could not be downloaded; the gateway's log says why"
        return [ModelConfig(name, "", "", problem=reason if mirror.unread else "its files are being downloaded")]
    found = scan_model(ModelFolder(name, path / name, overrides), runtimes)
    return with_missing(found, mirror.problems, path, runtimes)


def with_missing(
    found: Sequence[ModelConfig],
    problems: Mapping[tuple[str, str], str],
    folder: Path,
    runtimes: Mapping[str, Runtime],
) -> list[ModelConfig]:
    """Return the configurations with one for each version whose files are missing."""
    there = {(each.name, each.version) for each in found if each.version}
    with_versions = {name for name, _ in there}
    missing = {
        (name, version): problem
        for (name, version), problem in problems.items()
        if (name, version) not in there and (version or name not in with_versions) and is_name(name)
    }
    models = {name for name, _ in missing}
    # Without any of its versions, a model seems to have none.
    configs = [each for each in found if each.version or each.artifact or each.name not in models or _is_broken(each)]
    known = {each.name: each for each in configs if _is_broken(each)}
    for (name, version), problem in sorted(missing.items()):
        if name not in known:
            config = ModelConfig(name, version, f"missing: {problem}", problem=problem)
            configs.append(replace(config, toml=_configuration(folder / name, runtimes)))
    return configs


def _is_broken(config: ModelConfig) -> bool:
    """Return whether the configuration of the whole model cannot be used."""
    return not config.version and bool(config.fingerprint)


def _configuration(folder: Path, runtimes: Mapping[str, Runtime]) -> ModelToml:
    try:
        return read_configuration(ModelFolder(folder.name, folder), runtimes)[0]
    except ModelConfigError:
        return ModelToml()
