"""What the processes of the gateway take, by measurement, and what models that are being loaded will need."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from gateway.lifecycle.policy import VersionKey
from gateway.process.resident import Resident, process_tree, resident
from gateway.repository.model_config import ModelConfig

# What a worker is expected to need in addition to its files before any of its runtime has been measured.
_FIRST_GUESS = 64 << 20
# A framework keeps a model's weights about twice while it loads them.
_FILES_IN_MEMORY = 2


class LoadNeeds:
    """How many bytes each model needs: learned from the last time it was loaded, guessed before the first.

    remembered: what was learned before this gateway started. It is a better guess, but no more than that: a model that
    had grown with its requests needs less to be loaded.
    """

    def __init__(self, remembered: Mapping[VersionKey, int] | None = None) -> None:
        self._learned: dict[VersionKey, int] = {}
        self._remembered = dict(remembered or {})
        self._files: dict[VersionKey, int] = {}
        self._runtimes: dict[str, int] = {}  # what a worker of a runtime needs besides its files: the most so far

    def is_known(self, key: VersionKey) -> bool:
        return key in self._learned

    def least(self, key: VersionKey) -> int:
        """Return the bytes without which it cannot be loaded, as far as that is known, after `of`."""
        return self._learned.get(key, _FILES_IN_MEMORY * self._files.get(key, 0))

    def of(self, key: VersionKey, config: ModelConfig, files: int = 0) -> int:
        """Return the bytes of all instances. files: the bytes of its artifact, unless it is known."""
        if key in self._learned:
            return self._learned[key]
        artifact, toml = config.artifact, config.toml
        assert artifact is not None
        self._files[key] = files
        if key in self._remembered:
            return self._remembered[key]
        one = self._runtimes.get(artifact.runtime.name, _FIRST_GUESS) + _FILES_IN_MEMORY * files
        return (min(one, toml.memory_limit) if toml.memory_limit else one) * toml.workers

    def learned(self) -> dict[VersionKey, int]:
        """Return what this gateway has learned of the versions that it serves."""
        return dict(self._learned)

    def learn(self, key: VersionKey, config: ModelConfig, needed: int, starts: bool = False) -> None:
        """Note what a model takes. starts: whether it has just been loaded, so that what was known is outdated."""
        self._learned[key] = needed = needed if starts else max(needed, self._learned.get(key, 0))
        if config.artifact is not None:
            name = config.artifact.runtime.name
            besides = max(0, needed // config.toml.workers - _FILES_IN_MEMORY * self._files.get(key, 0))
            self._runtimes[name] = max(self._runtimes.get(name, 0), besides)

    def needs_more(self, key: VersionKey, used: int) -> None:
        """Note that a load was ended when it used this much, because there was no room for more."""
        self._learned[key] = max(used, self._learned.get(key, 0))

    def forget(self, keys: Iterable[VersionKey]) -> None:
        """Drop versions that are no longer served. New files are other versions."""
        for key in keys:
            self._learned.pop(key, None)
            self._remembered.pop(key, None)
            self._files.pop(key, None)


def file_bytes(path: Path) -> int:
    """Return the size of a file, or of all files of a folder."""
    try:
        if path.is_dir():
            return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
        return path.stat().st_size
    except OSError:
        return 0


class MemoryUse:
    """The bytes that all processes take: what each model on demand has for itself, and everything else.

    A page that several processes share does not become free when one of them ends, and takes nothing when another one
    joins. So it belongs to no model.

    base      what processes take that serve no model on demand, and all that is shared
    growth    what these processes have grown by since that was measured
    spares    the own pages of processes that wait to become workers, or will: they come and go with each load
    ending    the own pages of processes that helped to start workers and were ended, but still have them
    measured  the own pages of each model on demand that has workers
    reserved  of each that is being loaded: what it is expected to need at most
    """

    def __init__(self) -> None:
        self.base = self.growth = self.spares = self.ending = 0
        self._before: dict[int, int] = {}
        self.measured: dict[VersionKey, int] = {}
        self.reserved: dict[VersionKey, int] = {}

    def of(self, key: VersionKey) -> int:
        return max(self.measured.get(key, 0), self.reserved.get(key, 0))

    @property
    def total(self) -> int:
        models = sum(self.of(key) for key in {*list(self.measured), *list(self.reserved)})
        return self.base + self.growth + self.spares + self.ending + models

    def take(
        self,
        found: Mapping[int, Resident],
        workers: Mapping[VersionKey, Iterable[int]],
        helping: Iterable[int] = (),
        starting: Iterable[int] = (),
    ) -> None:
        """Take over a measurement of all processes, by id, after `spares` and `ending`.

        workers   the processes of each model on demand
        helping   what `spares` and `ending` are about
        starting  the processes that will be workers: they have their memory of what is reserved
        """
        for key, pids in workers.items():
            self.take_model(key, [found[pid] for pid in pids if pid in found])
        own = sum(self.measured[key] for key in workers)
        own += sum(found[pid].private for pid in starting if pid in found)
        self.base = sum(each.share for each in found.values()) - own - self.spares - self.ending
        others = found.keys() - {*helping, *starting, *itertools.chain(*workers.values())}
        self._before, self.growth = {pid: found[pid].all for pid in others}, 0

    def take_growth(self, size_of: Callable[[int], int], others: Iterable[int]) -> None:
        """See what processes that serve no model on demand have grown by since they were measured.

        size_of: returns what all pages of a process take. others: processes that may be new since then
        """
        every = {*self._before, *others}
        self.growth = sum(max(0, size_of(pid) - self._before.get(pid, 0)) for pid in every)

    def take_model(self, key: VersionKey, found: Sequence[Resident]) -> None:
        """Take over a measurement of the processes of one model."""
        self.measured[key] = sum(each.private for each in found)

    def release(self, key: VersionKey) -> None:
        """All processes of a model have ended."""
        self.measured.pop(key, None)
        self.reserved.pop(key, None)


def measure(root: int) -> dict[int, Resident]:
    """Measure a process and all its descendants, by id. Takes about a millisecond for each of them."""
    return {pid: resident(pid) for pid in process_tree(root)}


def about(size: int) -> str:
    """Return a number of bytes for people."""
    return f"{-(-size // (1 << 20))} MiB"
