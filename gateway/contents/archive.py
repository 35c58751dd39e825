"""Unpacks archives that nobody has checked: only files with names that stay inside, and limited in size and number."""

import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from gateway.contents.errors import SourceUnreadable, StoreError
from gateway.contents.names import check_name, is_hidden

# Far more than models have. Each file takes an inode, and a place in every scan.
_MAX_FILES = 100_000
# Weights hardly compress, so an archive that grows twentyfold is no model, unless it is small.
_MAX_RATIO, _ALWAYS_ALLOWED = 20, 4 << 30
_CHUNK = 1 << 20
# Bytes of attributes and long names in a tar archive, which tarfile reads into memory. A file has about a hundred.
_MAX_ATTRIBUTES = 64 << 20
_ATTRIBUTES = frozenset(b"xgXLK")
_ZIPPED = (".zip", ".mar", ".model")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip archive into an empty folder. A single folder around everything is left out, unless it is a
    model. Raises StoreError; what was unpacked by then stays.
    """
    limit = max(_ALWAYS_ALLOWED, _MAX_RATIO * archive.stat().st_size)
    count = total = 0
    with archive.open("rb") as file:
        entries = _zip(file) if archive.suffix.lower() in _ZIPPED else _tar(file, limit)
        while (found := _next(entries)) is not None:
            entry, size, stream = found
            count, total = count + 1, total + size  # hidden ones, too: the archive is read all the same
            if count > _MAX_FILES:
                raise StoreError(f"the archive has more than {_MAX_FILES} files and folders")
            if total > limit:
                raise StoreError(f"the archive unpacks to more than {limit} bytes")
            name = entry.removeprefix("./")
            if stream is None or is_hidden(name):
                continue
            try:
                _write(stream, folder / check_name(name), size)
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                raise StoreError("the archive has two entries with the same name") from None
    _lift(folder)


# Name, size and content of a file; no content for a folder.
_Entry = tuple[str, int, IO[bytes] | None]


@contextmanager
def _reading() -> Iterator[None]:
    """Raise StoreError for all that the modules of archives raise: OSError of some kinds, too, and exceptions of all
    compressions that they know.
    """
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno:  # of the file system; those of modules have no number
            raise SourceUnreadable(f"the archive cannot be read: {error.strerror}") from None
        raise StoreError(
            f"the archive cannot be unpacked: it is damaged or encrypted ({type(error).__name__})"
        ) from None


def _next(entries: Iterator[_Entry]) -> _Entry | None:
    with _reading():
        return next(entries, None)


def _write(stream: IO[bytes], path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with path.open("xb") as file:
        while True:
            with _reading():
                chunk = stream.read(_CHUNK)
            if not chunk:
                return
            written += len(chunk)
            if written > size:
                raise StoreError("the archive unpacks to more bytes than it announces")
            file.write(chunk)


def _header() -> type[tarfile.TarInfo]:
    """Return the class of an archive's headers, which checks what tarfile does before it returns an entry."""
    left = _MAX_ATTRIBUTES

    class Header(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "Header":
            nonlocal left
            try:
                header = super().frombuf(buf, encoding, errors)
            except tarfile.HeaderError:
                # tarfile takes a header that it cannot read for the end, which is zeros, or no header at all.
                if any(buf):
                    raise tarfile.ReadError("a header is damaged") from None
                raise
            _check_size(header)
            if header.type[0] in _ATTRIBUTES:
                left -= header.size
                if left < 0:
                    raise StoreError(
                        f"the attributes of the files in the archive have more than {_MAX_ATTRIBUTES} bytes"
                    )
            return header

        def _refuse_sparse(self, *given: object) -> None:
            raise StoreError("the archive contains a sparse file; pack it without --sparse")

        _proc_sparse = _proc_gnusparse_10 = _refuse_sparse

    return Header


def _check_size(entry: tarfile.TarInfo) -> None:
    """Raise if what follows the entry would be in front of it."""
    if entry.size < 0:
        raise tarfile.ReadError("a header has a negative size")


def _tar(file: IO[bytes], limit: int) -> Iterator[_Entry]:
    with tarfile.open(fileobj=file, mode="r:*", tarinfo=_header()) as archive:
        for entry in archive:
            _check_size(entry)  # its attributes may say otherwise than its header
            name = entry.name
            if entry.isdir():
                yield name, 0, None
                continue
            if not entry.isreg():
                raise StoreError(f"the archive contains {name[:100]!a}, which is a link or a device")
            stream = archive.extractfile(entry)
            assert stream is not None
            with stream:
                yield name, entry.size, stream
        # The checksum of the whole is behind the last entry.
        while archive.fileobj is not None and (rest := len(archive.fileobj.read(_CHUNK))):
            limit -= rest
            if limit < 0:
                raise StoreError("the archive has too many bytes after its last file")


def _zip(file: IO[bytes]) -> Iterator[_Entry]:
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            kind = entry.external_attr >> 28  # the file type of Unix; 0 if it was made elsewhere
            if entry.is_dir():
                yield entry.filename, 0, None
                continue
            if kind not in (0, 8):
                raise StoreError(f"the archive contains {entry.filename[:100]!a}, which is a link or a device")
            with archive.open(entry) as stream:
                yield entry.filename, entry.file_size, stream


def _lift(folder: Path) -> None:
    """Move the content of a single folder up, as most archives of an artifact have one around it."""
    entries = list(folder.iterdir())
    if len(entries) != 1 or not entries[0].is_dir() or entries[0].name == "MAR-INF":
        return
    if entries[0].name == "code" and (entries[0] / "inference.py").is_file():  # a SageMaker model without weights
        return
    inner = list(entries[0].iterdir())
    looks_like_model = any(each.name.isdigit() or each.name in ("model.toml", "config.pbtxt") for each in inner)
    if looks_like_model or entries[0].name.isdigit():
        return
    wrapper = entries[0].rename(folder / ".wrapper")
    for each in inner:
        shutil.move(wrapper / each.name, folder / each.name)
    wrapper.rmdir()
