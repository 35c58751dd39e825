"""A store of objects, as this package needs one: it lists what is below a location, and reads it."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from gateway.remote.location import Location


class RemoteObject(NamedTuple):
    """name: relative to the location, with '/'. etag: changes with the content; never empty."""

    name: str
    size: int
    etag: str


def digest_of(location: str, objects: Iterable[RemoteObject]) -> str:
    """Return a name for a content. An etag may be the same elsewhere, so the location is part of it."""
    text = json.dumps([location, *sorted(objects)])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Store(Protocol):
    def objects(self, prefix: str = "") -> list[RemoteObject]:
        """Return the objects whose names begin with a folder, which is the whole location by default.

        If the location is one object, its name is the last part of the location's path. Raises StoreError.
        """
        ...

    def read(self, item: RemoteObject, scratch: Path) -> Iterator[bytes]:
        """Yield the object's content. Raises StoreError if it is not what was listed, or ends early.

        scratch  a folder with room for it, in which temporary files may be
        """
        ...


def open_store(location: Location) -> Store:
    """Return the store of a location. Nothing is requested yet. Raises StoreError if a package is missing."""
    if location.scheme == "hf":
        from gateway.remote.hub import HubStore

        return HubStore(location)
    from gateway.remote.object_store import ObjectStore, open_bucket

    return ObjectStore(location, open_bucket(location))
