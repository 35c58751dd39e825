"""The content that was downloaded, on disk: each whole, each once, and bounded.

contents/<digest>/files/…        never changed after it appears
contents/<digest>/manifest.json  names and sizes; its modification time is that of the last use
names/<digest>/<name>            a link to a content
incoming/<process>/…             what is being downloaded
processes/<process>              locked while the process runs; lists the contents that it uses
"""

import fcntl
import json
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway.contents.errors import StoreError


class Cache:
    """The folder of downloaded content, which several processes may share. Thread-safe.

    max_bytes  0: unbounded; otherwise the contents that were used least recently make room, unless they are in use
    """

    def __init__(self, folder: Path, max_bytes: int = 0) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._contents = folder / "contents"
        self._lock = threading.RLock()
        self._reserved = 0  # bytes of downloads in progress
        self._name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._incoming = folder / "incoming" / self._name
        self._used: dict[str, set[str]] = {}  # user → the contents that it uses
        for each in (self._contents, folder / "incoming", folder / "processes"):
            each.mkdir(parents=True, exist_ok=True)
        self._own = _own_file(folder / "processes" / self._name)
        self._incoming.mkdir()
        self._clean()

    @property
    def is_gone(self) -> bool:
        """Whether somebody has removed the folder."""
        return not self._incoming.is_dir()

    def close(self) -> None:
        """Let other processes have what this one uses."""
        os.close(self._own)

    def find(self, digest: str) -> Path | None:
        """Return the folder of a content if it is there and its files have the right sizes."""
        entry = self._contents / digest
        try:
            sizes = json.loads((entry / "manifest.json").read_bytes())["files"]
            if any((entry / "files" / name).stat().st_size != size for name, size in sizes.items()):
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # of any JSON that a damaged disk leaves
            if entry.exists():
                self._remove(entry)
            return None
        self._touch(digest)
        return entry / "files"

    def named(self, digest: str, name: str) -> Path:
        """Return a link to a content that has a name of its own, which a model may be called by."""
        link = self.folder / "names" / digest / name
        link.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            link.symlink_to(Path("../../contents", digest, "files"))
        return link

    def path(self, digest: str) -> Path:
        """Return the folder of a content, whether or not it is there."""
        return self._contents / digest / "files"

    def bytes(self) -> int:
        """Return the bytes of all contents."""
        return sum(map(_size, self._entries()))

    def use(self, user: str, digests: Collection[str]) -> None:
        """Say which contents a user needs from now on, so that nobody removes them."""
        with self._lock:
            if self._used.get(user) == set(digests):
                return
            for digest in self.used_by(user) - set(digests):
                self._touch(digest)  # used until now
            self._used[user] = set(digests)
            text = "".join(f"{digest}\n" for digest in sorted(set[str]().union(*self._used.values())))
            # In this order: another process that reads it in between must find all that is in use.
            os.pwrite(self._own, text.encode(), 0)
            os.ftruncate(self._own, len(text))

    def used_by(self, user: str) -> set[str]:
        """Return the contents that a user needs."""
        return set(self._used.get(user, ()))

    def add(self, digest: str, size: int, fill: Callable[[Path], None]) -> Path:
        """Return the folder of a content that is missing, which `fill` writes into a new folder.

        It appears when it is whole. Raises what `fill` raises, and StoreError if there is no room.
        """
        with self._reserve(size):
            scratch = Path(tempfile.mkdtemp(dir=self._incoming))
            try:
                files = scratch / "files"
                files.mkdir()
                fill(files)
                sizes = {path.relative_to(files).as_posix(): path.stat().st_size for path in _files(files)}
                if sum(sizes.values()) > size:  # an archive
                    self._make_room(sum(sizes.values()) - size)
                (scratch / "manifest.json").write_text(json.dumps({"files": sizes}))
                _sync(scratch)
                with suppress(FileExistsError, OSError):
                    scratch.rename(self._contents / digest)
            except OSError as error:
                raise StoreError(f"the cache cannot be written: {error.strerror or error}") from None
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        found = self.find(digest)
        if found is None:
            raise StoreError("the cache cannot be written: what was downloaded is gone")
        return found

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Return an empty folder on the cache's file system, for a while."""
        folder = Path(tempfile.mkdtemp(dir=self._incoming))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def drop(self, digests: Iterable[str]) -> None:
        """Remove contents that no process uses, if the cache is unbounded: nothing else would remove them."""
        with self._lock:
            if not self.max_bytes:
                for digest in set(digests) - self._in_use():
                    self._remove(self._contents / digest)

    @contextmanager
    def _reserve(self, size: int) -> Iterator[None]:
        with self._lock:
            self._make_room(size)
            self._reserved += size
        try:
            yield
        finally:
            with self._lock:
                self._reserved -= size

    def _make_room(self, size: int) -> None:
        if not self.max_bytes:
            return
        with self._lock:
            in_use = self._in_use()
            sizes = {entry: _size(entry) for entry in self._entries()}
            room = self.max_bytes - sum(sizes.values()) - self._reserved
            for entry in sorted(sizes, key=_used_at):
                if room >= size:
                    return
                if entry.name not in in_use:
                    self._remove(entry)
                    room += sizes[entry]
            if room < size:
                raise StoreError(
                    f"it needs {size} bytes, but model_cache_bytes is {self.max_bytes}, and the models that are served "
                    f"leave {max(0, room)}"
                )

    def _entries(self) -> list[Path]:
        try:
            return [entry for entry in self._contents.iterdir() if not entry.name.startswith(".")]
        except OSError:
            return []  # somebody has removed the folder, or its volume is gone

    def _in_use(self) -> set[str]:
        """Return the contents that a running process uses."""
        found = set[str]().union(*self._used.values())
        for file in (self.folder / "processes").iterdir():
            if file.name != self._name and not _is_abandoned(file):
                with suppress(OSError):
                    found.update(file.read_text().split())
        return found

    def _touch(self, digest: str) -> None:
        with suppress(OSError):
            os.utime(self._contents / digest / "manifest.json")

    def _remove(self, entry: Path) -> None:
        """Remove a content so that nobody finds half of it."""
        with suppress(OSError):
            gone = entry.rename(self._incoming / f"removed-{uuid.uuid4().hex}")
            shutil.rmtree(gone, ignore_errors=True)
        shutil.rmtree(self.folder / "names" / entry.name, ignore_errors=True)

    def _clean(self) -> None:
        """Remove what processes that have ended were downloading."""
        for file in (self.folder / "processes").iterdir():
            if file.name != self._name and _is_abandoned(file):
                shutil.rmtree(self.folder / "incoming" / file.name, ignore_errors=True)
                file.unlink(missing_ok=True)


def lock_file(path: Path) -> int | None:
    """Return the descriptor of a file that is locked until the process ends; None if another process has locked it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _own_file(path: Path) -> int:
    """Return the descriptor of a new file that is locked until the process ends.

    Before it is locked, another process may take it for the file of one that has ended, and remove it.
    """
    while True:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)


def _is_abandoned(path: Path) -> bool:
    try:
        with path.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True
    except OSError:
        return False


def _size(entry: Path) -> int:
    try:
        return sum(json.loads((entry / "manifest.json").read_bytes())["files"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0


def _used_at(entry: Path) -> float:
    try:
        return (entry / "manifest.json").stat().st_mtime
    except OSError:
        return 0.0


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _sync(folder: Path) -> None:
    """Wait until the files are on the disk: after a power cut, a content that is there must be whole."""
    for path in (*_files(folder), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
