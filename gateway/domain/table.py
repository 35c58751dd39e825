"""The table of models and workers that the supervisor pushes to every front."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gateway.domain.image_processing import postprocess_from_json, preprocess_from_json
from gateway.domain.shared_memory import Region
from gateway.domain.types import ModelStatus
from runtimes.wire import signature_from_json


@dataclass(frozen=True, slots=True)
class WorkerAddress:
    """Where a front finds a worker. window: how many rows it takes from one front before it has answered some."""

    id: int
    socket: str
    status: str
    window: int


@dataclass(frozen=True, slots=True)
class Entry:
    status: ModelStatus
    workers: tuple[WorkerAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """All that a front must know. `ready` is the server's readiness, settled by the supervisor.

    regions  of shared memory, which clients have registered
    """

    entries: tuple[Entry, ...] = ()
    ready: bool = False
    regions: tuple[Region, ...] = ()


def table_to_json(table: Table) -> dict[str, Any]:
    return {
        "ready": table.ready,
        "regions": table.regions,
        "entries": [
            {"status": _status_to_json(entry.status), "workers": [asdict(worker) for worker in entry.workers]}
            for entry in table.entries
        ],
    }


def table_from_json(raw: Mapping[str, Any]) -> Table:
    entries = tuple(
        Entry(_status_from_json(entry["status"]), tuple(WorkerAddress(**worker) for worker in entry["workers"]))
        for entry in raw["entries"]
    )
    return Table(entries, raw["ready"], tuple(Region(*region) for region in raw["regions"]))


def _status_to_json(status: ModelStatus) -> dict[str, Any]:
    # Signatures and what is done to images are tuples, so JSON takes them as they are.
    return {name: getattr(status, name) for name in ModelStatus.__slots__}


def _status_from_json(raw: Mapping[str, Any]) -> ModelStatus:
    values = dict(raw)
    values["signatures"] = {name: signature_from_json(each) for name, each in raw["signatures"].items()}
    values["learned"] = signature_from_json(raw["learned"]) if raw["learned"] else None
    values["preprocess"] = preprocess_from_json(raw["preprocess"])
    values["postprocess"] = postprocess_from_json(raw["postprocess"])
    return ModelStatus(**values)
