"""The entries of the fronts' table, made of all versions."""

from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import chain

from gateway.domain.table import TableEntry
from gateway.domain.types import ModelStatus, newest_first
from gateway.lifecycle.pipeline_version import PipelineVersion, in_order
from gateway.lifecycle.policy import VersionKey
from gateway.lifecycle.version import Version


class TableEntries:
    """Keeps the entries, and makes those again that may have changed: there may be thousands of models."""

    def __init__(self) -> None:
        self._chosen: dict[str, dict[str, TableEntry]] = {}  # model → version → entry
        self._sorted: dict[str, list[TableEntry]] = {}  # the same, in order

    def update(
        self,
        versions: Mapping[VersionKey, Version],
        desired: Collection[VersionKey],
        entry: Callable[[Version], TableEntry],
        changed: Collection[str] | None = None,
    ) -> tuple[TableEntry, ...]:
        """Return the entries, sorted by model and version, after each pipeline has followed those of its steps.

        desired  the versions that should be served, of which some may not be in `versions` yet
        entry    returns the entry of a version
        changed  names of the models of which something may have changed; None: all. Pipelines need not be named
        """
        if changed is None:
            self._chosen, changed = {}, {*self._sorted, *(key.model for key in versions)}
        pipelines = [each for each in versions.values() if isinstance(each, PipelineVersion)]
        changed = {*changed, *(each.key.model for each in pipelines)}
        for name in changed:
            self._chosen.pop(name, None)
        workers = (each for key, each in versions.items() if key.model in changed)
        self._choose((each for each in workers if not isinstance(each, PipelineVersion)), desired, entry)
        if pipelines:
            self._follow(pipelines, versions, desired, entry)
        self._sort(changed)
        return tuple(chain.from_iterable(self._sorted.values()))

    def _sort(self, changed: Iterable[str]) -> None:
        """Take over the entries of these models. Those that are equal stay the same objects, so are not sent again."""
        known = len(self._sorted)
        for name in changed:
            before = {each.status.version: each for each in self._sorted.get(name, ())}
            entries = [each for _, each in sorted(self._chosen.get(name, {}).items())]
            self._sorted[name] = [old if (old := before.get(each.status.version)) == each else each for each in entries]
        if len(self._sorted) != known:
            self._sorted = dict(sorted(self._sorted.items()))

    def _follow(
        self,
        pipelines: Iterable[PipelineVersion],
        versions: Mapping[VersionKey, Version],
        desired: Collection[VersionKey],
        entry: Callable[[Version], TableEntry],
    ) -> None:
        steps = {name for pipeline in pipelines for name in pipeline.models}
        models = {name: self._statuses(name) for name in steps}
        coming = {key.model for key in desired if key.model in steps and not self._is_described(key, versions)}
        for found, problem in in_order(pipelines):
            name = found[0].key.model
            for version in found:
                version.follow(models, coming, problem)
            self._choose(found, desired, entry)
            models[name] = self._statuses(name)

    def _is_described(self, key: VersionKey, versions: Mapping[VersionKey, Version]) -> bool:
        """Return whether there is an entry, or will be one before pipelines that need it follow their steps.

        While several models are being added, what one of them reports comes before the others have entries.
        """
        if isinstance(versions.get(key), PipelineVersion):
            return True
        return key in versions and key.version in self._chosen.get(key.model, {})

    def _statuses(self, name: str) -> list[ModelStatus]:
        return newest_first(entry.status for entry in self._chosen.get(name, {}).values())

    def _choose(
        self,
        versions: Iterable[Version],
        desired: Collection[VersionKey],
        entry: Callable[[Version], TableEntry],
    ) -> None:
        """Add the entry of each version.

        If a version runs with two fingerprints, choose the one that admits requests; if both do, the desired one.
        """
        for version in sorted(versions, key=lambda each: each.key):
            if version.unloading:
                continue
            found, key = entry(version), version.key
            others = self._chosen.setdefault(key.model, {})
            other = others.get(key.version)
            if other is None or (found.status.admits and (key in desired or not other.status.admits)):
                others[key.version] = found
