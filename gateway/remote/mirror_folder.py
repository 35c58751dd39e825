"""The folder that a mirror keeps: files, links to contents of the cache, and what they were made from.

<cache>/repositories/<name>/root/<model>/model.toml, labels.txt, …   files
<cache>/repositories/<name>/root/<model>/<version>                   a link to a content
<cache>/repositories/<name>/root/<artifact>                          the same, of an artifact or an archive
<cache>/repositories/<name>/state.json                               what the files are, and what to scan
"""

import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.contents.cache import Cache, lock_file
from gateway.repository.model_folder import is_version

# model → name of a file → its size and etag
Files = Mapping[str, Mapping[str, list[Any]]]


class MirrorFolder:
    """Not shared: another process that mirrors the same location gets a folder of its own, with the same contents."""

    def __init__(self, cache: Cache, name: str) -> None:
        self._cache = cache
        for number in range(1, 1000):
            self.name = name if number == 1 else f"{name}-{number}"
            self._folder = cache.folder / "repositories" / self.name
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock_file(self._folder / "lock")
            if self._lock is not None:
                break
        self.root = self._folder / "root"
        self._state = self._read_state()
        for link, digest in list(self._links()):
            if cache.find(digest) is None:
                link.unlink(missing_ok=True)

    @property
    def path(self) -> Path | None:
        """What to scan: the folder, or the artifact in it. None if nothing has been downloaded yet."""
        scanned = self._state.get("scanned")
        path = self._folder / scanned if isinstance(scanned, str) else None
        return path if path is not None and path.exists() else None

    @property
    def files(self) -> Files:
        """The files that are no links, as `save` got them."""
        found: Files = self._state.get("files", {})
        return found

    def save(self, scanned: str, files: Files) -> None:
        """Remember what the folder is. `scanned`: relative to it."""
        state = {"scanned": scanned, "files": files}
        if state != self._state:
            new = self._folder / "state.json.new"
            new.write_text(json.dumps(state))
            os.replace(new, self._folder / "state.json")
            self._state = state

    def close(self) -> None:
        """Unlock the folder, which must not be used any more."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def digests(self) -> dict[tuple[str, str], str]:
        """Return (model, version) → digest of its content; ("", "") stands for an artifact."""
        return {
            ("", "") if link.parent == self.root else (link.parent.name, str(int(link.name))): digest
            for link, digest in self._links()
        }

    def point(self, link: Path, digest: str) -> None:
        """Make a link lead to a content, at once."""
        if target(link) == digest:
            return
        new = link.with_name(f".{link.name}.new")
        new.unlink(missing_ok=True)
        new.symlink_to(os.path.relpath(self._cache.path(digest), link.parent))
        if link.is_dir() and not link.is_symlink():
            self._remove(link)
        os.replace(new, link)

    def keep_only(self, names: Collection[str]) -> None:
        """Remove all other entries of the root."""
        for entry in self.root.iterdir():
            if entry.name not in names:
                self._remove(entry)

    def _remove(self, entry: Path) -> None:
        if entry.is_symlink() or entry.is_file():
            entry.unlink(missing_ok=True)
            return
        gone = self._folder / ".removed"
        shutil.rmtree(gone, ignore_errors=True)
        entry.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _links(self) -> Iterator[tuple[Path, str]]:
        for entry in self.root.iterdir() if self.root.is_dir() else ():
            for link in [entry] if entry.is_symlink() else entry.iterdir() if entry.is_dir() else ():
                if link.is_symlink() and (link == entry or is_version(link.name)):
                    yield link, target(link)

    def _read_state(self) -> dict[str, Any]:
        try:
            state = json.loads((self._folder / "state.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}


def target(link: Path) -> str:
    """Return the digest of the content that a link leads to; "" if it is no link."""
    try:
        return Path(os.readlink(link)).parent.name
    except OSError:
        return ""


def put(file: Path, folder: Path, name: str) -> None:
    """Move a file to a name below a folder, at once, whatever was there: a folder may have become a file."""
    place = folder / name
    for parent in reversed(place.parents[: name.count("/")]):
        if parent.is_symlink() or parent.is_file():
            parent.unlink()
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    os.replace(file, place)


def remove_others(folder: Path, names: Collection[str]) -> None:
    """Remove the files and links below a folder that have none of these names, and folders without any."""
    for top, folders, files in os.walk(folder, topdown=False):
        for name in (*files, *(each for each in folders if Path(top, each).is_symlink())):
            if Path(top, name).relative_to(folder).as_posix() not in names:
                Path(top, name).unlink(missing_ok=True)
        if Path(top) != folder:
            with suppress(OSError):  # it has files
                os.rmdir(top)
