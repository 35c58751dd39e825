"""The repository's folders as they are now, as one ModelConfig per version that should be served."""

import glob
import hashlib
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gateway.environments.runtime import Runtime
from gateway.repository.formats import Artifact, UnknownFormat, find_artifact, identify, is_foreign, resolve_runtime
from gateway.repository.model_toml import ModelConfigError, ModelToml, read_model_toml
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
    read, stated  what the fingerprint was made of
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
    read: tuple[Path, ...] = ()
    stated: str = ""

    def unchanged(self) -> bool:
        """Whether the files are still those that were looked at: what was loaded meanwhile is whole only then."""
        try:
            return not self.read or _fingerprint(*self.read, stated=self.stated) == self.fingerprint
        except OSError:
            return False  # they cannot be looked at now


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
        entries = sorted(entry for entry in path.iterdir() if not is_foreign(entry.name))
    except OSError as error:
        raise RepositoryError(f"{path} cannot be read: {error.strerror}") from None
    for entry in entries:
        configs += _model_or_problem(entry, runtimes)
    return configs


def _model_or_problem(entry: Path, runtimes: Mapping[str, Runtime]) -> list[ModelConfig]:
    """An entry of the repository as a model, or as what is wrong with it; nothing for what is no model at all."""
    name = entry.name.encode(errors="backslashreplace").decode()
    try:
        if not stat.S_ISDIR(entry.stat().st_mode):
            return []
        if name != entry.name:
            return [ModelConfig(name, "", "", problem="its folder's name is not UTF-8; rename it")]
        if not _looks_like_a_model(entry, runtimes):
            return []
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not entry.is_symlink():
            return []  # it was taken away since it was listed
        return [ModelConfig(name, "", "", problem=f"its folder cannot be read: {error.strerror}")]
    return scan_model(ModelFolder(name, entry), runtimes)


def _looks_like_a_model(folder: Path, runtimes: Mapping[str, Runtime]) -> bool:
    """Whether it has a version, a configuration, or an artifact (whose owner forgot the version's folder).

    Anything else is a folder that happens to lie here.
    """
    names = [entry.name for entry in folder.iterdir()]
    if any(is_version(name) for name in names) or "model.toml" in names or "config.pbtxt" in names:
        return True
    try:
        find_artifact(folder, runtimes)
    except UnknownFormat:
        return False
    return True


def with_runtime(config: ModelConfig, can: Callable[[Runtime], bool]) -> ModelConfig:
    """With the runtime that is to be, of two that read the artifact. `can`: whether this machine can have one."""
    if config.artifact is None or config.artifact.fallback is None:
        return config
    return replace(config, artifact=resolve_runtime(config.artifact, can))


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
    if any(_has_versions(entry) for entry in path.iterdir()):
        return False
    try:
        find_artifact(path, runtimes)
    except UnknownFormat:
        return False
    return True


def _has_versions(entry: Path) -> bool:
    try:
        return entry.is_dir() and bool(_versions(entry))
    except OSError:
        return False  # it is told of when the models are looked at


def _single(path: Path, runtimes: Mapping[str, Runtime]) -> ModelConfig:
    try:
        artifact = identify(path, runtimes)
    except UnknownFormat as error:
        raise RepositoryError(str(error)) from None
    name = path.name.split(".")[0] or path.name
    read = artifact_files(path)
    return ModelConfig(name, "1", _fingerprint(*read), artifact, read=tuple(read))


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
        read = (*files, place, *others, *(folder / file for file in toml.labels.values()))
        labels = sorted(label for label, number in model.stated.version_labels.items() if number == version)
        stated = "\0".join([str(folder), *labels])
        found = ModelConfig(
            name, str(version), _fingerprint(*read, stated=stated), None, toml, "", class_labels, warning, configured,
            read, stated,
        )  # fmt: skip
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
    # A link may lead anywhere, as it may where nothing is named: who can place it can place the file itself.
    named = Path(os.path.normpath(place / toml.artifact))
    if not named.is_relative_to(os.path.normpath(place)) or not named.exists():
        raise UnknownFormat(f"its artifact is to be '{toml.artifact}', and version {place.name} holds no such thing")
    return identify(named, runtimes)


def _read_labels(folder: Path, file: str) -> tuple[str, ...]:
    """One label a line. Raises ModelConfigError."""
    place = folder / file
    if not place.resolve().is_relative_to(folder.resolve()):
        raise ModelConfigError(f"the labels file '{file}' must lie in the model's own folder")
    try:
        text = place.read_text("utf-8-sig")
    except OSError as error:
        raise ModelConfigError(f"the labels file '{file}' cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ModelConfigError(f"the labels file '{file}' is not UTF-8") from None
    # Not splitlines(), which also takes a form feed or U+2028 within a label for the end of a line.
    return tuple(line.strip() for line in text.removesuffix("\n").split("\n")) if text else ()


def _versions(folder: Path) -> dict[int, list[Path]]:
    """Version folders by number; 00000123 is version 123, so there may be several.

    Beyond 64 bits it is none: no protocol could tell it.
    """
    found: dict[int, list[Path]] = {}
    for entry in sorted(folder.iterdir()):
        if is_version(entry.name) and entry.is_dir():
            found.setdefault(int(entry.name), []).append(entry)
    return found


def is_version(name: str) -> bool:
    return name.isascii() and name.isdigit() and 0 < int(name) < 1 << 63


def _fingerprint(*places: Path, stated: str = "") -> str:
    """Of what the file system says about each file, not of contents: a look at the repository must stay cheap.

    Links are followed. Size and modification time alone miss files that were put in place with the times of others
    (rsync -t, image layers): these have another inode, or at least another time of change. `stated` counts, too. The
    number of the device does not: the same volume, mounted anew, may have another.
    """
    digest = hashlib.sha256(os.fsencode(stated))
    for place in places:
        for file in _files(place):
            try:
                about = os.stat(file)
            except OSError:
                continue  # it has just been taken away: the next look sees what is left
            found = about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino
            digest.update(os.fsencode(os.path.basename(file)) + repr(found).encode())
    return digest.hexdigest()[:16]


def _files(place: Path) -> Iterator[str]:
    """The file itself, or all within the folder, in order; linked folders too, each once."""
    if not place.is_dir():
        yield os.fspath(place)
        return
    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(place, followlinks=True):
        about = os.stat(folder)
        if (about.st_dev, about.st_ino) in seen:
            folders.clear()  # a link leads back to where it lies
            continue
        seen.add((about.st_dev, about.st_ino))
        folders[:] = sorted(name for name in folders if not is_foreign(name))
        yield from (os.path.join(folder, name) for name in sorted(files) if not is_foreign(name))
