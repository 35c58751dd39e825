"""Keeps the policy current: watches the operator's file, the folder of keys and the keys of the tokens' issuer."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from gateway.access.identities_file import build_policy, jwks_location, key_folder, read_file
from gateway.access.jwks import Fetched, JwksError, Keys, fetch_keys, read_keys
from gateway.access.keys import KeyFolder, key_files, read_folder
from gateway.access.policy import Policy, with_token_keys
from gateway.config import SettingsError

# How often files are looked at. A change is taken up when it is the same at two looks, since it may still be written.
# A longer interval lets withdrawn keys in for longer; a shorter one wakes an idle process more often.
_CHECK_S = 1.0
# How long after a fetch the issuer's keys are fetched again, because of a token with an unknown key, which anyone can
# send; or because the fetch failed.
_REFETCH_S = 10.0

# What can change: path → modification time in ns, size and inode.
_Stamp = dict[str, tuple[int, int, int]]

Publish = Callable[[Policy], None]


class _Files:
    """What the files have. Raises SettingsError when it is created."""

    def __init__(self, path: Path, has_client_ca: bool) -> None:
        # Each before the file is read, so that a change while it is read is seen.
        self.stamp = stat_all([path])
        file = read_file(path, has_client_ca)
        self.location = jwks_location(path, file)
        self._path, self._folder = path, key_folder(path, file)
        self.stamp |= stat_all(self.paths())
        folder = self._folder
        try:
            keys = KeyFolder({}, []) if folder is None else read_folder(folder)
        except OSError as error:
            raise SettingsError(f"{path}: the folder of keys cannot be read: {error.strerror}") from None
        self.policy, unused = build_policy(file, keys.digests)
        self.problems = [*keys.problems, *unused]
        self.token_keys: Keys = ()
        if isinstance(self.location, Path):
            try:
                self.token_keys = read_keys(self.location)
            except JwksError as error:
                raise SettingsError(f"{path}: the keys of [jwt] cannot be used: {error}") from None

    def paths(self) -> list[Path]:
        """Return the files whose change changes the policy."""
        paths = [self._path, *([self.location] if isinstance(self.location, Path) else [])]
        try:
            return paths if self._folder is None else [*paths, *key_files(self._folder)]
        except OSError:
            return paths


class PolicySource:
    """The files are read when this is created. Raises SettingsError.

    has_client_ca  whether clients have certificates
    on_change      called when the files have changed, with whether what they have now is in use

    policy         the newest
    reload_failed  whether the files could not be used after their last change
    """

    def __init__(
        self,
        path: Path,
        log: logging.Logger,
        on_change: Callable[[bool], None] = lambda is_used: None,
        has_client_ca: bool = False,
    ) -> None:
        self._path, self._log, self._on_change = path.absolute(), log, on_change
        self._has_client_ca = has_client_ca
        self._files = _Files(self._path, has_client_ca)
        self._fetched: Keys = ()
        self._fetched_from = ""
        self._next_fetch = 0.0  # time.monotonic()
        self._last_fetch = -_REFETCH_S
        self._complaint = ""
        self.reload_failed = False
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._said: set[str] = set()
        self.policy = self._build()

    @property
    def fetch_failed(self) -> bool | None:
        """Whether the last attempt to fetch the issuer's keys failed; None if they are not fetched."""
        return bool(self._complaint) if isinstance(self._files.location, str) else None

    async def run(self, publish: Publish) -> None:
        """Call `publish` with each new policy, until cancelled."""
        self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch(publish))
            tasks.create_task(self._fetch(publish))

    def refetch(self) -> None:
        """Fetch the issuer's keys soon: there is a token with another one. May be called by any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._refetch)

    def _refetch(self) -> None:
        self._next_fetch = min(self._next_fetch, self._last_fetch + _REFETCH_S)
        self._wake.set()

    async def _watch(self, publish: Publish) -> None:
        done = previous = self._files.stamp
        while True:
            await asyncio.sleep(_CHECK_S)
            current = await asyncio.to_thread(self._stat)
            if current == previous and current != done:
                done = current
                await self._read(publish)
            previous = current

    def _stat(self) -> _Stamp:
        return stat_all(self._files.paths())

    async def _read(self, publish: Publish) -> None:
        try:
            self._files = await asyncio.to_thread(_Files, self._path, self._has_client_ca)
        except SettingsError as error:
            self._log.error("the identities have changed, but the earlier ones stay in use: %s", error)
            self._refuse()
            return
        except Exception:
            self._log.exception("the identities have changed, but the earlier ones stay in use")
            self._refuse()
            return
        self.reload_failed = False
        self._wake.set()
        if self._publish(publish):
            self._log.info("the identities have changed, and are in use")
            self._on_change(True)

    def _refuse(self) -> None:
        self.reload_failed = True
        self._on_change(False)

    def _publish(self, publish: Publish) -> bool:
        policy = self._build()
        if policy == self.policy:
            return False
        self.policy = policy
        publish(policy)
        return True

    def _build(self) -> Policy:
        files = self._files
        for problem in files.problems:
            if problem not in self._said:
                self._log.warning("%s", problem)
        self._said = set(files.problems)
        keys = files.token_keys
        if isinstance(files.location, str) and files.location == self._fetched_from:
            keys = self._fetched
        return with_token_keys(files.policy, keys)

    async def _fetch(self, publish: Publish) -> None:
        while True:
            self._wake.clear()
            url = self._files.location
            if not isinstance(url, str):
                await self._wake.wait()
                continue
            wait_s = 0.0 if url != self._fetched_from else self._next_fetch - time.monotonic()
            if wait_s > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
                continue
            fetched = await self._try_fetch(url)
            self._last_fetch = time.monotonic()
            if self._fetched_from != url:
                self._fetched, self._fetched_from = (), url
            self._next_fetch = self._last_fetch + (_REFETCH_S if fetched is None else fetched.max_age_s)
            if fetched is not None:
                self._fetched = fetched.keys
            self._publish(publish)

    async def _try_fetch(self, url: str) -> Fetched | None:
        try:
            fetched = await asyncio.to_thread(fetch_keys, url)
        except JwksError as error:
            # An outage is logged when it begins, and when its reason changes.
            if str(error) != self._complaint:
                self._complaint = str(error)
                self._log.error("the keys of the tokens' issuer cannot be fetched: %s; earlier ones stay in use", error)
            return None
        except Exception:
            self._log.exception("the keys of the tokens' issuer cannot be fetched; earlier ones stay in use")
            return None
        if self._complaint:
            self._complaint = ""
            self._log.info("the keys of the tokens' issuer can be fetched again")
        return fetched


def stat_all(paths: Iterable[Path]) -> _Stamp:
    """Return what tells whether any of these files has changed. One that does not exist is left out."""
    found: _Stamp = {}
    for path in paths:
        with suppress(OSError):
            status = path.stat()
            found[str(path)] = status.st_mtime_ns, status.st_size, status.st_ino
    return found
