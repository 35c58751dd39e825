"""Which names of objects, and of an archive's entries, may become files of this machine."""

from collections.abc import Iterable

from gateway.remote.store import RemoteObject, StoreError
from gateway.repository.formats import is_foreign

# Functions that create, list and delete folders call themselves for each one in another.
_MAX_DEPTH = 100


def check_name(name: str) -> str:
    """Return a name that stays in the folder that it is put into. Raises StoreError for any other."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or len(part.encode(errors="replace")) > 255 for part in parts):
        raise StoreError(
            f"the name {_shown(name)} is refused: it is absolute, has an empty part, '.' or '..', or is too long"
        )
    if len(parts) > _MAX_DEPTH:
        raise StoreError(f"the name {_shown(name)} is refused: it has more than {_MAX_DEPTH} folders in each other")
    if "\\" in name or not name.isprintable():
        raise StoreError(f"the name {_shown(name)} is refused: it contains a backslash or a control character")
    return name


def is_name(name: str) -> bool:
    """Return whether `check_name` accepts a name."""
    try:
        return bool(check_name(name))
    except StoreError:
        return False


def is_hidden(name: str) -> bool:
    """Return whether a name is not part of a model, like .git/config. A name with '..' is not hidden, but refused."""
    return any(is_foreign(part) for part in name.split("/") if part not in (".", ".."))


def _shown(name: str) -> str:
    return ascii(name if len(name) <= 100 else name[:100] + "…")


def wanted(objects: Iterable[RemoteObject]) -> list[RemoteObject]:
    """Return the objects that are files of a model: neither markers of folders nor hidden. Raises StoreError."""
    found = [item for item in objects if not is_hidden(item.name)]
    folders = {each for item in found for each in _folders(item.name)}
    files = [item for item in found if item.name not in folders or item.size]
    for item in files:
        check_name(item.name)
        if item.name in folders:
            raise StoreError(f"{_shown(item.name)} is both an object and a folder of others; rename one of them")
    return files


def _folders(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
