"""Which objects of a listing are files of a model."""

from collections.abc import Iterable

from gateway.contents.errors import StoreError
from gateway.contents.names import check_name, is_hidden, shown
from gateway.remote.store import RemoteObject


def wanted(objects: Iterable[RemoteObject]) -> list[RemoteObject]:
    """Return the objects that are files of a model: neither markers of folders nor hidden. Raises StoreError."""
    found = [item for item in objects if not is_hidden(item.name)]
    folders = {each for item in found for each in _folders(item.name)}
    files = [item for item in found if item.name not in folders or item.size]
    for item in files:
        check_name(item.name)
        if item.name in folders:
            raise StoreError(f"{shown(item.name)} is both an object and a folder of others; rename one of them")
    return files


def _folders(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
