"""The repository's folders as they are now, as one ModelConfig per version that should be served."""

import glob
import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gateway.environments.runtime import Runtime
from gateway.repository.formats import Artifact, UnknownFormat, find_artifact, identify, settled
from gateway.repository.model_config import ModelConfigError, ModelToml, read_model_toml
from gateway.repository.pbtxt import read_config_pbtxt

log = logging.getLogger("models")


@dataclass(frozen=True)
class ModelConfig:
    """One version of one model that should be served.

    version       as clients write it, without leading zeros; "" where the model has none to offer
    artifact      None when there is none to load; `problem` says why, in one sentence
    fingerprint   changes when the artifact, model.toml or config.pbtxt does: the same version is then loaded anew
    class_labels  by output, what the places in its last dimension stand for
    warning       what of the model's configuration means nothing here, in one line; `configured` changes
                  when the files do that say it
    """

    name: str
    version: str
    fingerprint: str
    artifact: Artifact | None = None
    toml: ModelToml = field(default_factory=ModelToml)
    problem: str = ""
    class_labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    warning: str = ""
    configured: str = ""


@dataclass(frozen=True)
class ModelFolder:
    """One model to serve: path/<version>/<artifact>, and path/model.toml.

    stated  what was said about it elsewhere: the keys that are set take the place of model.toml's
    """

    name: str
    path: Path
    stated: ModelToml = field(default_factory=ModelToml)


class RepositoryError(Exception):
    """The repository itself cannot be read: one sentence."""


# What gives the models to serve; called at every look. Raises RepositoryError.
Scan = Callable[[Path, Mapping[str, Runtime]], list[ModelConfig]]


def scan(path: Path, runtimes: Mapping[str, Runtime]) -> list[ModelConfig]:
    """What the repository asks for. A broken model is in the list with its problem, beside the others.

    `path` is a repository REPO/<model>/<version>/<artifact>, or a single artifact. Raises RepositoryError.
    """
    if not path.exists():
        raise RepositoryError(f"{path} does not exist; a model repository or an artifact is wanted")
    configs: list[ModelConfig] = []
    try:
        if _is_artifact(path, runtimes):
            return [_single(path, runtimes)]
        folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise RepositoryError(f"{path} cannot be read: {error.strerror}") from None
    for folder in folders:
        configs += _model_or_problem(folder, runtimes)
    return configs


def _model_or_problem(folder: Path, runtimes: Mapping[str, Runtime]) -> list[ModelConfig]:
    name = folder.name.encode(errors="backslashreplace").decode()
    if name != folder.name:
        return [ModelConfig(name, "", "", problem="its folder's name is not UTF-8; rename it")]
    return scan_model(ModelFolder(name, folder), runtimes)


def with_runtime(config: ModelConfig, can: Callable[[Runtime], bool]) -> ModelConfig:
    """With the runtime that is to be, of two that read the artifact. `can`: whether this machine can have one."""
    if config.artifact is None or config.artifact.instead is None:
        return config
    return replace(config, artifact=settled(config.artifact, can))


def scan_model(folder: ModelFolder, runtimes: Mapping[str, Runtime]) -> list[ModelConfig]:
    """One model's versions. Whatever is wrong with its folder is its own problem, never that of others."""
    name = folder.name
    try:
        return list(_model(folder, runtimes))
    except OSError as error:
        return [ModelConfig(name, "", "", problem=f"its folder cannot be read: {error.strerror}")]
    except Exception:
        log.exception("the folder of model %s could not be understood", name)
        return [ModelConfig(name, "", "", problem="its folder could not be understood; the gateway's log says why")]


def _is_artifact(path: Path, runtimes: Mapping[str, Runtime]) -> bool:
    if path.is_file():
        return True
    if any(_versions(entry) for entry in path.iterdir() if entry.is_dir()):
        return False
    try:
        find_artifact(path, runtimes)
    except UnknownFormat:
        return False
    return True


def _single(path: Path, runtimes: Mapping[str, Runtime]) -> ModelConfig:
    try:
        artifact = identify(path, runtimes)
    except UnknownFormat as error:
        raise RepositoryError(str(error)) from None
    name = path.name.split(".")[0] or path.name
    return ModelConfig(name, "1", _fingerprint(*artifact_files(path)), artifact)


def artifact_files(path: Path) -> list[Path]:
    """The artifact, and what lies beside a file and shares its stem: MXNet's parameters, ONNX's external data."""
    stem = re.split(r"[-.]", path.name)[0]
    return sorted(path.parent.glob(f"{glob.escape(stem)}[-.]*")) if path.is_file() else [path]


