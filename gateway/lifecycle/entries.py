"""The entries of the fronts' table, made of all versions."""

from collections.abc import Callable, Collection, Iterable, Mapping

from gateway.domain.table import TableEntry
from gateway.domain.types import newest_first
from gateway.lifecycle.pipeline_version import PipelineVersion, in_order
from gateway.lifecycle.policy import VersionKey
from gateway.lifecycle.version import Version


def table_entries(
    versions: Mapping[VersionKey, Version], desired: Collection[VersionKey], entry: Callable[[Version], TableEntry]
) -> tuple[TableEntry, ...]:
    """Return the entries, sorted by model and version, after each pipeline has followed those of its steps.

    desired  the versions that should be served, of which some may not be in `versions` yet
    entry    returns the entry of a version
    """
    pipelines = [each for each in versions.values() if isinstance(each, PipelineVersion)]
    workers = [each for each in versions.values() if not isinstance(each, PipelineVersion)]
    chosen: dict[str, dict[str, TableEntry]] = {}  # model → version → entry
    _choose(workers, desired, entry, chosen)
    models = {name: newest_first(found.status for found in each.values()) for name, each in chosen.items()}
    coming = {key.model for key in desired if key not in versions}
    for found, problem in in_order(pipelines):
        for version in found:
            version.follow(models, coming, problem)
        _choose(found, desired, entry, chosen)
        name = found[0].key.model
        models[name] = newest_first(each.status for each in chosen.get(name, {}).values())
    return tuple(found for _, each in sorted(chosen.items()) for _, found in sorted(each.items()))


def _choose(
    versions: Iterable[Version],
    desired: Collection[VersionKey],
    entry: Callable[[Version], TableEntry],
    chosen: dict[str, dict[str, TableEntry]],
) -> None:
    """Add the entry of each version to `chosen`.

    If a version runs with two fingerprints, choose the one that admits requests; if both do, the desired one.
    """
    for version in sorted(versions, key=lambda each: each.key):
        if version.unloading:
            continue
        found, key = entry(version), version.key
        others = chosen.setdefault(key.model, {})
        other = others.get(key.version)
        if other is None or (found.status.admits and (key in desired or not other.status.admits)):
            others[key.version] = found
