"""Scans a model repository: returns a ModelConfig for each version that should be served."""

import glob
import hashlib
import logging
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path

from gateway.contents.names import is_foreign
from gateway.domain.pipeline import Step
from gateway.environments.errors import BrokenRequirements
from gateway.environments.mlflow_packages import MLMODEL, read_mlflow_packages
from gateway.environments.model_packages import read_requirements, with_model_packages, with_packages
from gateway.environments.runtime import Runtime
from gateway.repository.archives import MODEL_ARCHIVE, archive_name, remove_stale
from gateway.repository.declarations import stated_version, with_declarations
from gateway.repository.errors import UnknownFormat
from gateway.repository.formats import Artifact, find_artifact, identify, resolve_runtime
from gateway.repository.model_toml import DeclaredTensor, ModelConfigError, ModelToml, read_model_toml
from gateway.repository.pipeline_graph import graph_problem
from gateway.repository.scan_cache import ScanCache
from gateway.repository.sequence_config import INITIAL_STATES, StateToml
from gateway.repository.shards import shards
from runtimes.contract import LoadError, Signature
from runtimes.external_data import weight_files

log = logging.getLogger("models")

REQUEST = "load request"  # where settings come from that a request to load the model brought


@dataclass(frozen=True)
class ModelConfig:
    """One version of a model that should be served.

    version       without leading zeros; "" if a problem concerns the model as a whole
    fingerprint   changes when the artifact, model.toml or config.pbtxt changes; the version is loaded again then
    artifact      None if there is none to load; `problem` has the reason, in one sentence
    sources       key of `toml` that is set → the file that sets it: model.toml, config.pbtxt or models.config
    class_labels  output → labels of the indices in its last dimension; "" is the first output
    warning       what is ignored in the model's configuration, in one line
    readable      the files and folders that its worker may read
    folder        the folder in which links may lead from one place to another: the model's, or None
    files, extra  what the fingerprint was computed from: files, and settings that are not in files
    config_fingerprint  of the configuration files only, which `warning` is about
    steps         of a pipeline, which has no artifact
    is_foreign    whether its files are not in the repository
    """

    name: str
    version: str
    fingerprint: str
    artifact: Artifact | None = None
    toml: ModelToml = field(default_factory=ModelToml)
    problem: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    class_labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    warning: str = ""
    readable: tuple[Path, ...] = ()
    folder: Path | None = None
    files: tuple[Path, ...] = ()
    extra: str = ""
    config_fingerprint: str = ""
    steps: tuple[Step, ...] = ()
    is_foreign: bool = False

    @property
    def declared_labels(self) -> Mapping[str, tuple[str, ...]]:
        """The labels that the configuration names: one for each class. An archive may have fewer."""
        return {output: labels for output, labels in self.class_labels.items() if output in self.toml.labels}

    def labels_of(self, signature: Signature | None) -> Mapping[str, tuple[str, ...]]:
        """Return `class_labels` by the names of outputs that a signature has."""
        if "" not in self.class_labels or signature is None or not signature.outputs:
            return self.class_labels
        return {name or signature.outputs[0].name: labels for name, labels in self.class_labels.items()}

    def unchanged(self) -> bool:
        """Return whether the files still match the fingerprint. If they do not, what was loaded may be inconsistent."""
        try:
            return not self.files or _fingerprint(*self.files, extra=self.extra) == self.fingerprint
        except OSError:
            return False  # a file cannot be accessed now


@dataclass(frozen=True)
class ModelFolder:
    """A model's folder, with path/<version>/<artifact> and path/model.toml.

    overrides  settings from elsewhere; the keys that are set replace those of model.toml
    any_name   whether the configuration in the folder may have another name than the folder
    requested  what a request to load the model brought; None if everything is from the folder
    """

    name: str
    path: Path
    overrides: ModelToml = field(default_factory=ModelToml)
    any_name: bool = False
    requested: "Requested | None" = None


@dataclass(frozen=True)
class Requested:
    """What a request to load a model brought: see gateway/lifecycle/overrides.py.

    number         differs for each request, so that each of them loads the model again
    configuration  Triton's, in JSON, in place of the files in the folder
    has_files      whether the folder was made from files in the request
    """

    number: int
    configuration: str
    has_files: bool = False


class RepositoryError(Exception):
    """The repository itself cannot be read. The message is one sentence."""


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


def with_runtime(config: ModelConfig, is_available: Callable[[Runtime], bool]) -> ModelConfig:
    """Choose between the artifact's runtime and its fallback, by which of them this machine can run."""
    if config.artifact is None or config.artifact.fallback is None:
        return config
    return replace(config, artifact=resolve_runtime(config.artifact, is_available))


