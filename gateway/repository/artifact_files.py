"""The files that make up an artifact, and the names under which they may be downloaded."""

import glob
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from gateway.contents.names import is_foreign
from gateway.errors import NotFound
from gateway.repository.fingerprint import files_in
from gateway.repository.formats import Artifact
from gateway.repository.model_config import ModelConfig
from gateway.repository.shards import shards
from runtimes.contract import LoadError
from runtimes.external_data import weight_files


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


class ArtifactFiles(NamedTuple):
    """main: the file that describes the model. files: name → path. Names are relative to one folder, with '/'."""

    platform: str
    main: str
    files: Mapping[str, Path]


def list_files(config: ModelConfig) -> ArtifactFiles:
    """Return the files of the artifact. It reads the folder, so call it in a thread. Raises NotFound.

    A link that leads out of the model's folder is left out, as the sandbox would refuse it: whoever may add a file to
    the repository need not have access to what it points to.
    """
    artifact = config.artifact
    if config.steps:
        raise NotFound(f"model '{config.name}' is a pipeline, which has no artifact; the models of its steps have")
    if artifact is None:
        raise NotFound(f"model '{config.name}' has no artifact: {config.problem}")
    folder = artifact.path if artifact.path.is_dir() else artifact.path.parent
    own = [Path(os.path.realpath(each)) for each in (*config.readable, config.folder) if each is not None]
    files: dict[str, Path] = {}
    for top in artifact_files(artifact.path):
        for file in map(Path, files_in(top)):
            target, name = Path(os.path.realpath(file)), file.relative_to(folder).as_posix()
            is_own = any(target.is_relative_to(each) for each in own)
            if is_own and target.is_file() and all(map(_is_text, (name, str(target)))):
                files[name] = target
    main = _main_file(artifact, files)
    if main not in files:
        raise NotFound(f"the artifact of model '{config.name}' cannot be read now")
    return ArtifactFiles(artifact.platform, main, files)


def _is_text(name: str) -> bool:
    """Whether a name is UTF-8: others cannot be in a URL, or in JSON."""
    return name == name.encode(errors="ignore").decode()


def _main_file(artifact: Artifact, files: Mapping[str, Path]) -> str:
    if not artifact.path.is_dir():
        return artifact.path.name
    patterns = [Path(pattern).name for each in artifact.runtime.formats for pattern in each.files]
    return next((name for name in patterns if name in files), "")