def _model(model: ModelFolder, runtimes: Mapping[str, Runtime]) -> Iterator[ModelConfig]:
    folder, name = model.path, model.name
    files = [folder / "model.toml", folder / "config.pbtxt"]
    try:
        toml, warning = _read_configuration(folder, runtimes)
        toml = toml.model_copy(update={key: getattr(model.stated, key) for key in model.stated.model_fields_set})
        class_labels = {output: _read_labels(folder, file) for output, file in toml.labels.items()}
    except ModelConfigError as error:
        yield ModelConfig(name, "", _fingerprint(*files), problem=str(error))
        return
    versions = _versions(folder)
    if not versions:
        problem = "it has no version folder; a positive integer such as 1 is wanted, with the artifact in it"
        yield ModelConfig(name, "", "", problem=problem)
        return
    chosen = toml.version_policy.choose(list(versions))
    if not chosen:
        problem = f"its version policy chooses none of the versions {sorted(versions)}"
        yield ModelConfig(name, "", _fingerprint(*files), problem=problem)
    configured = _fingerprint(*files)
    for version in chosen:
        place, *others = versions[version]
        read = [*files, place, *others, *(folder / file for file in toml.labels.values())]
        labels = sorted(label for label, number in model.stated.version_labels.items() if number == version)
        fingerprint = _fingerprint(*read, stated="\0".join([str(folder), *labels]))
        found = ModelConfig(name, str(version), fingerprint, None, toml, "", class_labels, warning, configured)
        if others:
            names = f"{', '.join(each.name for each in versions[version][:-1])} and {versions[version][-1].name}"
            yield replace(found, problem=f"its folders {names} are all version {version}; leave one of them")
            continue
        try:
            yield replace(found, artifact=_find_artifact(place, toml, runtimes))
        except UnknownFormat as error:
            yield replace(found, problem=str(error))


def _read_configuration(folder: Path, runtimes: Mapping[str, Runtime]) -> tuple[ModelToml, str]:
    """What the model's file says, and a warning. Of two files it is ours that holds. Raises ModelConfigError."""
    toml, pbtxt = folder / "model.toml", folder / "config.pbtxt"
    if not pbtxt.exists():
        return read_model_toml(toml), ""
    if toml.exists():
        return read_model_toml(toml), "its config.pbtxt is not read, since there is a model.toml"
    declared, ignored = read_config_pbtxt(pbtxt, runtimes)
    return declared, f"its config.pbtxt has what means nothing here: {', '.join(ignored)}" if ignored else ""


def _find_artifact(place: Path, toml: ModelToml, runtimes: Mapping[str, Runtime]) -> Artifact:
    """The version's artifact, with what the model's file says of it. Raises UnknownFormat."""
    if toml.runtime:
        if toml.runtime not in runtimes:
            raise UnknownFormat(f"there is no runtime '{toml.runtime}'; there are {', '.join(sorted(runtimes))}")
        runtimes = {toml.runtime: runtimes[toml.runtime]}
    if not toml.artifact:
        return find_artifact(place, runtimes)
    named = place / toml.artifact
    if not named.resolve().is_relative_to(place.resolve()) or not named.exists():
        raise UnknownFormat(f"its artifact is to be '{toml.artifact}', and version {place.name} holds no such thing")
    return identify(named, runtimes)


def _read_labels(folder: Path, file: str) -> tuple[str, ...]:
    """One label a line. Raises ModelConfigError."""
    place = folder / file
    if not place.resolve().is_relative_to(folder.resolve()):
        raise ModelConfigError(f"the labels file '{file}' must lie in the model's own folder")
    try:
        text = place.read_text("utf-8")
    except OSError as error:
        raise ModelConfigError(f"the labels file '{file}' cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ModelConfigError(f"the labels file '{file}' is not UTF-8") from None
    return tuple(line.strip() for line in text.splitlines())


def _versions(folder: Path) -> dict[int, list[Path]]:
    """Version folders by number; 00000123 is version 123, so there may be several.

    Beyond 64 bits it is none: no protocol could tell it.
    """
    found: dict[int, list[Path]] = {}
    for entry in sorted(folder.iterdir()):
        if entry.name.isascii() and entry.name.isdigit() and 0 < int(entry.name) < 1 << 63 and entry.is_dir():
            found.setdefault(int(entry.name), []).append(entry)
    return found


def _fingerprint(*places: Path, stated: str = "") -> str:
    """Of names, sizes and times, not of contents: a look at the repository must stay cheap. `stated` counts, too."""
    digest = hashlib.sha256(os.fsencode(stated))
    for place in places:
        files = [place] if place.is_file() else sorted(place.rglob("*")) if place.is_dir() else []
        for file in files:
            if any(part.startswith(".") for part in file.relative_to(place.parent).parts):
                continue  # editors and file systems keep their own files beside ours
            try:
                about = file.stat()
            except OSError:
                continue  # it has just been taken away: the next look sees what is left
            digest.update(os.fsencode(file.name) + f"\0{about.st_size}\0{about.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]
