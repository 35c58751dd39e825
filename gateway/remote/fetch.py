"""Fetches one remote model: a file, a folder or an archive → a path on this machine."""

import hashlib
import logging
import os
from functools import lru_cache
from pathlib import Path

from gateway.config import home
from gateway.contents.cache import Cache
from gateway.contents.errors import StoreError
from gateway.remote.location import Location, is_remote, parse
from gateway.remote.names import wanted
from gateway.remote.store import open_store
from gateway.remote.transfer import keep

log = logging.getLogger("models")


def fetch(location: str, max_bytes: int = 0) -> Path:
    """Return the local path of an artifact, a version's folder, a model's folder or an archive's content.

    What is in the cache already, by name, size and etag, is not downloaded again. If the location cannot be read, what
    was fetched from it last is used, and a warning is logged. It stays in the cache while this process runs. Paths of
    this machine are returned as they are. Blocks.

    location   a path, or a URL of one of `SCHEMES`
    max_bytes  of the cache, as the setting model_cache_bytes
    Raises BadLocation, StoreError or SettingsError, each with one sentence.
    """
    if not is_remote(location):
        return Path(location)
    try:
        return _fetch(parse(location), shared_cache(max_bytes))
    except OSError as error:
        raise StoreError(f"the model cache cannot be written: {error.strerror}") from None


def _fetch(place: Location, cache: Cache) -> Path:
    record = cache.folder / "fetched" / hashlib.sha256(place.identity.encode()).hexdigest()[:32]
    try:
        digest = _digest(place, cache)
    except StoreError as error:
        digest = record.read_text() if record.exists() else ""
        if cache.find(digest or "none") is None:
            raise
        log.warning("%s; what is in the cache is used", error)
    cache.use(f"fetch {digest}", [digest])
    if cache.find(digest) is None:  # another process has removed it before that
        raise StoreError(f"{place} does not fit into the cache; model_cache_bytes is too small")
    record.parent.mkdir(exist_ok=True)
    record.write_text(digest)
    # Of a single file, the folder also has its neighbors.
    single = cache.path(digest) / place.name
    return single if not place.is_archive and single.is_file() else cache.named(digest, place.stem)


def _digest(place: Location, cache: Cache) -> str:
    """Return the digest of what is at a location now, after downloading it. Raises StoreError."""
    store = open_store(place)
    objects = store.objects()
    try:
        objects = wanted(objects)
        if not objects:
            raise StoreError("it does not exist, or is empty")
        return keep(cache, place, store, objects)
    except StoreError as error:
        raise StoreError(f"{place} cannot be downloaded: {error}") from None


def cache_folder(setting: str = "") -> Path:
    """Return the folder of the cache: the setting model_cache, or `models` in MODELPORT_HOME."""
    chosen = setting or os.environ.get("MODELPORT_MODEL_CACHE", "")
    return Path(chosen).expanduser().absolute() if chosen else home() / "models"


@lru_cache(maxsize=4)
def shared_cache(max_bytes: int = 0, folder: str = "") -> Cache:
    """Return the process's cache. Raises StoreError if its folder cannot be written."""
    path = cache_folder(folder)
    try:
        return Cache(path, max_bytes)
    except OSError as error:
        raise StoreError(f"the model cache {path} cannot be used: {error.strerror or error}") from None