def scan_model(folder: ModelFolder, runtimes: Mapping[str, Runtime]) -> list[ModelConfig]:
    """Return the versions of one model, or its problem, so that a broken folder never affects other models."""
    name = folder.name
    try:
        return list(_model(folder, runtimes))
    except OSError as error:
        return [ModelConfig(name, "", "", problem=f"its folder cannot be read: {error.strerror}")]
    except Exception:
        log.exception("the folder of model %s could not be read", name)
        return [ModelConfig(name, "", "", problem="its folder could not be read; the gateway's log says why")]


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
        return entry.is_dir() and bool(_versions(entry))
    except OSError:
        return False  # reported when the models are scanned


def _single(path: Path, runtimes: Mapping[str, Runtime], name: str) -> ModelConfig:
    try:
        artifact = _with_packages(_allowed(identify(path, runtimes), ModelToml()), ModelToml())
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
    config = ModelConfig(name, version, _fingerprint(*files), toml=toml, readable=files, files=files)
    return with_declarations(config, artifact)


def _stored(file: Path, runtimes: Mapping[str, Runtime]) -> list[ModelConfig]:
    """Return the model in a .mar that lies in the repository itself, as in TorchServe's model store."""
    try:
        return [_single(file, runtimes, "")]
    except RepositoryError as error:
        return [ModelConfig(archive_name(file), "", _fingerprint(file), problem=str(error))]
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not file.is_symlink():
            return []  # it was removed after it was listed
        problem = f"'{file.name}' cannot be read: {error.strerror}"
        return [ModelConfig(archive_name(file), "", "", problem=problem)]


def artifact_files(path: Path) -> list[Path]:
    """Return an artifact, the files next to it that share its stem (MXNet's parameters), and those that it names.

    These are the external data of ONNX, and the weights of TensorFlow.js.
    """
    if not path.is_file():
        return [path]
    stem = re.split(r"[-.]", path.name)[0]
    found = {path, *path.parent.glob(f"{glob.escape(stem)}[-.]*")}
    if path.suffix == ".onnx":
        status = path.stat()
        found |= {path.parent / name for name in _weight_files(path, status.st_mtime_ns, status.st_size)}
    elif path.suffix == ".json":
        found |= {path.parent / name for name in shards(path)}
    return sorted(found)


@lru_cache(maxsize=64)
def _weight_files(path: Path, modified_ns: int, size: int) -> list[str]:
    """Return the files in which an ONNX model keeps weights, except hidden ones, such as .ssh/id_rsa."""
    try:
        names = weight_files(str(path))
    except (LoadError, OSError):
        return []  # the worker reports it
    return [name for name in names if not any(map(is_foreign, name.split("/")))]


def _model(model: ModelFolder, runtimes: Mapping[str, Runtime]) -> Iterator[ModelConfig]:
    folder, name = model.path, model.name
    config_files = [folder / "model.toml", folder / "config.pbtxt"]
    try:
        toml, source, warning = read_configuration(model, runtimes)
        overrides, requested = model.overrides, model.requested
        sources = {
            **dict.fromkeys(toml.model_fields_set, source),
            **dict.fromkeys(overrides.model_fields_set, "models.config"),
            **({"artifact": REQUEST} if requested and requested.has_files else {}),
        }
        toml = toml.model_copy(update={key: getattr(overrides, key) for key in overrides.model_fields_set})
        steps = tuple(step.resolve() for step in toml.steps)
        if problem := steps and graph_problem(steps, _names(toml.inputs), _names(toml.outputs), name):
            raise ModelConfigError(f"{folder.name}/{source}: {problem}")
        class_labels = {output: _read_labels(folder, file) for output, file in toml.labels.items()}
    except ModelConfigError as error:
        extra = f"{folder}\0{model.requested}" if model.requested else ""
        yield ModelConfig(name, "", _fingerprint(*config_files, extra=extra), problem=str(error), folder=folder)
        return
    versions = _versions(folder)
    if not versions:
        what = "which stays empty" if steps else "and put the artifact in it"
        problem = f"it has no version folder; add one, such as 1, {what}"
        yield ModelConfig(name, "", "", problem=problem)
        return
    chosen = toml.version_policy.choose(list(versions))
    if not chosen:
        problem = f"its version policy selects none of the versions {sorted(versions)}"
        yield ModelConfig(name, "", _fingerprint(*config_files), problem=problem)
    config_fingerprint = _fingerprint(*config_files, extra=str(requested))
    for version in chosen:
        version_folder, *others = versions[version]
        initial = sorted({folder / INITIAL_STATES / each.initial for each in _states(toml) if each.initial})
        files = (*config_files, version_folder, *others, *(folder / file for file in toml.labels.values()), *initial)
        labels = sorted(label for label, number in model.overrides.version_labels.items() if number == version)
        # A models.config can point a model to another folder, or move a label, without a change of any other file.
        extra = "\0".join([str(folder), *labels, *([str(requested)] if requested else [])])
        config = ModelConfig(
            name,
            str(version),
            _fingerprint(*files, extra=extra),
            toml=toml,
            sources=sources,
            class_labels=class_labels,
            warning=warning,
            readable=(version_folder, *initial),
            folder=folder,
            files=files,
            extra=extra,
            config_fingerprint=config_fingerprint,
            steps=steps,
        )
        if others:
            *most, last = [each.name for each in versions[version]]
            names = f"{', '.join(most)} and {last}"
            yield replace(config, problem=f"its folders {names} are all version {version}; keep one of them")
            continue
        if steps:
            yield config
            continue
        try:
            artifact = _with_packages(_find_artifact(version_folder, toml, runtimes), toml)
            yield with_declarations(config, artifact)
        except (UnknownFormat, BrokenRequirements) as error:
            yield replace(config, problem=str(error))


