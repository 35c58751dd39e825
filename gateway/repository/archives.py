"""Archives in a repository (.mar, .tar.gz): where their content lies on disk.

Each is unpacked once, into a cache in MODELPORT_HOME that the processes of this machine share. A content is removed
when its archive has changed or is gone, and no process uses it any more.
"""

import hashlib
import logging
import math
import os
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from gateway.config import SettingsError, home
from gateway.contents.archive import unpack
from gateway.contents.cache import Cache
from gateway.contents.errors import SourceUnreadable, StoreError

log = logging.getLogger("models")

MODEL_ARCHIVE = ".mar"
_SUFFIXES = (MODEL_ARCHIVE, ".tar.gz", ".tgz")
_LEGACY_SUFFIX = ".model"  # of Multi Model Server's first archives; a file of CNTK has it as well
_MANIFESTS = ("MAR-INF/MANIFEST.json", "MANIFEST.json")

# Of how archives are unpacked: contents of a release that did it otherwise are not used.
_LAYOUT = b"2"
# What has failed for lack of room is tried again after this time: it may take long, and fill the disk once more.
_RETRY_S = 30.0

_lock = threading.Lock()
_newest: dict[Path, list[str]] = {}  # archive → the digests of its two newest contents: a worker may use the older one
_failed: dict[Path, "_Failure"] = {}


class _Failure(NamedTuple):
    """Why what an archive contains, by its digest, could not be unpacked, and when to try again."""

    digest: str
    reason: str
    retry_at: float


_leaves_packed: ContextVar[bool] = ContextVar("leaves_packed", default=False)


@contextmanager
def leaving_packed() -> Iterator[None]:
    """Have `unpacked` refuse archives whose content is not in the cache: unpacking may take minutes."""
    token = _leaves_packed.set(True)
    try:
        yield
    finally:
        _leaves_packed.reset(token)


def is_archive(file: Path) -> bool:
    """Return whether a file is an archive of a model by its name or, if that does not say, by its content."""
    name = file.name.lower()
    if name.endswith(_LEGACY_SUFFIX):
        return _has_manifest(file)
    return name.endswith(_SUFFIXES)


def archive_name(file: Path) -> str:
    """Return the name of the model in an archive: that of the file, such as resnet-18.v2 for resnet-18.v2.mar."""
    ending = next((suffix for suffix in (*_SUFFIXES, _LEGACY_SUFFIX) if file.name.lower().endswith(suffix)), "")
    return file.name[: len(file.name) - len(ending)] or file.name


def _has_manifest(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            if opened.read(4) != b"PK\x03\x04":
                return False
            with zipfile.ZipFile(opened) as archive:
                return any(name in archive.NameToInfo for name in _MANIFESTS)
    except Exception:  # zipfile raises many kinds of errors for corrupt files
        return False


def unpacked(file: Path) -> Path:
    """Return the folder with an archive's content, which this process may use until the archive has changed twice.

    Raises StoreError, with what is wrong with the archive or the cache; and OSError if the archive cannot be read.
    """
    file = Path(os.path.abspath(file))
    digest = _digest(file)
    with _lock:
        failure = _failed.get(file)
        if failure and failure.digest == digest and time.monotonic() < failure.retry_at:
            raise StoreError(failure.reason)
        try:
            cache = _cache()
            folder = cache.find(digest) or _add(cache, digest, file)
            known = _newest.setdefault(file, [])
            if digest not in known:
                _newest[file] = [*known, digest][-2:]
                cache.use(str(file), _newest[file])
                _remove_stale(cache)
        except OSError as error:
            raise StoreError(_unusable(error)) from None
        return folder


def remove_stale() -> None:
    """Remove the contents of archives that have changed or are gone, if no process uses them."""
    with _lock, suppress(StoreError, OSError):  # the next time may do better
        if _newest:
            _remove_stale(_cache())


def _add(cache: Cache, digest: str, file: Path) -> Path:
    retry_at = time.monotonic() + _RETRY_S

    def fill(empty: Path) -> None:
        nonlocal retry_at
        # First: without it, nobody would remove the content if this process were killed.
        (_sources(cache) / digest).write_bytes(os.fsencode(file))
        try:
            unpack(file, empty)
        except SourceUnreadable:
            raise
        except StoreError:
            retry_at = math.inf  # the archive is broken until it changes
            raise

    if _leaves_packed.get():
        raise StoreError("it is not unpacked yet")
    log.info("unpacking %s", file.name)
    try:
        return cache.add(digest, file.stat().st_size, fill)
    except (StoreError, OSError) as error:
        reason = str(error) if isinstance(error, StoreError) else _unusable(error)
        _failed[file] = _Failure(digest, reason, retry_at)
        raise StoreError(reason) from None


def _unusable(error: OSError) -> str:
    return f"MODELPORT_HOME cannot be used for unpacked archives: {error.strerror}"


def _digest(file: Path) -> str:
    """Return a name for what an archive contains now, by what changes with it: reading all of it would take long."""
    status = os.stat(file)
    metadata = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
    return hashlib.sha256(_LAYOUT + os.fsencode(file) + repr(metadata).encode()).hexdigest()[:32]


def _cache() -> Cache:
    try:
        folder = home() / "archives"
        if (cache := _opened(folder)).is_gone:
            cache.close()
            _opened.cache_clear()
            _newest.clear()
        return _opened(folder)
    except SettingsError as error:
        raise StoreError(str(error)) from None


@lru_cache(maxsize=4)
def _opened(folder: Path) -> Cache:
    try:
        cache = Cache(folder)
        _sources(cache).mkdir(exist_ok=True)
    except OSError as error:
        raise StoreError(_unusable(error)) from None
    return cache


def _sources(cache: Cache) -> Path:
    return cache.folder / "sources"


def _remove_stale(cache: Cache) -> None:
    for file in [file for file in (*_newest, *_failed) if _is_gone(file)]:
        _failed.pop(file, None)
        if _newest.pop(file, None):
            cache.use(str(file), ())
    for record in _sources(cache).iterdir():
        try:
            is_current = _digest(Path(os.fsdecode(record.read_bytes()))) == record.name
        except OSError:
            is_current = False
        if not is_current:
            cache.drop([record.name])
            if not cache.path(record.name).exists():
                record.unlink(missing_ok=True)


def _is_gone(file: Path) -> bool:
    try:
        os.stat(file)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass
    return False
