"""The supervisor replaces fronts that cannot be started."""

import asyncio
import errno
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gateway.config import Settings
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
