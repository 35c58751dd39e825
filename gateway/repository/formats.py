"""Which runtime an artifact wants, by its content: nothing has to be declared."""

import zipfile
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from gateway.environments.runtime import Format, Runtime


class Artifact(NamedTuple):
    """What `load` gets: a file or folder, and who reads it.

    fallback  the same for who reads it where that runtime cannot be had
    """

    path: Path
    runtime: Runtime
    platform: str
    fallback: "Artifact | None" = None


class UnknownFormat(Exception):
    """One sentence: what lies there, and what would be served."""


def find_artifact(folder: Path, runtimes: Mapping[str, Runtime]) -> Artifact:
    """The artifact in a version's folder; of several, the one that is called model. Raises UnknownFormat."""
    near_misses: list[str] = []
    found: dict[Path, Artifact] = {}
    for runtime in _fallbacks_last(runtimes):
        for form in runtime.formats:
            for file in _matches(folder, form.files):
                if why := _why_not(file, form):
                    near_misses.append(why)
                else:
                    found[file] = _with_fallback(found.get(file), _artifact(file, form, runtime))
    called_model = [artifact for file, artifact in found.items() if _is_called_model(file, folder)]
    if len(found) == 1 or len(called_model) == 1:
        return (called_model or list(found.values()))[0]
    if found:
        names = ", ".join(str(file.relative_to(folder)) for file in found)
        raise UnknownFormat(f"it holds several artifacts: {names}; leave one, or call the one to serve 'model'")
    if near_misses:
        raise UnknownFormat(near_misses[0])
    others = sorted(entry.name for entry in folder.iterdir() if not is_foreign(entry.name))
    told = f"it holds {', '.join(others[:5])}" if others else "it is empty"
    raise UnknownFormat(f"no artifact that a runtime reads: {told}; served are {describe(runtimes.values())}")


def identify(path: Path, runtimes: Mapping[str, Runtime]) -> Artifact:
    """The same for one artifact by itself: a file, or the folder that is one. Raises UnknownFormat."""
    if path.is_dir():
        return find_artifact(path, runtimes)
    near_misses: list[str] = []
    found: Artifact | None = None
    for runtime in _fallbacks_last(runtimes):
        for form in runtime.formats:
            if any(fnmatch(path.name, Path(pattern).name) for pattern in form.files):
                if why := _why_not(path, form):
                    near_misses.append(why)
                else:
                    found = _with_fallback(found, _artifact(path, form, runtime))
    if found:
        return found
    if near_misses:
        raise UnknownFormat(near_misses[0])
    raise UnknownFormat(f"'{path.name}' is no artifact that a runtime reads; served are {describe(runtimes.values())}")


def resolve_runtime(artifact: Artifact, can: Callable[[Runtime], bool]) -> Artifact:
    """The artifact with the runtime that is to be: what stands in for another does where only it can be had."""
    if artifact.fallback and not can(artifact.runtime) and can(artifact.fallback.runtime):
        return artifact.fallback
    return artifact._replace(fallback=None)


def _fallbacks_last(runtimes: Mapping[str, Runtime]) -> list[Runtime]:
    return sorted(runtimes.values(), key=lambda runtime: bool(runtime.fallback_for))


def _with_fallback(first: Artifact | None, other: Artifact) -> Artifact:
    """The first that reads a file has it; what stands in for that one is remembered."""
    if first is None:
        return other
    stands_in = first.fallback is None and other.runtime.fallback_for == first.runtime.name
    return first._replace(fallback=other) if stands_in else first


# What operating systems and archives leave beside other people's files.
_FOREIGN = {"lost+found", "@eaDir", "#recycle", "__MACOSX", "$RECYCLE.BIN", "System Volume Information"}
_FOREIGN |= {"Thumbs.db", "desktop.ini"}


def is_foreign(name: str) -> bool:
    """Whether a file or folder of this name is none of the repository's: hidden ones are never (._model.onnx, .git)."""
    return name.startswith(".") or name in _FOREIGN


def describe(runtimes: Iterable[Runtime]) -> str:
    patterns = [pattern for runtime in runtimes for form in runtime.formats for pattern in form.files]
    return ", ".join(dict.fromkeys(Path(pattern).name for pattern in patterns))


def _is_called_model(file: Path, folder: Path) -> bool:
    return file.relative_to(folder).parts[0].split(".")[0].split("-")[0] == "model"


def _matches(folder: Path, patterns: Iterable[str]) -> list[Path]:
    found = (file for pattern in patterns for file in folder.glob(pattern) if file.is_file())
    return sorted(file for file in found if not any(map(is_foreign, file.relative_to(folder).parts)))


def _why_not(file: Path, form: Format) -> str:
    for pattern in form.beside:
        if not any(file.parent.glob(pattern)):
            return f"'{file.name}' needs a file {pattern} beside it"
    if form.zip_entry:
        try:
            with zipfile.ZipFile(file) as archive:
                if not any(fnmatch(name, form.zip_entry) for name in archive.namelist()):
                    return f"'{file.name}' is not a {form.platform} archive: it has no entry {form.zip_entry}"
        except Exception:  # zipfile raises whatever a broken byte leads it to
            return f"'{file.name}' is not a {form.platform} archive: it is not a readable zip file"
    return ""


def _artifact(file: Path, form: Format, runtime: Runtime) -> Artifact:
    return Artifact(file.parent if form.artifact == "folder" else file, runtime, form.platform)
