"""Finds a version's artifact and the runtime that reads it, by file names and content. Nothing has to be declared."""

import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import NamedTuple

from gateway.contents.names import is_foreign
from gateway.domain.table_schema import TableSchema
from gateway.environments.mlflow_packages import MLMODEL
from gateway.environments.runtime import Format, Runtime
from gateway.environments.yaml_file import BrokenYaml
from gateway.repository.archived import Identify, find_in_file, find_in_model_archive
from gateway.repository.archives import archive_name, is_archive
from gateway.repository.errors import UnknownFormat
from gateway.repository.handler import Handler
from gateway.repository.mar import Archive, is_model_archive
from gateway.repository.mlmodel import is_mlflow_model, read_mlmodel
from runtimes.contract import TensorSpec
from runtimes.http_messages import PLATFORM

_HEAD_BYTES = 1024  # of a file: enough for Format.head
_MOST_MISSES = 3  # that an error lists


class Artifact(NamedTuple):
    """A model's file or folder, and the runtime that reads it.

    fallback  the artifact for another runtime, which is used if this one is not available on the machine
    table     how clients of MLflow's dialect write its inputs and outputs; None if MLflow has not saved it
    inputs, outputs  what MLflow's signature or an archive declares, for artifacts that declare nothing themselves
    archive   what else the archive says that it is in; None if it is in none
    warning   what is not read beside it, in one line; "" if nothing
    """

    path: Path
    runtime: Runtime
    platform: str
    fallback: "Artifact | None" = None
    table: TableSchema | None = None
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    archive: Archive | None = None
    warning: str = ""

    @property
    def handler(self) -> Handler | None:
        """The archive's handler, if the artifact is what runs it."""
        return self.archive.handler if self.archive and self.platform == PLATFORM else None

    @property
    def is_undeclared(self) -> bool:
        """Whether artifacts of its format declare neither datatypes nor shapes."""
        return any(form.platform == self.platform and form.undeclared for form in self.runtime.formats)


def find_artifact(
    folder: Path, runtimes: Mapping[str, Runtime], named: bool = False, archives: bool = True
) -> Artifact:
    """Return the artifact in a version's folder; if there are several, the one named "model". Raises UnknownFormat.

    named     whether the model names its runtime, which is then the only one of `runtimes`
    archives  whether the folder may be an unpacked archive of a model, or have an archive if it has nothing else
    """
    artifact = _find_in_folder(folder, runtimes, named, archives)
    packed = _archives_in(folder) if archives and artifact.path.is_relative_to(folder) else []
    # Others are data: no one expects them to be served.
    packed = [file for file in packed if archive_name(file) in ("model", artifact.path.name.split(".")[0])]
    if not packed:
        return artifact
    names = ", ".join(file.name for file in packed)
    return artifact._replace(
        warning=f"its {names} is not read, because its folder has {artifact.path.name}, too: remove one of them"
    )


def _archives_in(folder: Path) -> list[Path]:
    return [file for file in _matching_files(folder, ("*",)) if is_archive(file)]


def _find_in_folder(folder: Path, runtimes: Mapping[str, Runtime], named: bool, archives: bool) -> Artifact:
    """Return the artifact in a folder. Raises UnknownFormat."""
    if is_mlflow_model(folder):
        return _find_mlflow_artifact(folder, runtimes, named)
    if archives and is_model_archive(folder):
        return find_in_model_archive(folder, *_identify_in_archive(runtimes, named))
    near_misses: list[str] = []
    found: dict[Path, Artifact] = {}
    for runtime, file_format in _formats(runtimes, named):
        for file in _matching_files(folder, file_format.files):
            if is_archive(file):
                continue
            if problem := _problem(file, file_format):
                near_misses.append(problem)
            else:
                found[file] = _with_fallback(found.get(file), _artifact(file, file_format, runtime))
    if not all(artifact.runtime.model_code for artifact in found.values()):
        # Source code is often next to the artifact that was made with it.
        found = {file: artifact for file, artifact in found.items() if not artifact.runtime.model_code}
    named_model = [artifact for file, artifact in found.items() if _is_named_model(file, folder)]
    if len(found) == 1 or len(named_model) == 1:
        return (named_model or list(found.values()))[0]
    if found:
        names = ", ".join(str(file.relative_to(folder)) for file in found)
        raise UnknownFormat(f"it holds several artifacts: {names}; keep one, or name the one to serve 'model'")
    packed = _archives_in(folder) if archives else []
    if len(packed) == 1:
        artifact, beside = identify(packed[0], runtimes, named), archive_name(packed[0])
        if not (folder / beside).is_dir():
            return artifact
        warning = f"its folder {beside} is not read, because {packed[0].name} lies beside it: remove one of them"
        return artifact._replace(warning=warning)
    if packed:
        raise UnknownFormat(f"it holds several archives: {', '.join(file.name for file in packed)}; keep one")
    if near_misses:
        raise UnknownFormat("; ".join(dict.fromkeys(near_misses[:_MOST_MISSES])))
    others = sorted(entry.name for entry in folder.iterdir() if not is_foreign(entry.name))
    content = f"it holds {', '.join(others[:5])}" if others else "it is empty"
    supported = describe_formats(runtimes.values())
    raise UnknownFormat(f"no artifact that a runtime reads: {content}; supported are {supported}")


