"""The models on demand that are in memory, how they are used, and which of them are worth least."""

import time
from collections.abc import Callable

from gateway.lifecycle.eviction import Candidate, Known, Uses, choose, worths
from gateway.lifecycle.model_version import ModelVersion
from gateway.lifecycle.policy import VersionKey

# A model stays at least this long, or until it has answered a request, so that each load is of use to someone.
MIN_STAY_S = 1.0
# A model with streams is idle if none of them has taken a step for so long.
_IDLE_STREAMS_S = 60.0


class ModelsInMemory:
    """loading: those that are being loaded, the newest last.

    loaded: those with workers that are not leaving, and since when
    leaving: the others with workers, and when each of them was last seen busy
    """

    def __init__(self) -> None:
        self.loading: dict[ModelVersion, None] = {}
        self.loaded: dict[ModelVersion, float] = {}
        self.leaving: dict[ModelVersion, float] = {}
        self._uses: dict[tuple[str, str], Uses] = {}
        # By worker: the requests that it had begun when it was last looked at.
        self._begun: dict[VersionKey, dict[int, int]] = {}
        self._load_s: dict[tuple[str, str], float] = {}

    @property
    def all(self) -> tuple[ModelVersion, ...]:
        return (*self.loaded, *self.leaving, *self.loading)

    def settle(self, version: ModelVersion) -> None:
        """A model has been loaded."""
        self.loading.pop(version, None)
        self.loaded[version] = time.monotonic()
        if version.load_s is not None:  # the quickest load counts: the others had to wait for processors and disks
            key = version.key[:2]
            self._load_s[key] = min(self._load_s.get(key, version.load_s), version.load_s)

    def leave(self, version: ModelVersion) -> None:
        """A model is no longer used, but its memory is until its workers have ended."""
        self.loading.pop(version, None)
        self.loaded.pop(version, None)
        self.leaving[version] = time.monotonic()

    def forget(self, version: ModelVersion) -> None:
        """A model has no workers any more."""
        self.loading.pop(version, None)
        self.loaded.pop(version, None)
        self.leaving.pop(version, None)
        self._begun.pop(version.key, None)

    def look(self, version: ModelVersion, now: float) -> Uses:
        """Return how often a model was used, until now."""
        uses = self._uses.setdefault(version.key[:2], Uses())
        before = self._begun.get(version.key, {})
        self._begun[version.key] = found = {worker.id: worker.use[0] for worker in version.workers}
        for worker, begun in found.items():
            if new := (begun - before.get(worker, 0)) & 0xFFFFFFFF:
                uses.add(new, now)
        return uses

    def worth_least(
        self, missing: int, size_of: Callable[[ModelVersion], int], also_in_use: bool = False
    ) -> list[ModelVersion]:
        """Return which loaded models are to leave, so that so many bytes will be free. There may be too few of them."""
        now, found = time.monotonic(), list[tuple[ModelVersion, Known]]()
        for version, since in self.loaded.items():
            uses = self.look(version, now)
            has_served = uses.last >= since or now - since >= MIN_STAY_S
            if may_leave(version) and has_served and (also_in_use or _is_idle(version, uses, now)):
                size = max(1, size_of(version))
                found.append((version, Known(uses.count(now), self._load_s.get(version.key[:2], 1.0), size)))
        worth = worths([known for _, known in found])
        candidates = [Candidate(version, known.size, each) for (version, known), each in zip(found, worth, strict=True)]
        chosen = {each.name for each in choose(candidates, missing)}
        return [version for version, _ in found if version in chosen]


def may_leave(version: ModelVersion) -> bool:
    """Whether a model may be unloaded at all: not if it is pinned, or keeps a state that would be lost."""
    toml = version.config.toml
    return not toml.pinned and not toml.stateful


def _is_idle(version: ModelVersion, uses: Uses, now: float) -> bool:
    if any(worker.use[1] for worker in version.workers):
        return False
    sequence = version.config.toml.sequence
    idle_s = sequence.idle_timeout_s if sequence else _IDLE_STREAMS_S if version.decoupled else 0.0
    return not idle_s or now - uses.last >= idle_s
