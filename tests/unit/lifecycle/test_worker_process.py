"""A worker process in states that a real one passes too quickly."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.lifecycle import worker_start
from gateway.lifecycle.launch import Launch
from gateway.lifecycle.worker_process import WorkerProcess
from gateway.process.cgroup import MemoryGroup, MemoryGroups
from runtimes import wire
from runtimes.control import Load, Ready
from runtimes.status_page import StatusPage


class SlowChild:
    """Starts once `may_start` is set, and runs until it is killed."""

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


FAILED_CHECK = "the loaded model could not be checked; the gateway's log says why"
LAUNCH = Launch("m", "1", Path(sys.executable), {}, Load("runtime", "artifact"), 1.0, 1.0)


class Check:
    """Waits until `answer` is set."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self, loaded: Mapping[str, Any]) -> str:
        return await self.answer


def test_what_a_worker_has_done_is_known_after_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_start, "Child", SlowChild)

    async def main(folder: Path) -> None:
        SlowChild.spawning, SlowChild.may_start = asyncio.Event(), asyncio.Event()
        SlowChild.may_start.set()
        worker = WorkerProcess(LAUNCH, folder, lambda: None, Check())
        assert worker.use == (0, False)
        living = asyncio.create_task(worker.run())
        await SlowChild.spawning.wait()
        page = StatusPage(str(folder / f"{worker.id}.status"))
        page.set_busy([1, 2, 3], 1.0)
        assert worker.use == (3, True)
        worker.kill()
        async with asyncio.timeout(5):
            await living
        page.close()
        assert worker.use == (3, False)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder)))


@pytest.mark.parametrize("end", [WorkerProcess.stop, WorkerProcess.kill])
def test_a_worker_that_is_stopped_while_it_starts_is_killed(
    monkeypatch: pytest.MonkeyPatch, end: Callable[[WorkerProcess], None]
) -> None:
    monkeypatch.setattr(worker_start, "Child", SlowChild)

    async def main(folder: Path) -> None:
        SlowChild.spawning, SlowChild.may_start = asyncio.Event(), asyncio.Event()
        worker = WorkerProcess(LAUNCH, folder, lambda: None, Check())
        living = asyncio.create_task(worker.run())
        await SlowChild.spawning.wait()
        end(worker)
        SlowChild.may_start.set()
        async with asyncio.timeout(5):
            await living
        assert (worker.ended, worker.exit_code) == (True, -9)

    with tempfile.TemporaryDirectory() as folder:  # tmp_path may be too long for a socket's path
        asyncio.run(main(Path(folder)))


