"""Unpacks archives that nobody has checked: only files with names that stay inside, and limited in size and number."""

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from gateway.remote.names import check_name, is_hidden
from gateway.remote.store import StoreError

# Far more than models have. Each file takes an inode, and a place in every scan.
_MAX_FILES = 100_000
# Weights hardly compress, so an archive that grows twentyfold is no model, unless it is small.
_MAX_RATIO, _ALWAYS_ALLOWED = 20, 4 << 30
_CHUNK = 1 << 20


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip archive into an empty folder. A single folder around everything is left out, unless it is a
    model. Raises StoreError; what was unpacked by then stays.
    """
    limit = max(_ALWAYS_ALLOWED, _MAX_RATIO * archive.stat().st_size)
    count = written = 0
    try:
        with archive.open("rb") as file:
            entries = _zip(file) if archive.suffix.lower() == ".zip" else _tar(file)
            for entry, size, stream in entries:
                name = entry.removeprefix("./")
                if is_hidden(name):
                    continue
                count += 1
                if count > _MAX_FILES:
                    raise StoreError(f"the archive has more than {_MAX_FILES} files")
                if written + size > limit:
                    raise StoreError(f"the archive unpacks to more than {limit} bytes")
                written += _write(stream, folder / check_name(name), limit - written)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise StoreError(
            f"the archive cannot be unpacked: it is damaged or encrypted ({type(error).__name__})"
        ) from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise StoreError("the archive has two entries with the same name") from None
    _lift(folder)


def _write(stream: IO[bytes], path: Path, limit: int) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with path.open("xb") as file:
        while chunk := stream.read(_CHUNK):
            written += len(chunk)
            if written > limit:
                raise StoreError("the archive unpacks to more bytes than it announces")
            file.write(chunk)
    return written


def _tar(file: IO[bytes]) -> Iterator[tuple[str, int, IO[bytes]]]:
    with tarfile.open(fileobj=file, mode="r:*") as archive:
        for entry in archive:
            name = entry.name
            if entry.isdir():
                continue
            if not entry.isreg():
                raise StoreError(f"the archive contains {name[:100]!a}, which is a link or a device")
            stream = archive.extractfile(entry)
            assert stream is not None
            with stream:
                yield name, entry.size, stream


def _zip(file: IO[bytes]) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            kind = entry.external_attr >> 28  # the file type of Unix; 0 if it was made elsewhere
            if entry.is_dir():
                continue
            if kind not in (0, 8):
                raise StoreError(f"the archive contains {entry.filename[:100]!a}, which is a link or a device")
            with archive.open(entry) as stream:
                yield entry.filename, entry.file_size, stream


def _lift(folder: Path) -> None:
    """Move the content of a single folder up, as most archives of an artifact have one around it."""
    entries = list(folder.iterdir())
    if len(entries) != 1 or not entries[0].is_dir():
        return
    inner = list(entries[0].iterdir())
    looks_like_model = any(each.name.isdigit() or each.name in ("model.toml", "config.pbtxt") for each in inner)
    if looks_like_model or entries[0].name.isdigit():
        return
    wrapper = entries[0].rename(folder / ".wrapper")
    for each in inner:
        shutil.move(wrapper / each.name, folder / each.name)
    wrapper.rmdir()
