"""What a front sends for the audit log: in groups, and never more than a limit."""

import asyncio
from typing import Any, get_args

import pytest

from gateway.domain.caller import Caller, Event
from gateway.domain.identity import Action
from gateway.front.base import audit
from gateway.front.base.audit import AuditTrail, OpenAccess
from gateway.process.channel import AUDIT

REFUSAL = Event("infer", "m", "127.0.0.1:1", "alice", "/v2/models/m/infer", "forbidden")
ACT = Event("admin", "m", "127.0.0.1:1", "alice", "POST /v2/repository/models/m/load")


class FakeChannel:
    def __init__(self) -> None:
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.backlogs: asyncio.Queue[bool] = asyncio.Queue()

    @property
    def has_backlog(self) -> bool:
        return not self.backlogs.empty() and self.backlogs.get_nowait()

    def send(self, kind: int, body: dict[str, Any]) -> None:
        assert kind == AUDIT
        self.sent.put_nowait(body)


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch) -> FakeChannel:
    monkeypatch.setattr(audit, "_COLLECT_S", 0.001)
    return FakeChannel()


def test_events_are_sent_in_groups(channel: FakeChannel) -> None:
    async def main() -> None:
        trail = AuditTrail(channel)  # type: ignore[arg-type]
        for group in ([REFUSAL, ACT], [ACT]):
            for event in group:
                trail.record(event)
            body = await channel.sent.get()
            assert [each[1:] for each in body["events"]] == [list(event) for event in group]
            assert body["dropped"] == 0
        trail.record(REFUSAL)
        trail.flush()
        trail.flush()
        assert channel.sent.qsize() == 1

    asyncio.run(main())


# Of a client whose token cannot be checked.
UNKNOWN = REFUSAL._replace(identity="", outcome="unavailable")


@pytest.mark.parametrize("refusal", [REFUSAL, UNKNOWN])
def test_a_flood_of_refusals_is_counted_and_hides_no_act(channel: FakeChannel, refusal: Event) -> None:
    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        trail = AuditTrail(channel)  # type: ignore[arg-type]
        for _ in range(3):
            channel.backlogs.put_nowait(True)
        for _ in range(audit._MAX_REFUSALS + 10):
            trail.record(refusal)
        trail.record(ACT)
        trail.record(refusal)
        first = await channel.sent.get()
        assert channel.backlogs.empty()
        trail.record(refusal)
        return first, await channel.sent.get()

    first, second = asyncio.run(main())
    assert len(first["events"]) == audit._MAX_REFUSALS + 1
    assert first["events"][-1][1:] == list(ACT)
    assert (first["dropped"], second["dropped"], len(second["events"])) == (11, 0, 1)


def test_names_that_clients_choose_are_shortened(channel: FakeChannel) -> None:
    async def main() -> None:
        trail = AuditTrail(channel)  # type: ignore[arg-type]
        trail.record(REFUSAL._replace(model="m" * 100_000, what="/" * 100_000))
        trail.flush()

    asyncio.run(main())
    (event,) = channel.sent.get_nowait()["events"]
    assert max(len(field) for field in event[1:]) == 256


def test_open_access_allows_everything(channel: FakeChannel) -> None:
    access = OpenAccess(AuditTrail(channel))  # type: ignore[arg-type]
    identity = access.identify(Caller("", []))
    assert identity.is_valid
    for action in get_args(Action):
        identity.check(action, "")
        identity.check(action, "any")