def test_temporary_files_are_deleted_however_a_worker_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a worker that is killed while it copies gigabytes would leave them behind."""
    monkeypatch.setattr(worker_start, "Child", SlowChild)
    given: dict[str, str] = {}

    async def main(run_dir: Path) -> None:
        SlowChild.spawning, SlowChild.may_start = asyncio.Event(), asyncio.Event()
        spawn = SlowChild.spawn

        async def noting(*arguments: Any) -> SlowChild:
            given.update(arguments[3])
            os.mkdir(os.path.join(given["TMPDIR"], "half a copy"))
            return await spawn(*arguments)

        monkeypatch.setattr(SlowChild, "spawn", noting)
        worker = WorkerProcess(LAUNCH, run_dir, lambda: None, Check())
        living = asyncio.create_task(worker.run())
        await SlowChild.spawning.wait()
        assert Path(given["TMPDIR"]).parent == run_dir
        worker.kill()
        SlowChild.may_start.set()
        async with asyncio.timeout(5):
            await living
        assert os.listdir(run_dir) == []

    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # enough for a socket's path
        monkeypatch.setattr(tempfile, "tempdir", short)
        run_dir = Path(short, "run")
        run_dir.mkdir()
        asyncio.run(main(run_dir))


class Groups:
    """Control groups as folders, in which a test writes what the kernel would."""

    def __init__(self, top: Path) -> None:
        self.top = top

    def create(self, name: str, limit: int) -> MemoryGroup:
        return MemoryGroup(self.top / name, limit)


@pytest.mark.parametrize("loading", [True, False])
def test_a_worker_that_its_control_group_ends_has_exceeded_its_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, loading: bool
) -> None:
    monkeypatch.setattr(worker_start, "Child", SlowChild)

    async def main(run_dir: Path) -> None:
        SlowChild.spawning, SlowChild.may_start = asyncio.Event(), asyncio.Event()
        SlowChild.may_start.set()
        limited = replace(LAUNCH, memory_limit=1 << 30, memory_groups=cast(MemoryGroups, Groups(tmp_path)))
        worker, started = WorkerProcess(limited, run_dir, lambda: None, Check()), asyncio.Event()
        wait = SlowChild.wait

        async def waiting(child: SlowChild) -> int:
            started.set()
            return await wait(child)

        monkeypatch.setattr(SlowChild, "wait", waiting)
        living = asyncio.create_task(worker.run())
        await started.wait()
        group = tmp_path / f"worker-{worker.id}"
        assert (group / "memory.max").read_text() == str(1 << 30)
        assert (group / "cgroup.procs").read_text() == "1"
        if not loading:
            worker.ready = facts("")
            assert worker.address.memory_events == str(group / "memory.events")
        page = StatusPage(str(run_dir / f"{worker.id}.status"))
        (group / "memory.events").write_text("oom 1\noom_kill 1\n")
        worker.kill()
        async with asyncio.timeout(5):
            await living
        assert page.is_over_limit()
        page.close()
        assert ("memory_limit of 1GiB" in worker.failure) is loading
        assert "memory_limit" in worker.describe_end()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder)))


def facts(note: str) -> Ready:
    return Ready({}, 0, 2, "trial", note)


def ready(worker: WorkerProcess, note: str = "") -> None:
    body = memoryview(json.dumps(facts(note).to_json()).encode())
    worker._on_frame(wire.Frame(wire.READY, 0, 0, body))


def test_a_worker_is_ready_once_its_check_has_passed() -> None:
    async def main() -> None:
        check, changed = Check(), asyncio.Event()
        worker = WorkerProcess(LAUNCH, Path(), changed.set, check)
        ready(worker, note="first")
        ready(worker, note="what it found since")
        await asyncio.sleep(0)
        assert (worker.ready, changed.is_set()) == (None, False)
        check.answer.set_result("")
        await asyncio.wait_for(changed.wait(), 5)
        assert worker.ready == facts("what it found since")
        ready(worker, note="later")
        assert (worker.ready, worker.failure) == (facts("later"), "")

    asyncio.run(main())


@pytest.mark.parametrize("answer", ["its files changed", ZeroDivisionError()])
def test_a_worker_whose_check_fails_is_never_ready(answer: str | Exception) -> None:
    async def main() -> None:
        check, changed = Check(), asyncio.Event()
        worker = WorkerProcess(LAUNCH, Path(), changed.set, check)
        ready(worker)
        check.answer.set_exception(answer) if isinstance(answer, Exception) else check.answer.set_result(answer)
        await asyncio.wait_for(changed.wait(), 5)
        assert worker.ready is None
        assert worker.failure == (answer if isinstance(answer, str) else FAILED_CHECK)

    asyncio.run(main())


def test_a_worker_that_is_stopped_while_it_is_checked_is_never_ready() -> None:
    async def main() -> None:
        check, changed = Check(), asyncio.Event()
        worker = WorkerProcess(LAUNCH, Path(), changed.set, check)
        ready(worker)
        worker.stop()
        check.answer.set_result("")
        assert worker._checking is not None
        await worker._checking
        assert (worker.ready, changed.is_set()) == (None, False)

    asyncio.run(main())
