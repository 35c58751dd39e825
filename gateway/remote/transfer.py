"""Downloads a set of objects into a folder, and checks that it is what was listed."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from gateway.contents.cache import Cache
from gateway.contents.errors import StoreError
from gateway.remote.location import Location
from gateway.remote.names import wanted
from gateway.remote.parallel import run_all
from gateway.remote.store import RemoteObject, Store, digest_of

# Stores answer each connection slowly, and several fast.
_CONNECTIONS = 4


def download(store: Store, objects: Sequence[RemoteObject], folder: Path, strip: str = "") -> None:
    """Write objects below a folder, without the beginning `strip` of their names. Raises StoreError."""
    jobs = [partial(_read, store, item, folder / item.name.removeprefix(strip), folder) for item in objects]
    run_all(jobs, _CONNECTIONS)


def _read(store: Store, item: RemoteObject, path: Path, scratch: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with path.open("xb") as file:
        for chunk in store.read(item, scratch):
            written += len(chunk)
            if written > item.size:
                break
            file.write(chunk)
    if written != item.size:
        raise StoreError(f"'{item.name}' has {written} bytes instead of the {item.size} that the store announced")


def keep(cache: Cache, location: Location, store: Store, objects: Sequence[RemoteObject], prefix: str = "") -> str:
    """Return the digest of the content that these objects are, after downloading it if it is not in the cache.

    prefix  the folder that holds them; the objects in it must be the same afterwards
    Raises StoreError.
    """
    digest = digest_of(f"{location.identity}/{prefix}", objects)
    if cache.find(digest):
        return digest
    strip = prefix + "/" if prefix else ""

    def fill(folder: Path) -> None:
        if location.is_archive:
            from gateway.contents.archive import unpack  # imports what only archives need

            with cache.scratch() as scratch:
                download(store, objects, scratch)
                unpack(scratch / objects[0].name, folder)
            return
        download(store, objects, folder, strip)
        if set(wanted(store.objects(prefix))) != set(objects):
            what = f"'{prefix}'" if prefix else "the content"
            raise StoreError(f"{what} changed while it was being downloaded")

    cache.add(digest, sum(item.size for item in objects), fill)
    return digest
