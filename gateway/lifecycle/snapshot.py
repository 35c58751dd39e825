"""Compares scans of the repository, to tell which files have stopped changing: pure functions, tested as a table."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from gateway.lifecycle.policy import VersionKey
from gateway.repository.model_config import ModelConfig


@dataclass(frozen=True)
class RepositorySnapshot:
    """The versions in the repository.

    found   every version that could be served
    stable  the versions of `found` that may be loaded, because their files have stopped changing
    """

    found: Mapping[VersionKey, ModelConfig] = field(default_factory=dict)
    stable: Collection[VersionKey] = frozenset()

    def selected(self, is_selected: Callable[[str], bool]) -> "RepositorySnapshot":
        """Return the snapshot with only those models whose names are selected."""
        return replace(self, found={key: config for key, config in self.found.items() if is_selected(key.model)})

    def loadable(self) -> dict[VersionKey, ModelConfig]:
        return {key: config for key, config in self.found.items() if key in self.stable}

    def changing(self) -> set[str]:
        """Return the models with a version whose files may still be changing."""
        return {key.model for key in self.found if key not in self.stable}


def next_snapshot(
    previous: RepositorySnapshot | None,
    scanned: Mapping[VersionKey, ModelConfig],
    served: Collection[VersionKey],
    requested: Collection[str] = (),
    only_requested: bool = False,
) -> RepositorySnapshot:
    """Return the snapshot after another scan.

    A version is stable if two scans found the same fingerprint. While its files are being copied, each scan finds
    another fingerprint, and therefore another version key.

    previous        None at the first scan; all versions that it finds count as stable
    served          versions that run already, and therefore were stable before
    requested       models that a client loads now; one scan is enough for them
    only_requested  whether all other models stay as they were in `previous`
    """
    if previous is None:
        return RepositorySnapshot(scanned, frozenset(scanned))
    found = scanned
    if only_requested:
        found = {key: config for key, config in previous.found.items() if key.model not in requested}
        found |= {key: config for key, config in scanned.items() if key.model in requested}
    stable = (key for key in found if key in previous.found or key in served or key.model in requested)
    return RepositorySnapshot(found, frozenset(stable))
