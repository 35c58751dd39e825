"""Scans a model repository: returns a ModelConfig for each version that should be served."""

import stat
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path

from gateway.contents.names import is_foreign
from gateway.environments.errors import BrokenRequirements
from gateway.environments.runtime import Runtime
from gateway.repository.archives import MODEL_ARCHIVE, archive_name, remove_stale
from gateway.repository.artifact_files import artifact_files
from gateway.repository.declarations import stated_version, with_declarations
from gateway.repository.errors import RepositoryError, UnknownFormat
from gateway.repository.fingerprint import fingerprint_of
from gateway.repository.formats import find_artifact
from gateway.repository.model_config import ModelConfig
from gateway.repository.model_folder import ModelFolder, is_version, scan_model, versions_in
from gateway.repository.model_toml import ModelToml
from gateway.repository.scan_cache import ScanCache
from gateway.repository.version_artifact import single_artifact

# Returns the versions that should be served. Called for each scan of the repository. Raises RepositoryError.
Scan = Callable[[Path, Mapping[str, Runtime]], list[ModelConfig]]


def scan(
    path: Path, runtimes: Mapping[str, Runtime], model_name: str = "", cache: ScanCache | None = None
) -> list[ModelConfig]:
    """Return the versions of a repository REPO/<model>/<version>/<artifact>, or of a single model: see `scan_one`.

    A repository may also have archives of models, REPO/<model>.mar.

    A broken model is in the list with its problem, and does not affect the others. Raises RepositoryError.

    model_name  the name of a single model; in a repository, folders name the models
    cache       of the scan before, with the same runtimes
    """
    if not path.exists():
        raise RepositoryError(f"{path} does not exist; it must be a model repository or an artifact")
    configs: list[ModelConfig] = []
    try:
        if not is_repository(path, runtimes) or (model_name and not models_in(path)):
            return scan_one(path, runtimes, model_name)
        if model_name:
            _check_models_only(path, runtimes)
        entries = sorted(entry for entry in path.iterdir() if not is_foreign(entry.name))
    except OSError as error:
        raise RepositoryError(f"{path} cannot be read: {error.strerror}") from None
    names = set[str]()
    for entry in entries:
        read = partial(_model_or_problem, entry, runtimes)
        found = read() if cache is None else cache.read(entry, read)
        configs += [_unless_taken(config, entry, names) for config in found]
        names |= {config.name for config in found}
    if cache is not None and cache.keep(entries) and entries:
        remove_stale()
    return configs


def _unless_taken(config: ModelConfig, entry: Path, names: Collection[str]) -> ModelConfig:
    """Return the version of a model; or, if its name is one of those before it, the problem that this is."""
    if config.name not in names:
        return config
    problem = f"'{entry.name}' has the name of another model in the repository; rename one of them"
    return ModelConfig(config.name, "", config.fingerprint, problem=problem)


def _model_or_problem(entry: Path, runtimes: Mapping[str, Runtime]) -> list[ModelConfig]:
    """Return the versions of a model, or its problem; nothing if the entry of the repository is not a model."""
    name = entry.name.encode(errors="backslashreplace").decode()
    try:
        if entry.name.endswith(MODEL_ARCHIVE) and name == entry.name and not entry.is_dir():
            return _stored(entry, runtimes)
        if not stat.S_ISDIR(entry.stat().st_mode):
            return []
        if name != entry.name:
            return [ModelConfig(name, "", "", problem="its folder's name is not UTF-8; rename it")]
        if not _looks_like_model(entry, runtimes):
            return []
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not entry.is_symlink():
            return []  # it was removed after it was listed
        return [ModelConfig(name, "", "", problem=f"its folder cannot be read: {error.strerror}")]
    return scan_model(ModelFolder(name, entry), runtimes)


def _looks_like_model(folder: Path, runtimes: Mapping[str, Runtime]) -> bool:
    """Return whether a folder has a version, a configuration, or an artifact that is not in a version's folder.

    Other folders are unrelated to models, and ignored. Archives in them are not opened: they may be large, and of any
    kind.
    """
    names = [entry.name for entry in folder.iterdir()]
    if any(is_version(name) for name in names) or "model.toml" in names or "config.pbtxt" in names:
        return True
    try:
        find_artifact(folder, runtimes, archives=False)
    except UnknownFormat:
        return False
    return True


