"""Models whose files have not changed since the last scan, so that most of many models are not read again."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from gateway.contents.names import is_foreign
from gateway.repository.model_config import ModelConfig

_Stamp = tuple[tuple[object, ...], ...]


class _Known(NamedTuple):
    stamp: _Stamp
    configs: list[ModelConfig]


class ScanCache:
    """What the last scan has found in each folder and archive of a repository. One thread at a time uses it."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def read(self, folder: Path, read: Callable[[], list[ModelConfig]]) -> list[ModelConfig]:
        """Return what `read` does, or did if no file has changed since. Problems are looked at each time."""
        path = os.fspath(folder)
        known = self._known.get(path)
        try:
            stamp = tuple(_walk(path, set()))
        except OSError:
            self._known.pop(path, None)
            return read()
        if known is not None and known.stamp == stamp and all(map(_has_content, known.configs)):
            return known.configs
        configs = read()
        if any(config.problem for config in configs):
            self._known.pop(path, None)
        else:
            self._known[path] = _Known(stamp, configs)
        return configs

    def keep(self, folders: list[Path]) -> bool:
        """Forget all other folders. Return whether there were any."""
        paths = {os.fspath(folder) for folder in folders}
        before = len(self._known)
        self._known = {path: known for path, known in self._known.items() if path in paths}
        return len(self._known) < before


def _has_content(config: ModelConfig) -> bool:
    """Return whether what was unpacked of a model's archive, if it is in one, is still there."""
    artifact = config.artifact
    return artifact is None or artifact.archive is None or artifact.path.exists()


def _walk(path: str, seen: set[tuple[int, int]]) -> Iterator[tuple[object, ...]]:
    """Yield everything below a path by which a change could be noticed: see `fingerprint_of`. Links are followed."""
    status = os.stat(path)
    yield status.st_mode, status.st_uid, status.st_ino
    if not stat.S_ISDIR(status.st_mode):  # an archive
        yield status.st_size, status.st_mtime_ns, status.st_ctime_ns
        return
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    with os.scandir(path) as entries:
        found = sorted((entry for entry in entries if not is_foreign(entry.name)), key=lambda entry: entry.name)
    for entry in found:
        try:
            is_folder, status = entry.is_dir(), entry.stat()
        except FileNotFoundError:  # a link that leads nowhere
            yield entry.name, None
            continue
        if is_folder:
            yield (entry.name,)
            yield from _walk(entry.path, seen)
        else:
            yield (
                entry.name, entry.is_symlink(), status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns,
                status.st_ino,
            )  # fmt: skip
