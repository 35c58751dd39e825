"""The table of models and workers that the supervisor sends to every front."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from gateway.domain.image_processing import postprocess_from_json, preprocess_from_json
from gateway.domain.pipeline import steps_from_json
from gateway.domain.shared_memory import Region
from gateway.domain.table_schema import table_schema_from_json
from gateway.domain.traffic import Traffic, traffic_from_json
from gateway.domain.types import ModelStatus
from runtimes.wire import signature_from_json

EntryKey = tuple[str, str]  # of a TableEntry: model, version


@dataclass(frozen=True, slots=True)
class WorkerAddress:
    """How to reach a worker.

    socket, status  paths of its socket and of its status page
    window          how many rows a front may have in flight
    batch_rows      how many of them may run together; 0 or 1 if each request runs alone
    slot            which of the version's instances it is, from 0; the worker that replaces it has the same
    memory_events   path of the file in which the kernel counts what the worker's memory limit has done; "": no group
    """

    id: int
    socket: str
    status: str
    window: int
    batch_rows: int = 0
    memory_events: str = ""
    slot: int = 0


@dataclass(frozen=True, slots=True)
class TableEntry:
    """One version of a model, and the workers that are ready to run it."""

    status: ModelStatus
    workers: tuple[WorkerAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """Everything that fronts know about models.

    entries  sorted by model and version
    ready    the server's readiness, which the supervisor determines
    regions  the regions of shared memory that clients have registered
    traffic  of the models whose traffic is divided or copied
    """

    entries: tuple[TableEntry, ...] = ()
    ready: bool = False
    regions: tuple[Region, ...] = ()
    traffic: Mapping[str, Traffic] = field(default_factory=dict)


def table_to_json(table: Table) -> dict[str, Any]:
    return {
        "ready": table.ready,
        "regions": table.regions,
        "traffic": table.traffic,
        "entries": [
            {"status": _status_to_json(entry.status), "workers": [asdict(worker) for worker in entry.workers]}
            for entry in table.entries
        ],
    }


def table_from_json(raw: Mapping[str, Any]) -> Table:
    entries = tuple(
        TableEntry(_status_from_json(entry["status"]), tuple(WorkerAddress(**worker) for worker in entry["workers"]))
        for entry in raw["entries"]
    )
    regions = tuple(Region(*region) for region in raw["regions"])
    traffic = {name: traffic_from_json(each) for name, each in raw["traffic"].items()}
    return Table(entries, raw["ready"], regions, traffic)


def changes(before: Table, table: Table) -> tuple[dict[EntryKey, TableEntry], set[EntryKey]]:
    """Return the entries that are new since another table, and the keys of those that are gone.

    Of many models, most entries are the same objects, and only these are compared.
    """
    old, new = set(map(id, before.entries)), set(map(id, table.entries))
    changed = {_key(entry): entry for entry in table.entries if id(entry) not in old}
    left = {_key(entry) for entry in before.entries if id(entry) not in new}
    return changed, left - changed.keys()


def changes_to_json(before: Table, table: Table) -> dict[str, Any]:
    """Return what has changed since another table."""
    changed, gone = changes(before, table)
    return {**table_to_json(replace(table, entries=tuple(changed.values()))), "gone": sorted(gone)}


def changed_table(before: Table, raw: Mapping[str, Any]) -> Table:
    """Return the table that `changes_to_json` had. Entries that have not changed are the same objects as before."""
    news, entries = table_from_json(raw), list(before.entries)
    for key in map(tuple, raw["gone"]):
        del entries[bisect_left(entries, key, key=_key)]
    for entry in news.entries:
        at = bisect_left(entries, _key(entry), key=_key)
        is_known = at < len(entries) and _key(entries[at]) == _key(entry)
        entries[at : at + is_known] = [entry]
    return replace(news, entries=tuple(entries))


def _key(entry: TableEntry) -> EntryKey:
    return entry.status.name, entry.status.version


def _status_to_json(status: ModelStatus) -> dict[str, Any]:
    # Signatures, Preprocess, Postprocess and steps are tuples, which JSON writes as lists.
    return {name: getattr(status, name) for name in ModelStatus.__slots__}


def _status_from_json(raw: Mapping[str, Any]) -> ModelStatus:
    values = dict(raw)
    values["signatures"] = {name: signature_from_json(each) for name, each in raw["signatures"].items()}
    values["learned"] = signature_from_json(raw["learned"]) if raw["learned"] else None
    values["preprocess"] = preprocess_from_json(raw["preprocess"])
    values["postprocess"] = postprocess_from_json(raw["postprocess"])
    values["steps"] = steps_from_json(raw["steps"])
    values["table"] = table_schema_from_json(raw["table"])
    return ModelStatus(**values)