def _states(toml: ModelToml) -> tuple[StateToml, ...]:
    return toml.sequence.states if toml.sequence else ()


def read_configuration(model: ModelFolder, runtimes: Mapping[str, Runtime]) -> tuple[ModelToml, str, str]:
    """Return the model's configuration, the name of its file, and a warning about it. Raises ModelConfigError.

    If there are both a model.toml and a config.pbtxt, model.toml is used.
    """
    folder = model.path
    if model.requested is not None:
        from gateway.repository.config_json import read_config_json  # imports protobuf's JSON, which few models need

        declared, ignored = read_config_json(model.requested.configuration, model.name, runtimes)
        warning = f"the request to load it has settings that are ignored here: {', '.join(ignored)}" if ignored else ""
        return declared, REQUEST, warning
    toml, pbtxt = folder / "model.toml", folder / "config.pbtxt"
    if not pbtxt.exists():
        return read_model_toml(toml), toml.name, ""
    if toml.exists():
        return read_model_toml(toml), toml.name, "its config.pbtxt is not read, because there is a model.toml"
    from gateway.repository.pbtxt import read_config_pbtxt  # imports protobuf's text format, which nothing else needs

    declared, ignored = read_config_pbtxt(pbtxt, runtimes, model.any_name)
    warning = f"its config.pbtxt has settings that are ignored here: {', '.join(ignored)}" if ignored else ""
    return declared, pbtxt.name, warning


def _names(tensors: Iterable[DeclaredTensor]) -> list[str]:
    return [tensor.name for tensor in tensors]


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


def _read_labels(folder: Path, file: str) -> tuple[str, ...]:
    """Return the lines of a labels file. Raises ModelConfigError."""
    path = folder / file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ModelConfigError(f"the labels file '{file}' must be in the model's own folder")
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise ModelConfigError(f"the labels file '{file}' cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ModelConfigError(f"the labels file '{file}' is not UTF-8") from None
    # Not splitlines(): it also splits at a form feed or U+2028, which may be part of a label.
    return tuple(line.strip() for line in text.removesuffix("\n").split("\n")) if text else ()


def _versions(folder: Path) -> dict[int, list[Path]]:
    """Return the version folders by number. There may be several for one number: 00000123 is version 123 too."""
    found: dict[int, list[Path]] = {}
    for entry in sorted(folder.iterdir()):
        if is_version(entry.name) and entry.is_dir():
            found.setdefault(int(entry.name), []).append(entry)
    return found


def is_version(name: str) -> bool:
    """Return whether a folder's name is a version. Protocols transmit versions as signed 64-bit integers."""
    return name.isascii() and name.isdigit() and 0 < int(name) < 1 << 63


def _fingerprint(*paths: Path, extra: str = "") -> str:
    """Return a hash of `extra` and of the metadata of all files, not their contents: scans must be cheap.

    Links are followed. Size and modification time are not enough: tools such as rsync -t and image layers preserve the
    modification time of a replaced file. Such a file has another inode, or at least another change time (ctime). The
    device number is left out, because it may differ when the same volume is mounted again.
    """
    digest = hashlib.sha256(os.fsencode(extra))
    for path in paths:
        for file in files_in(path):
            try:
                status = os.stat(file)
            except OSError:
                continue  # it was removed just now; the next scan will notice
            metadata = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
            digest.update(os.fsencode(os.path.basename(file)) + repr(metadata).encode())
    return digest.hexdigest()[:16]


def files_in(path: Path) -> Iterator[str]:
    """Yield a file, or all files in a folder, in order. Linked folders are followed, each of them once."""
    if not path.is_dir():
        yield os.fspath(path)
        return
    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(path, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()  # a link to a folder that was visited, perhaps one that contains it
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not is_foreign(name))
        yield from (os.path.join(folder, name) for name in sorted(files) if not is_foreign(name))
