"""A remote location, kept as a folder of this machine that can be scanned like any repository."""

import hashlib
import logging
import re
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.contents.cache import Cache
from gateway.contents.errors import StoreError
from gateway.contents.names import is_hidden, is_name
from gateway.remote.layout import RemoteModel, models_in, numbers_of, shape_of
from gateway.remote.location import Location
from gateway.remote.mirror_folder import MirrorFolder, put, remove_others, target
from gateway.remote.names import wanted
from gateway.remote.store import RemoteObject, Store, digest_of
from gateway.remote.transfer import download, keep

log = logging.getLogger("models")

NOT_LOADED = "its files are downloaded when it is loaded"
# Files beside the versions are configurations, labels and initial states. Larger ones are something else.
_MAX_FILE = 64 << 20
# Delays before content that could not be downloaded is tried again: it may be gigabytes.
_FIRST_DELAY_S, _MAX_DELAY_S = 15.0, 900.0

# Returns those of a model's versions that its configuration, in a folder, selects. None: the configuration is broken.
Choose = Callable[[str, Path, list[int]], list[int] | None]


class Mirror:
    """One remote location in the cache. `sync` blocks, and runs in one thread at a time.

    model     the name of the model, if the location is one model's folder
    lazy      whether versions are downloaded only after `request` has named their model
    in_use    returns the (model, version) that the gateway has, whose files must stay
    problems  (model, version) → why its files are missing
    unread    why the location could not be read the last time, in one sentence; "" if it could
    """

    def __init__(
        self, location: Location, store: Store, cache: Cache, choose: Choose, model: str = "", lazy: bool = False
    ) -> None:
        self.location = location
        self.in_use: Callable[[], Collection[tuple[str, str]]] = frozenset
        self.problems: Mapping[tuple[str, str], str] = {}
        self.unread = ""
        self.failures = 0
        self.last_sync_s = 0.0  # the time of the last one that succeeded
        self._store, self._cache, self.choose, self._model, self._lazy = store, cache, choose, model, lazy
        identity = hashlib.sha256(f"{location.identity}\0{model}".encode()).hexdigest()[:12]
        self._folder = MirrorFolder(cache, re.sub(r"[^A-Za-z0-9.]+", "-", str(location))[:60] + "-" + identity)
        self._requested: set[str] = set()
        self._retries: dict[str, tuple[float, float, str]] = {}  # digest → when to try again, the delay, and why
        self._found: dict[tuple[str, str], str] = {}  # the problems of the `sync` that runs
        if not lazy:
            cache.use(self._folder.name, self._folder.digests().values())

    @property
    def path(self) -> Path | None:
        """What to scan: the folder, or the artifact in it. None if nothing has been downloaded yet."""
        return self._folder.path

    @property
    def is_artifact(self) -> bool:
        """Whether the location is an artifact or an archive, which is downloaded as a whole."""
        return ("", "") in self._folder.digests()

    def close(self) -> None:
        """Let the cache have the contents, and another mirror the folder."""
        self._cache.use(self._folder.name, ())
        self._folder.close()

    def request(self, models: Collection[str]) -> None:
        """Have the next `sync` download models, and retry what has failed."""
        self._requested |= set(models)
        self._retries.clear()

    def withdraw(self, models: Collection[str]) -> None:
        """Take back `request`. Files that are in use stay."""
        self._requested -= set(models)

    def sync(self) -> None:
        """Make the folder what the location is. What cannot be downloaded stays as it was.

        Raises StoreError if the location cannot be read.
        """
        self._found = {}
        try:
            self._sync()
        except (StoreError, OSError) as error:
            self.failures += 1
            reason = (
                str(error) if isinstance(error, StoreError) else f"the model cache cannot be written: {error.strerror}"
            )
            if self.unread != reason:
                so = "the models in the cache continue to be served"
                log.error(
                    "%s; %s",
                    reason,
                    so if self.path else "its models are not served, and a gateway that starts is not ready",
                )
            self.unread = reason
            raise StoreError(reason) from None
        if self.unread:
            log.info("%s can be read again", self.location)
        self.unread = ""
        for key, problem in self._found.items():
            if problem != NOT_LOADED and self.problems.get(key) != problem:
                what = " version ".join(filter(None, key))
                log.error("%s: %s", what if is_name(what) else ascii(what), problem)
        self.problems = self._found
        if all(problem == NOT_LOADED for problem in self._found.values()):
            self.last_sync_s = time.time()
        else:
            self.failures += 1

    def _sync(self) -> None:
        self._release()  # what was unloaded since then makes room for what is loaded now
        objects = self._store.objects()
        visible = [item.name for item in objects if not is_hidden(item.name)]
        if not visible:
            what = "is empty now" if self.path else "does not exist, or is empty"
            raise StoreError(f"{self.location} {what}")
        self._folder.root.mkdir(parents=True, exist_ok=True)
        shape = "model" if self._model else shape_of(visible)
        if self.location.is_archive or shape == "artifact":
            try:
                files = wanted(objects)
            except StoreError as error:
                raise StoreError(f"{self.location} cannot be used: {error}") from None
            self._sync_artifact(files)
        else:
            self._sync_models(models_in(objects, shape, self._model or self.location.name), shape == "repository")
        self._release()

    def _sync_artifact(self, objects: list[RemoteObject]) -> None:
        location, folder = self.location, self._folder
        single = not location.is_archive and any(item.name == location.name for item in objects)
        name = "files" if single else self._model or location.stem
        digest = self._content(self._model or location.stem, "1", objects, "")
        if not digest:
            return
        link = folder.root / name
        folder.point(link, digest)
        scanned = f"root/{name}/{location.name}" if single else f"root/{name}"
        if self._model or (location.is_archive and shape_of(_names_in(link.resolve())) == "model"):
            scanned = "root"
        folder.keep_only({name})
        folder.save(scanned, {})

    def _sync_models(self, models: Mapping[str, RemoteModel], in_folders: bool) -> None:
        """in_folders: whether each model is a folder of the location; if not, the location is the model's."""
        files = dict(self._folder.files)
        for name, model in models.items():
            try:
                files[name] = self._sync_model(name, model, f"{name}/" if in_folders else "")
            except StoreError as error:
                self._found[name, ""] = str(error)
            except OSError as error:  # the names of one model's files must not stop updates of the others
                self._found[name, ""] = f"its files cannot be written to the model cache: {error.strerror}"
        self._requested &= set(models)  # clients may ask for any name
        self._folder.keep_only(models)
        self._folder.save("root", {name: files.get(name, {}) for name in models})

    def _sync_model(self, name: str, model: RemoteModel, prefix: str) -> dict[str, list[Any]]:
        """Return what the model's own files are. Raises StoreError if they cannot be downloaded."""
        if model.problem:
            raise StoreError(model.problem)
        folder, known = self._folder.root / name, self._folder.files.get(name, {})
        files = {key: item for key, item in model.files.items() if item.size <= _MAX_FILE}
        state: dict[str, list[Any]] = {key: [item.size, item.etag] for key, item in files.items()}
        changed = [item for key, item in files.items() if known.get(key) != state[key] or not (folder / key).is_file()]
        numbers = numbers_of(model.versions)
        with self._cache.scratch() as scratch:
            staged = scratch / name
            staged.mkdir()
            download(self._store, [item._replace(name=prefix + item.name) for item in changed], staged, prefix)
            for key in files.keys() - {item.name for item in changed}:
                (staged / key).parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):
                    shutil.copy2(folder / key, staged / key)
            chosen = self.choose(name, staged, sorted(numbers))
            contents = {
                version: self._version(name, version, model.versions[version], prefix)
                for number in chosen or ()
                for version in numbers[number]
            }
            if folder.is_symlink():  # the location was one artifact of this name
                folder.unlink()
            folder.mkdir(exist_ok=True)
            for item in changed:
                put(staged / item.name, folder, item.name)
        for version, digest in contents.items():
            if digest:
                self._folder.point(folder / version, digest)
        # What is served stays until what replaces it is READY.
        served = {version for each, version in self.in_use() if each == name}
        kept = {each for each in model.versions if each in contents or chosen is None or str(int(each)) in served}
        remove_others(folder, files.keys() | kept)
        return state

    def _version(self, name: str, version: str, objects: list[RemoteObject], prefix: str) -> str:
        """Return the digest of a version's content; "" if it is not there."""
        in_store = [item._replace(name=prefix + item.name) for item in objects]
        digest = digest_of(f"{self.location.identity}/{prefix}{version}", in_store)
        link = self._folder.root / name / version
        if target(link) == digest and link.exists():
            return digest
        # A version without files is a pipeline: whoever loads it needs to know its steps.
        wanted_now = (
            not self._lazy
            or not any(item.size for item in objects)
            or name in self._requested
            or any(model == name for model, _ in self.in_use())
        )
        if not wanted_now:
            if self._cache.find(digest) is None:
                self._found[name, str(int(version))] = NOT_LOADED
                return ""
            return digest
        return self._content(name, str(int(version)), in_store, f"{prefix}{version}")

    def _content(self, name: str, version: str, objects: list[RemoteObject], prefix: str) -> str:
        """Return the digest of a content, after downloading it if it is missing; "" if that fails."""
        digest = digest_of(f"{self.location.identity}/{prefix}", objects)
        at, delay, problem = self._retries.get(digest, (0.0, 0.0, ""))
        if time.monotonic() < at:
            self._found[name, version] = problem
            return ""
        started, is_new = time.monotonic(), self._cache.find(digest) is None
        try:
            keep(self._cache, self.location, self._store, objects, prefix)
        except StoreError as error:
            delay = min(_MAX_DELAY_S, delay * 2 or _FIRST_DELAY_S)
            problem = self._found[name, version] = f"its files could not be downloaded: {error}"
            self._retries[digest] = (time.monotonic() + delay, delay, problem)
            return ""
        self._retries.pop(digest, None)
        self._cache.use(self._folder.name, {*self._cache.used_by(self._folder.name), digest})
        if is_new:
            size, seconds = sum(item.size for item in objects), time.monotonic() - started
            log.info("%s version %s is downloaded: %.1f MB in %.1f s", name, version, size / 1e6, seconds)
        return digest

    def _release(self) -> None:
        """Let the cache have the contents that are not needed any more."""
        in_use, digests = self.in_use(), self._folder.digests()
        needed = {
            digest
            for key, digest in digests.items()
            if not self._lazy or key == ("", "") or key in in_use or key[0] in self._requested
        }
        before = self._cache.used_by(self._folder.name)
        self._cache.use(self._folder.name, needed)
        self._cache.drop(before - set(digests.values()))
        self._requested -= {model for model, _ in in_use}


def _names_in(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
