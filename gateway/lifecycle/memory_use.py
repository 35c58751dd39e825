"""What the processes of the gateway take, by measurement, and what models that are being loaded will need."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from gateway.lifecycle.policy import VersionKey
from gateway.process.resident import process_tree, resident
from gateway.repository.scan import ModelConfig

# What a worker is expected to need in addition to its files before any of its runtime has been measured.
_FIRST_GUESS = 64 << 20
# A framework keeps a model's weights about twice while it loads them.
_FILES_IN_MEMORY = 2
# How much more than its last measurement is reserved for a load that was ended because it needed more.
_GROWTH = 1.5


class LoadNeeds:
    """How many bytes each model needs while it is loaded: learned from its last load, guessed before the first."""

    def __init__(self) -> None:
        self._learned: dict[VersionKey, int] = {}
        self._runtimes: dict[str, int] = {}  # what a worker of a runtime needs besides its files: the most so far

    def is_known(self, key: VersionKey) -> bool:
        return key in self._learned

    def of(self, key: VersionKey, config: ModelConfig) -> int:
        """Return the bytes of all instances. May read the sizes of thousands of files."""
        if key in self._learned:
            return self._learned[key]
        artifact, toml = config.artifact, config.toml
        assert artifact is not None
        one = self._runtimes.get(artifact.runtime.name, _FIRST_GUESS) + _FILES_IN_MEMORY * file_bytes(artifact.path)
        return (min(one, toml.memory_limit) if toml.memory_limit else one) * toml.workers

    def learn(self, key: VersionKey, config: ModelConfig, needed: int, files: int) -> None:
        """Note what a load has needed. files: the bytes of its artifact."""
        self._learned[key] = needed
        if config.artifact is not None:
            name = config.artifact.runtime.name
            besides = max(0, needed // config.toml.workers - _FILES_IN_MEMORY * files)
            self._runtimes[name] = max(self._runtimes.get(name, 0), besides)

    def needs_more(self, key: VersionKey, used: int) -> None:
        """Note that a load was ended when it used this much, because there was no room for more."""
        self._learned[key] = max(int(used * _GROWTH), self._learned.get(key, 0))

    def forget(self, keys: Iterable[VersionKey]) -> None:
        """Drop versions that are no longer in the repository."""
        for key in keys:
            self._learned.pop(key, None)


def file_bytes(path: Path) -> int:
    """Return the size of a file, or of all files of a folder."""
    try:
        if path.is_dir():
            return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
        return path.stat().st_size
    except OSError:
        return 0


class MemoryUse:
    """The bytes that all processes take, those of the models on demand apart from the others.

    base      what takes memory whatever models on demand are loaded
    measured  of each model on demand that has workers
    reserved  of each that is being loaded: what it is expected to need at most
    """

    def __init__(self) -> None:
        self.base = 0
        self.measured: dict[VersionKey, int] = {}
        self.reserved: dict[VersionKey, int] = {}

    def of(self, key: VersionKey) -> int:
        return max(self.measured.get(key, 0), self.reserved.get(key, 0))

    @property
    def total(self) -> int:
        return self.base + sum(self.of(key) for key in {*list(self.measured), *list(self.reserved)})

    def take(self, found: Mapping[int, int], workers: Mapping[VersionKey, Iterable[int]]) -> None:
        """Take over a measurement of all processes: their bytes by id, and the processes of each model on demand."""
        left = dict(found)
        for key, pids in workers.items():
            self.measured[key] = sum(left.pop(pid, 0) for pid in pids)
        self.base = sum(left.values())

    def release(self, key: VersionKey) -> None:
        """All processes of a model have ended."""
        self.measured.pop(key, None)
        self.reserved.pop(key, None)


def measure(root: int) -> dict[int, int]:
    """Return the bytes of a process and of all its descendants, by id. Takes about a millisecond for each of them."""
    return {pid: resident(pid).share for pid in process_tree(root)}
