"""Fronts are replaced when they end, and changes are answered when all of them have applied them."""

import asyncio
import errno
import os
import socket
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest

from gateway.config import Settings
from gateway.domain.control import LoadModel, RollBackTraffic, UnloadModel
from gateway.domain.table import Table
from gateway.front.options import FrontOptions
from gateway.process.channel import DRAIN, TABLE, Channel
from gateway.process.child import Child
from gateway.supervisor import front_process as front_process_module
from gateway.supervisor import fronts as fronts_module
from gateway.supervisor.front_process import FrontCallbacks, FrontProcess, table_changes_message, table_message
from gateway.supervisor.fronts import Fronts, NoFrontStarted
from gateway.supervisor.options import front_options
from gateway.supervisor.supervisor import Supervisor
from runtimes.wire import FrameReader


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


@pytest.mark.parametrize("served_first", [False, True])
def test_fronts_that_never_start_end_the_gateway_unless_one_has_served(
    monkeypatch: pytest.MonkeyPatch, served_first: bool
) -> None:
    """The installation is at fault, and nothing would say so but the same traceback twice a second."""
    monkeypatch.setattr(fronts_module, "_RESPAWN_S", 0)

    class Failing(FakeFront):
        made: ClassVar[list[FakeFront]] = []

        async def run(self) -> int:
            if served_first and self.number in (1, 20):
                self.serving.set()
                await asyncio.sleep(0)
                if self.number == 20:
                    await asyncio.Event().wait()
            return 3

    async def main(http: socket.socket) -> None:
        monkeypatch.setattr(fronts_module, "FrontProcess", Failing)
        fronts, served = Fronts(1, http, refuse), asyncio.Queue[None]()
        fronts.start(FrontCallbacks(*[refuse] * 8, on_end=lambda number: None), lambda: served.put_nowait(None))
        if served_first:
            await served.get()
            await served.get()
        else:
            with pytest.raises(NoFrontStarted, match="5 in a row failed, the last with code 3"):
                await fronts.until_failed()
        await fronts.close()

    def refuse(*_: Any) -> Any:
        raise NotImplementedError

    with socket.socket() as http:
        asyncio.run(main(http))
    assert len(Failing.made) == (20 if served_first else 5)


def test_a_stop_does_not_wait_for_the_delay_before_a_front_is_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(FakeFront):
        made: ClassVar[list[FakeFront]] = []

        async def run(self) -> int:
            return 3

    async def main(http: socket.socket) -> None:
        monkeypatch.setattr(fronts_module, "FrontProcess", Failing)
        monkeypatch.setattr(fronts_module, "_RESPAWN_S", 3600)
        monkeypatch.setattr(fronts_module, "_MAX_RESPAWN_S", 3600)
        fronts, ended = Fronts(1, http, refuse), asyncio.Event()
        fronts.start(FrontCallbacks(*[refuse] * 8, on_end=lambda number: ended.set()), refuse)
        await ended.wait()
        await fronts.drain(0, 3)
        await fronts.until_failed()
        await fronts.close()

    def refuse(*_: Any) -> Any:
        raise NotImplementedError

    with socket.socket() as http:
        asyncio.run(main(http))
    assert caplog.messages == ["front 1 exited with code 3; replacing it"]


@pytest.mark.parametrize("stopped", [False, True])
def test_a_front_is_waited_for_however_busy_it_is_unless_it_is_stopped(
    monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    """Otherwise, statistics lack what it has answered, and it serves what was unloaded."""
    looks = 0

    def look(pid: int) -> bool:
        nonlocal looks
        looks += 1
        if looks == 3 and not stopped:
            answered.set()
        return looks == 3 and stopped

    class Front:
        async def call(self, verb: str, **arguments: Any) -> None:
            await answered.wait()
            answers.append(verb)

    async def main(http: socket.socket) -> None:
        front = FrontProcess(lambda number: cast(FrontOptions, None), http, FrontCallbacks(*[no] * 9))
        front._channel, front._child = cast(Channel, Front()), cast(Child, SimpleNamespace(pid=1))
        front.serving.set()
        await front.request_metrics()

    def no(*_: Any) -> Any:
        raise NotImplementedError

    answered, answers = asyncio.Event(), list[str]()
    monkeypatch.setattr(front_process_module, "is_stopped", look)
    monkeypatch.setattr(front_process_module, "_LOOK_S", 0)
    with socket.socket() as http:
        asyncio.run(main(http))
    assert (len(answers), looks) == (0 if stopped else 1, 3)


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


def test_what_changes_while_a_front_is_started_is_part_of_what_it_gets_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without the table, it could not remove a model from it."""
    kinds: list[int] = []

    class Ended:
        def __init__(self, control: socket.socket) -> None:
            self.control, self.pid = control, None

        async def wait(self) -> int:
            with self.control:
                kinds.extend(frame.kind for frame in FrameReader().feed(self.control.recv(1 << 16)))
            return 0

    async def main(http: socket.socket) -> None:
        callbacks = FrontCallbacks(lambda number: [table_message(Table())], *[lambda *_: None] * 8)  # type: ignore[list-item]
        front = FrontProcess(partial(front_options, Settings(), tmp_path, 0, False, -1, None), http, callbacks)

        async def spawn(command: Any, log: Any, descriptors: list[int], *_: Any) -> Ended:
            front.send(table_changes_message(Table(), Table(ready=True)))
            front.drain(0.0, 1.0)
            return Ended(socket.socket(fileno=os.dup(descriptors[0])))

        monkeypatch.setattr(Child, "spawn", spawn)
        assert await front.run() == 0

    with socket.socket() as http:
        asyncio.run(main(http))
    assert kinds == [TABLE, DRAIN]


def test_an_operators_settings_of_malloc_reach_the_front_and_those_of_the_box_do_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environments: list[dict[str, str]] = []

    async def spawn(command: Any, log: Any, descriptors: Any, environment: dict[str, str], *_: Any) -> Any:
        environments.append(environment)
        raise OSError(errno.EAGAIN, "no more processes")

    async def main(http: socket.socket) -> None:
        callbacks = FrontCallbacks(lambda number: [], *[lambda *_: None] * 8)  # type: ignore[list-item]
        front = FrontProcess(partial(front_options, Settings(), tmp_path, 0, False, -1, None), http, callbacks)
        with pytest.raises(OSError, match="no more processes"):
            await front.run()

    monkeypatch.setattr(Child, "spawn", spawn)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "7")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    with socket.socket() as http:
        asyncio.run(main(http))
    (environment,) = environments
    assert environment["MALLOC_ARENA_MAX"] == "7"
    assert environment["MALLOC_TRIM_THRESHOLD_"] == "67108864"
    assert environment["OPENBLAS_NUM_THREADS"] == "1"
