"""Fronts are replaced when they end, and changes are answered when all of them have applied them."""

import asyncio
import errno
import socket
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gateway.config import Settings
from gateway.domain.control import LoadModel, RollBackTraffic, UnloadModel
from gateway.supervisor import fronts as fronts_module
from gateway.supervisor.front_process import FrontCallbacks
from gateway.supervisor.fronts import Fronts
from gateway.supervisor.supervisor import Supervisor


class FakeFront:
    """The first one cannot be started; the second serves until it is cancelled."""

    made: ClassVar[list["FakeFront"]] = []

    def __init__(self, *arguments: Any) -> None:
        self.made.append(self)
        self.number = len(self.made)
        self.serving = asyncio.Event()

    async def run(self) -> int:
        if self.number == 1:
            raise OSError(errno.EAGAIN, "no more processes")
        self.serving.set()
        await asyncio.Event().wait()
        return 0


def test_a_front_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fronts_module, "FrontProcess", FakeFront)
    monkeypatch.setattr(fronts_module, "_RESPAWN_S", 0)
    ended: list[int] = []

    def refuse(*_: Any) -> Any:
        raise NotImplementedError

    async def main(http: socket.socket) -> None:
        fronts, serving = Fronts(1, http, refuse), asyncio.Event()
        fronts.start(FrontCallbacks(*[refuse] * 8, on_end=ended.append), serving.set)
        await serving.wait()
        assert (fronts.restarts, len(fronts), ended) == (1, 1, [1])
        await fronts.close()

    with socket.socket() as http:
        asyncio.run(main(http))
    assert [front.number for front in FakeFront.made] == [1, 2]
    assert ended == [1, 2]


def test_a_change_is_answered_when_all_fronts_have_applied_it(tmp_path: Path) -> None:
    """The client's next request may be for another front than the one that answers."""
    events: list[str] = []

    class Front:
        def __init__(self, name: str) -> None:
            self.name = name

        def send(self, message: Any) -> None:
            events.append(f"{self.name} is sent the table")

        async def request_metrics(self) -> None:
            events.append(f"{self.name} is asked")
            await asyncio.sleep(0)
            events.append(f"{self.name} answers")

    class Traffic:
        def apply(self, statuses: Any) -> dict[str, Any]:
            return {}

        def roll_back(self, name: str) -> None:
            events.append(f"{name} changes its traffic")

        def get(self, name: str) -> dict[str, Any]:
            return {"model": name}

    async def load(name: str, override: Any = None) -> None:
        events.append(f"{name} changes its state")

    async def main() -> None:
        supervisor = Supervisor(tmp_path, Settings(http="127.0.0.1:0", grpc="127.0.0.1:0", metrics=""), {})
        supervisor.fronts._running = {1: Front("1"), 2: Front("2")}  # type: ignore[dict-item]
        supervisor.loads.load = supervisor.loads.unload = load  # type: ignore[method-assign]
        supervisor.state.traffic = Traffic()  # type: ignore[assignment]
        try:
            assert await supervisor.handlers(RollBackTraffic("m")) == {"model": "m"}
            assert events[0] == "m changes its traffic"
            assert events[1:3] == ["1 is sent the table", "2 is sent the table"]
            assert events[-2:] == ["1 answers", "2 answers"]
            for request in (LoadModel("m"), UnloadModel("m")):
                events.clear()
                await supervisor.handlers(request)
                assert events[0] == "m changes its state"
                assert events[-2:] == ["1 answers", "2 answers"]
        finally:
            supervisor.close()

    asyncio.run(main())
