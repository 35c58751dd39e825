"""Fronts get what has changed in the table, and have the same table as the supervisor afterwards."""

import json
from dataclasses import replace

from gateway.domain.shared_memory import Region
from gateway.domain.table import Table, TableEntry, WorkerAddress, changed_table, changes_to_json
from gateway.domain.types import ModelStatus


def entry(name: str, state: str = "READY") -> TableEntry:
    return TableEntry(ModelStatus(name, "1", state), (WorkerAddress(1, "socket", "status", 8),))


def states(table: Table) -> list[tuple[str, str, int]]:
    return [(each.status.name, each.status.state, len(each.workers)) for each in table.entries]


def test_only_what_has_changed_is_sent() -> None:
    kept, old, gone = entry("b"), entry("c"), entry("d")
    before = Table((kept, old, gone))
    after = Table((entry("a"), kept, entry("c", "UNLOADED")), True, (Region("r", "key", 0, 8),))
    raw = json.loads(json.dumps(changes_to_json(before, after)))
    assert [each["status"]["name"] for each in raw["entries"]] == ["a", "c"]
    assert raw["gone"] == [["d", "1"]]
    found = changed_table(before, raw)
    assert states(found) == states(after)
    assert (found.ready, found.regions) == (True, after.regions)
    assert found.entries[1] is kept


def test_a_front_that_knows_nothing_takes_changes_as_they_are() -> None:
    after = Table((entry("a"),), True)
    raw = json.loads(json.dumps(changes_to_json(replace(after, entries=()), after)))
    assert states(changed_table(Table(), raw)) == states(after)
