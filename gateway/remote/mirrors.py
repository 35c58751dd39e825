"""The remote locations that a gateway serves, each followed by a thread of its own."""

import asyncio
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from pathlib import Path

from gateway.contents.cache import Cache
from gateway.contents.errors import StoreError
from gateway.environments.runtime import Runtime
from gateway.remote.location import parse
from gateway.remote.mirror import Choose, Mirror
from gateway.remote.store import Store, open_store
from gateway.repository.model_folder import ModelFolder, read_configuration
from gateway.repository.model_toml import ModelConfigError, ModelToml

log = logging.getLogger("models")


class Mirrors:
    """Creates mirrors, and keeps them up to date from `start` on. Thread-safe.

    cache  returns the cache; called when there is a remote location. May raise StoreError
    lazy   whether files of versions are downloaded only when their model is loaded
    """

    def __init__(
        self,
        runtimes: Mapping[str, Runtime],
        cache: Callable[[], Cache],
        poll_s: float,
        lazy: bool = False,
        open_store: Callable[..., Store] = open_store,
    ) -> None:
        self._runtimes, self._cache, self._poll_s, self._lazy = runtimes, cache, poll_s, lazy
        self._open_store = open_store
        self._followers: dict[tuple[str, str], _Follower] = {}
        self._lock = threading.Lock()
        self._in_use: Callable[[], Collection[tuple[str, str]]] = frozenset
        self._on_change: Callable[[], None] | None = None

    def get(self, url: str, model: str = "", overrides: ModelToml | None = None) -> Mirror:
        """Return the mirror of a location, which is new at the first call. Raises BadLocation or StoreError.

        model      the model's name, if the location is its folder
        overrides  settings that replace those of model.toml
        """
        with self._lock:
            follower = self._followers.get((url, model))
            if follower is None:
                location = parse(url)
                choose = chooser(self._runtimes, overrides or ModelToml())
                store = self._open_store(location)
                try:
                    mirror = Mirror(location, store, self._cache(), choose, model, self._lazy)
                except OSError as error:
                    raise StoreError(f"the model cache cannot be written: {error.strerror}") from None
                mirror.in_use = lambda: self._in_use()
                follower = self._followers[url, model] = _Follower(mirror, self._poll_s)
                if self._on_change is not None:
                    follower.start(self._on_change)
            else:
                follower.mirror.choose = chooser(self._runtimes, overrides or ModelToml())
            return follower.mirror

    def keep_only(self, places: Collection[tuple[str, str]]) -> None:
        """Stop following all other locations. `places`: (url, model), as `get` was called with."""
        with self._lock:
            for place in self._followers.keys() - set(places):
                self._followers.pop(place).stop()

    def start(self, on_change: Callable[[], None], in_use: Callable[[], Collection[tuple[str, str]]]) -> None:
        """Follow all locations. `on_change` is called in their threads, after what was downloaded has changed."""
        with self._lock:
            self._on_change, self._in_use = on_change, in_use
            for follower in self._followers.values():
                follower.start(on_change)

    def stop(self) -> None:
        with self._lock:
            for follower in self._followers.values():
                follower.stop()

    def all(self) -> list[Mirror]:
        with self._lock:
            return [follower.mirror for follower in self._followers.values()]

    def is_complete(self) -> bool:
        """Return whether every location has been read once, now or before a restart."""
        with self._lock:
            followers = list(self._followers.values())
        return all(each.first_sync.done() or each.mirror.path is not None for each in followers)

    def troubles(self) -> list[str]:
        """Return why locations cannot be read now, a sentence each."""
        return [f"{mirror.unread}" for mirror in self.all() if mirror.unread]

    def cached_bytes(self) -> int:
        """Return the size of the cache. Only if there is a mirror."""
        return self._cache().bytes()

    async def first_sync(self) -> None:
        """Wait until `is_complete`."""
        with self._lock:
            followers = list(self._followers.values())
        waiting = [each.first_sync for each in followers if each.mirror.path is None]
        # Shielded: a caller that gives up must not cancel what others wait for.
        await asyncio.gather(*[asyncio.shield(asyncio.wrap_future(each)) for each in waiting])

    async def prepare(self, models: Collection[str]) -> str:
        """Read all locations now, and download these models. Return why that was impossible; "" if it was not."""
        with self._lock:
            followers = list(self._followers.values())
        for each in followers:
            each.mirror.request(models)
        await asyncio.gather(*[asyncio.wrap_future(each.next_sync()) for each in followers])
        for each in followers:
            mirror = each.mirror
            if mirror.unread and (mirror.path is None or any(name in models for name, _ in mirror.problems)):
                return "its repository cannot be read; the gateway's log says why"
        return ""

    def finished(self, models: Collection[str]) -> None:
        """Need the files of models no longer because of `prepare`: they are loaded, or cannot be."""
        for mirror in self.all():
            mirror.withdraw(models)


class _Follower:
    """Syncs a mirror again and again."""

    def __init__(self, mirror: Mirror, poll_s: float) -> None:
        self.mirror = mirror
        self.first_sync: Future[None] = Future()  # done after the first one that succeeds
        self._poll_s = poll_s
        self._wake = threading.Event()
        self._stopped = False
        self._waiting: list[Future[None]] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self, on_change: Callable[[], None]) -> None:
        # A daemon: a store that has stalled must not keep the gateway from stopping.
        self._thread = threading.Thread(target=self._run, args=(on_change,), name="mirror", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        self._wake.set()
        if self._thread is None:
            self.mirror.close()

    def next_sync(self) -> "Future[None]":
        """Begin a sync as soon as none runs, and return what is done after it."""
        done: Future[None] = Future()
        with self._lock:
            self._waiting.append(done)
        self._wake.set()
        return done

    def _run(self, on_change: Callable[[], None]) -> None:
        try:
            self._follow(on_change)
        finally:
            self.mirror.close()
            _complete(self._waiting)

    def _follow(self, on_change: Callable[[], None]) -> None:
        while not self._stopped:
            self._wake.clear()
            with self._lock:
                waiting, self._waiting = self._waiting, []
            try:
                self.mirror.sync()
                _complete([] if self.first_sync.done() else [self.first_sync])
            except StoreError:
                pass  # it is in the log, and in `unread`
            except Exception:
                log.exception("%s could not be read", self.mirror.location)
            _complete(waiting)
            if self._stopped:
                return
            on_change()
            self._wake.wait(self._poll_s)


def _complete(waiting: Iterable["Future[None]"]) -> None:
    for done in waiting:
        with suppress(InvalidStateError):  # whoever waited has given up
            done.set_result(None)


def chooser(runtimes: Mapping[str, Runtime], overrides: ModelToml | None = None) -> Choose:
    """Return a function that reads a model's version policy."""
    own = overrides or ModelToml()

    def choose(model: str, folder: Path, versions: list[int]) -> list[int] | None:
        if "version_policy" in own.model_fields_set:
            return own.version_policy.choose(versions)
        try:
            return read_configuration(ModelFolder(model, folder), runtimes)[0].version_policy.choose(versions)
        except ModelConfigError:
            return None  # the scan reports it

    return choose
