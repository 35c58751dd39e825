"""Hashes of the metadata of files, by which a scan notices that a model has changed."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from gateway.contents.names import is_foreign


def fingerprint_of(*paths: Path, extra: str = "") -> str:
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
