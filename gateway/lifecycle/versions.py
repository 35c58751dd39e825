"""All versions that are served, or about to be, by their keys."""

from gateway.errors import NotFound, unknown_model
from gateway.lifecycle.policy import VersionKey
from gateway.lifecycle.version import Version, WorkerCounts


class Versions(dict[VersionKey, Version]):
    """While new files of a version replace old ones, both are in it, with the same model and number.

    It is a dict because threads that read metrics copy it, by `list(versions.items())`, which a dict does in one step.
    """

    def __init__(self) -> None:
        super().__init__()
        self._past_counts: dict[tuple[str, str], WorkerCounts] = {}  # of versions that were removed

    def remove(self, key: VersionKey) -> None:
        """Remove a version whose workers have ended. Its counts stay."""
        number = key[:2]
        self._past_counts[number] = self._past_counts.get(number, WorkerCounts()).plus(self[key].counts)
        del self[key]

    def numbered(self) -> dict[tuple[str, str], Version]:
        """Return the versions by model and number, sorted: while new files replace old ones, the one that admits
        requests, or else one that is not being unloaded. Thread-safe.
        """
        versions, found = list(self.items()), dict[tuple[str, str], Version]()
        for key, version in sorted(versions):
            other = found.get(key[:2])
            if other is None or (version.admits, not version.unloading) > (other.admits, not other.unloading):
                found[key[:2]] = version
        return found

    def find(self, name: str, version: str) -> Version:
        """Return a version: see `numbered`. Raises NotFound."""
        found = self.numbered().get((name, version))
        if found is None:
            raise NotFound(f"there is no model '{name}' with version {version}")
        return found

    def newest(self, name: str) -> str:
        """Return the highest version of a model, in whatever state. Raises NotFound."""
        versions = [key.version for key in self if key.model == name]
        if not versions:
            raise unknown_model(name)
        return max(versions, key=lambda version: int(version or 0))

    def counts(self) -> dict[tuple[str, str], WorkerCounts]:
        """Return the counts by model and number, also of those that were removed. Thread-safe."""
        counts = dict(self._past_counts)
        for key, version in list(self.items()):
            counts[key[:2]] = counts.get(key[:2], WorkerCounts()).plus(version.counts)
        return counts
