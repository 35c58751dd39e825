"""One worker as the supervisor sees it, at moments that a real one passes too quickly."""

import asyncio
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.repository import worker_process
from gateway.repository.launch import Launch
from gateway.repository.worker_process import WorkerProcess


class SlowChild:
    """Its spawning is under way until `may_start` is set; then it runs until it is killed."""

    spawning: asyncio.Event
    may_start: asyncio.Event

    def __init__(self) -> None:
        self.pid = 1
        self.killed = asyncio.Event()

    @classmethod
    async def spawn(cls, *arguments: Any) -> "SlowChild":
        cls.spawning.set()
        await cls.may_start.wait()
        return cls()

    async def wait(self) -> int:
        await self.killed.wait()
        return -9

    def kill(self) -> None:
        self.killed.set()


@pytest.mark.parametrize("end", [WorkerProcess.stop, WorkerProcess.kill])
def test_a_worker_that_is_unloaded_while_it_is_spawned_does_not_live_on(
    monkeypatch: pytest.MonkeyPatch, end: Callable[[WorkerProcess], None]
) -> None:
    monkeypatch.setattr(worker_process, "Child", SlowChild)

    async def main(folder: Path) -> None:
        SlowChild.spawning, SlowChild.may_start = asyncio.Event(), asyncio.Event()
        worker = WorkerProcess(Launch("m", "1", Path(sys.executable), {}, {}, 1.0, 1.0), folder, lambda: None)
        living = asyncio.create_task(worker.run())
        await SlowChild.spawning.wait()
        end(worker)
        SlowChild.may_start.set()
        async with asyncio.timeout(5):
            await living
        assert (worker.ended, worker.exit_code) == (True, -9)

    with tempfile.TemporaryDirectory() as folder:  # short enough for a socket's path
        asyncio.run(main(Path(folder)))
