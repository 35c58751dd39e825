"""A store of objects, as this package needs one: it lists what is below a location, and reads it."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from gateway.remote.location import Location


class RemoteObject(NamedTuple):
    """name: relative to the location, with '/'. etag: changes with the content; never empty."""

    name: str
    size: int
    etag: str


class StoreError(Exception):
    """The store failed. The message is one sentence without secrets, whose subject is what is missing or failed."""


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