def is_repository(path: Path, runtimes: Mapping[str, Runtime]) -> bool:
    """Return whether a path is a folder of models, which may be empty, and not a single model. Raises OSError."""
    if path.is_file() or is_model_folder(path):
        return False
    if models_in(path) or any(path.glob(f"*{MODEL_ARCHIVE}")):
        return True
    try:
        find_artifact(path, runtimes)
    except UnknownFormat:
        return True
    return False


def _check_models_only(path: Path, runtimes: Mapping[str, Runtime]) -> None:
    """Raises RepositoryError if a repository also has an artifact, and it is not clear which of them is meant."""
    try:
        artifact = find_artifact(path, runtimes)
    except UnknownFormat:
        return
    names = ", ".join(entry.name for entry in models_in(path)[:5])
    raise RepositoryError(
        f"{path} has both an artifact ({artifact.path.name}) and folders of models ({names}); keep one or the other"
    )


def is_model_folder(path: Path) -> bool:
    """Return whether a folder has the versions of one model, or its configuration. Raises OSError."""
    if (path / "model.toml").is_file() or (path / "config.pbtxt").is_file():
        return True
    return not models_in(path) and any(is_version(each.name) and _has_content(each) for each in path.iterdir())


def models_in(path: Path) -> list[Path]:
    """Return the folders with versions in a folder."""
    return sorted(entry for entry in path.iterdir() if not is_foreign(entry.name) and _has_versions(entry))


def scan_one(path: Path, runtimes: Mapping[str, Runtime], name: str = "") -> list[ModelConfig]:
    """Return the versions of a single model; there is one, 1, if it is not a model's folder.

    path  an artifact, a folder with one (a version's, a SavedModel, what MLflow saves), or a model's folder
    name  "": that of the file or folder

    Raises RepositoryError if there is no model, or more than one; and OSError.
    """
    if not path.is_file():
        if is_model_folder(path):
            return scan_model(ModelFolder(name or path.name, path, any_name=True), runtimes)
        if models := models_in(path):
            names = ", ".join(entry.name for entry in models[:5])
            raise RepositoryError(f"{path} has the folders of several models ({names}), where one model was expected")
    return [_single(path, runtimes, name)]


def _has_content(folder: Path) -> bool:
    try:
        return any(not is_foreign(entry.name) for entry in folder.iterdir())
    except OSError:
        return False  # it was removed after it was listed, or is reported when the model is scanned


def _has_versions(entry: Path) -> bool:
    try:
        return entry.is_dir() and bool(versions_in(entry))
    except OSError:
        return False  # reported when the models are scanned


def _single(path: Path, runtimes: Mapping[str, Runtime], name: str) -> ModelConfig:
    try:
        artifact = single_artifact(path, runtimes)
    except UnknownFormat as error:
        # Of a folder, the sentence says only what is in it.
        raise RepositoryError(str(error) if path.is_file() else f"{path} cannot be served: {error}") from None
    except BrokenRequirements as error:
        raise RepositoryError(str(error)) from None
    if artifact.runtime.model_requirements and artifact.archive is None:
        path = artifact.path.parent
    packed = artifact.archive is not None and path.is_file()
    name = name or (archive_name(path) if packed else path.name.split(".")[0] or path.name)
    # Others in a model store have names that begin alike: resnet-18.mar, resnet-34.mar.
    files = (path,) if packed else tuple(artifact_files(path))
    version, labels = stated_version(artifact)
    toml = ModelToml().model_copy(update={"version_labels": labels})
    config = ModelConfig(name, version, fingerprint_of(*files), toml=toml, readable=files, files=files)
    return with_declarations(config, artifact)


def _stored(file: Path, runtimes: Mapping[str, Runtime]) -> list[ModelConfig]:
    """Return the model in a .mar that lies in the repository itself, as in TorchServe's model store."""
    try:
        return [_single(file, runtimes, "")]
    except RepositoryError as error:
        return [ModelConfig(archive_name(file), "", fingerprint_of(file), problem=str(error))]
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not file.is_symlink():
            return []  # it was removed after it was listed
        problem = f"'{file.name}' cannot be read: {error.strerror}"
        return [ModelConfig(archive_name(file), "", "", problem=problem)]
