"""The supervisor replaces fronts that cannot be started, and writes live figures."""

import asyncio
import errno
import importlib.util
import os
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gateway.config import Settings, SettingsError
from gateway.domain.control import GetTraffic, LoadModel, UnloadModel
from gateway.supervisor import supervisor as supervisor_module
from gateway.supervisor.supervisor import Supervisor


class FakeFront:
    """The first one cannot be started; the second serves until it is cancelled."""

    made: ClassVar[list["FakeFront"]] = []

    def __init__(self, options: Any, *others: Any) -> None:
        self.made.append(self)
        self.number = len(self.made)
        self.serving = asyncio.Event()
        self.pid = None

    async def run(self, *current: Any) -> int:
        if self.number == 1:
            raise OSError(errno.EAGAIN, "no more processes")
        self.serving.set()
        await asyncio.Event().wait()
        return 0


def test_a_front_that_cannot_be_started_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "FrontProcess", FakeFront)
    monkeypatch.setattr(supervisor_module, "_RESPAWN_S", 0)

    async def main() -> None:
        settings = Settings(http="127.0.0.1:0", grpc="127.0.0.1:0", metrics="")
        supervisor = Supervisor(tmp_path, settings, {})
        serving = asyncio.Event()
        keeping = asyncio.create_task(supervisor._run_front(serving.set))
        await serving.wait()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        supervisor.close()

    asyncio.run(main())
    assert [front.number for front in FakeFront.made] == [1, 2]


def test_live_figures_are_written_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A point that takes long is not followed by another before it is written."""
    written, may_go_on, several = [], threading.Event(), threading.Event()

    class FakeFigures:
        def __init__(self, folder: Path, started: float) -> None:
            written.append(folder)

        def write(self, overview: Any, now: float) -> None:
            written.append(overview["models"])
            assert may_go_on.wait(30)
            if len(written) > 3:
                several.set()

    monkeypatch.setattr(supervisor_module, "LiveFigures", FakeFigures)
    monkeypatch.setattr(supervisor_module, "INTERVAL_S", 0)

    async def main() -> None:
        folder = str(tmp_path / "log")
        supervisor = Supervisor(tmp_path, Settings(http="127.0.0.1:0", grpc="127.0.0.1:0", tensorboard=folder), {})
        writing = asyncio.create_task(supervisor._write_figures(Path(folder)))
        for _ in range(100):
            await asyncio.sleep(0)
        assert written == [tmp_path / "log", []]
        may_go_on.set()
        assert await asyncio.to_thread(several.wait, 30)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        supervisor.close()

    asyncio.run(main())
    assert written[1:4] == [[], [], []]


def test_a_tensorboard_log_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="tensorboard needs the package tensorboardX: pip install 'modelport"):
        Supervisor(tmp_path, Settings(tensorboard=str(tmp_path)), {})


@pytest.mark.parametrize(("path", "said"), [("missing/access.log", "No such file"), ("", "Is a directory")])
def test_an_access_log_that_cannot_be_written_is_a_wrong_setting(tmp_path: Path, path: str, said: str) -> None:
    settings = Settings(http="127.0.0.1:0", grpc="127.0.0.1:0", metrics="", access_log=str(tmp_path / path))
    with pytest.raises(SettingsError, match=f"the access log .* cannot be written: {said}.*; set access_log to a file"):
        Supervisor(tmp_path, settings, {})


def test_the_access_log_may_be_standard_output_if_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(http="127.0.0.1:0", grpc="127.0.0.1:0", metrics="", access_log="-")
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(SettingsError, match="access_log is -, but standard output is closed"):
        Supervisor(tmp_path, settings, {})
    with (tmp_path / "out").open("w") as file:
        monkeypatch.setattr("sys.stdout", file)
        supervisor = Supervisor(tmp_path, settings, {})
        descriptor = supervisor._front_options(1).access_log_descriptor
        assert os.path.sameopenfile(descriptor, file.fileno())
        assert descriptor != file.fileno()
        supervisor.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


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

    async def load(name: str, override: Any = None) -> None:
        events.append(f"{name} changes its state")

    async def main() -> None:
        supervisor = Supervisor(tmp_path, Settings(http="127.0.0.1:0", grpc="127.0.0.1:0", metrics=""), {})
        supervisor._fronts = {1: Front("1"), 2: Front("2")}  # type: ignore[dict-item]
        supervisor.manager.load = supervisor.manager.unload = load  # type: ignore[method-assign]
        supervisor.traffic.get = lambda name: {"model": name}  # type: ignore[method-assign]
        try:
            assert await supervisor._changing(lambda request: events.append("change"))(GetTraffic("m")) == {
                "model": "m"
            }
            changed = list(events)
            for request in (LoadModel("m"), UnloadModel("m")):
                events.clear()
                await supervisor.handlers(request)
                assert events[0] == "m changes its state"
                assert events[-2:] == ["1 answers", "2 answers"]
            events[:] = changed
        finally:
            supervisor.close()

    asyncio.run(main())
    assert events[0] == "change"
    assert events[1:3] == ["1 is sent the table", "2 is sent the table"]
    assert events[-2:] == ["1 answers", "2 answers"]