def _find_mlflow_artifact(folder: Path, runtimes: Mapping[str, Runtime], named: bool) -> Artifact:
    """Return what MLflow has saved for a framework if a runtime of that framework reads it.

    Otherwise, return the MLmodel itself, which a runtime for programs loads with mlflow. Raises UnknownFormat.
    """
    try:
        model = read_mlmodel(folder)
    except BrokenYaml as error:
        raise UnknownFormat(str(error)) from None
    except OSError as error:
        raise UnknownFormat(f"its {MLMODEL} cannot be read: {error.strerror}") from None
    frameworks = {name: runtime for name, runtime in runtimes.items() if not runtime.model_code}
    for path in (folder / each for each in model.artifacts):
        if not path.exists() or is_mlflow_model(path):
            continue
        try:
            artifact = identify(path, frameworks, named)
        except (UnknownFormat, OSError):
            continue  # a pickle, for example, which only mlflow loads
        return artifact._replace(
            table=model.native_table,
            inputs=model.inputs if artifact.is_undeclared else (),
            outputs=model.outputs if artifact.is_undeclared else (),
        )
    return identify(folder / MLMODEL, runtimes)._replace(table=model.table)


def identify(path: Path, runtimes: Mapping[str, Runtime], named: bool = False, archives: bool = True) -> Artifact:
    """Return the artifact at this path, which is a file or a folder. Raises UnknownFormat.

    named     whether the model names its runtime, which is then the only one of `runtimes`
    archives  whether it may be in an archive
    """
    if path.is_dir():
        return find_artifact(path, runtimes, named, archives)
    if archives and is_archive(path):
        return find_in_file(path, *_identify_in_archive(runtimes, named))
    near_misses: list[str] = []
    found: Artifact | None = None
    for runtime, file_format in _formats(runtimes, named):
        if any(fnmatch(path.name, Path(pattern).name) for pattern in file_format.files):
            if problem := _problem(path, file_format):
                near_misses.append(problem)
            else:
                found = _with_fallback(found, _artifact(path, file_format, runtime))
    if found:
        return found
    if near_misses:
        raise UnknownFormat("; ".join(dict.fromkeys(near_misses[:_MOST_MISSES])))
    supported = describe_formats(runtimes.values())
    raise UnknownFormat(f"'{path.name}' is not an artifact that a runtime reads; supported are {supported}")


def _identify_in_archive(runtimes: Mapping[str, Runtime], named: bool) -> tuple[Identify, Identify]:
    """Return what identifies an archive's content, and what identifies its handler; neither is an archive again."""
    frameworks = {name: runtime for name, runtime in runtimes.items() if not runtime.model_code}
    programs = {name: runtime for name, runtime in runtimes.items() if runtime.model_code}
    return (
        partial(identify, runtimes=frameworks, named=named, archives=False),
        partial(identify, runtimes=programs, named=True, archives=False),
    )


def resolve_runtime(artifact: Artifact, is_available: Callable[[Runtime], bool]) -> Artifact:
    """Return the fallback if only its runtime is available; otherwise the artifact itself. Neither has a fallback."""
    if artifact.fallback and not is_available(artifact.runtime) and is_available(artifact.fallback.runtime):
        return artifact.fallback
    return artifact._replace(fallback=None)


def _formats(runtimes: Mapping[str, Runtime], named: bool) -> Iterator[tuple[Runtime, Format]]:
    """Yield the formats that may be chosen, those of fallbacks last."""
    for runtime in sorted(runtimes.values(), key=lambda runtime: bool(runtime.fallback_for)):
        for file_format in runtime.formats:
            if named or not file_format.by_name:
                yield runtime, file_format


def _with_fallback(first: Artifact | None, other: Artifact) -> Artifact:
    """Return the first artifact found for a file, with the other one as its fallback if its runtime is one."""
    if first is None:
        return other
    is_fallback = first.fallback is None and other.runtime.fallback_for == first.runtime.name
    return first._replace(fallback=other) if is_fallback else first


def describe_formats(runtimes: Iterable[Runtime]) -> str:
    patterns = [pattern for runtime in runtimes for file_format in runtime.formats for pattern in file_format.files]
    patterns += ["*.mar", "*.tar.gz"]
    return ", ".join(dict.fromkeys(Path(pattern).name for pattern in patterns))


def _is_named_model(file: Path, folder: Path) -> bool:
    return file.relative_to(folder).parts[0].split(".")[0].split("-")[0] == "model"


def _matching_files(folder: Path, patterns: Iterable[str]) -> list[Path]:
    found = (file for pattern in patterns for file in folder.glob(pattern) if file.is_file())
    return sorted(file for file in found if not any(map(is_foreign, file.relative_to(folder).parts)))


def _problem(file: Path, file_format: Format) -> str:
    """Return why the file is not of this format although its name matches; "" if it is."""
    for pattern in file_format.beside:
        if not any(file.parent.glob(pattern)):
            return f"to be a model of {file_format.platform}, '{file.name}' needs a file {pattern} in the same folder"
    if file_format.head and not _begins(file, file_format.head):
        return f"'{file.name}' is not a file of {file_format.platform}: its first bytes are not those of one"
    if file_format.zip_entry:
        try:
            with zipfile.ZipFile(file) as archive:
                if not any(fnmatch(name, file_format.zip_entry) for name in archive.namelist()):
                    platform, entry = file_format.platform, file_format.zip_entry
                    return f"'{file.name}' is not a {platform} archive: it has no entry {entry}"
        except Exception:  # zipfile raises many kinds of errors for corrupt files
            return f"'{file.name}' is not a {file_format.platform} archive: it is not a readable zip file"
    return ""


def _begins(file: Path, head: str) -> bool:
    try:
        with open(file, "rb") as opened:
            return re.match(head, opened.read(_HEAD_BYTES).decode("latin-1"), re.DOTALL) is not None
    except OSError:
        return False


def _artifact(file: Path, file_format: Format, runtime: Runtime) -> Artifact:
    return Artifact(file.parent if file_format.artifact == "folder" else file, runtime, file_format.platform)
