"""Workers that are copies of a process: real processes of the gateway's own interpreter."""

import asyncio
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

import runtimes
from gateway.lifecycle import zygote as zygote_module
from gateway.lifecycle import zygotes as zygotes_module
from gateway.lifecycle.launch import Launch
from gateway.lifecycle.worker_process import WorkerProcess
from gateway.lifecycle.zygotes import Zygotes
from runtimes.control import Load, Ready
from runtimes.sandbox.box import Box

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux copies workers")

FAKE = Path(runtimes.__file__).parent / "fake"
_WAIT_S = 60.0
# Its load fails, and the reason is what the test wants to know of the process.
REPORTING = """
import json, multiprocessing, os, random, sys, tempfile
import numpy.random
from runtimes.contract import LoadError

IMPORTED_IN = os.getpid()
SEEDS = []

def after_fork(seed):
    SEEDS.append(seed)

def load(options):
    raise LoadError(json.dumps({
        "copied": IMPORTED_IN != os.getpid(), "parent": os.getppid(), "group": os.getpgid(0), "pid": os.getpid(),
        "session": os.getsid(0), "seeds": len(SEEDS),
        "draws": [
            random.random(), numpy.random.random(), multiprocessing.current_process().authkey.hex(), *SEEDS
        ],
        "environment": {name: value[:100] for name, value in os.environ.items()},  # a reason has a limited length
        "temporary": tempfile.gettempdir(),
        "files": len(os.listdir("/proc/self/fd")),
    }))
"""
Pair = tuple[Path, Zygotes]


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:  # tmp_path may be too long for a socket's path
        yield Path(folder)


def run(folder: Path, test: Callable[[Zygotes], Awaitable[None]]) -> None:
    async def main() -> None:
        zygotes = Zygotes(folder)
        try:
            async with asyncio.timeout(_WAIT_S):
                await test(zygotes)
        finally:
            await zygotes.close()
        assert zygotes.pids() == []

    asyncio.run(main())
    assert os.listdir(folder) == []


async def passes(loaded: Ready) -> str:
    return ""


class Worker:
    """A worker, and its end."""

    def __init__(self, launch: Launch, run_dir: Path) -> None:
        self._changed = asyncio.Event()
        self.process = WorkerProcess(launch, run_dir, self._changed.set, passes)
        self.living = asyncio.create_task(self.process.run())

    async def ready(self) -> psutil.Process:
        while self.process.ready is None:
            await self._changed.wait()
            self._changed.clear()
            assert not self.process.ended, self.process.describe_end()
        assert self.process.pid
        return psutil.Process(self.process.pid)


def launch(zygotes: Zygotes, runtime: Path, artifact: str = "", box: Box | None = None) -> Launch:
    load = Load(str(runtime), artifact)
    return Launch("m", "1", Path(sys.executable), {"COLOUR": "blue"}, load, 60, 60, box=box, zygotes=zygotes)


def made(folder: Path, code: str) -> Path:
    (folder / "runtime.py").write_text(code)
    return folder


async def reported(launched: Launch, run_dir: Path) -> dict[str, Any]:
    worker = Worker(launched, run_dir)
    await worker.living
    assert worker.process.exit_code == 0, worker.process.describe_end()
    facts: dict[str, Any] = json.loads(worker.process.failure)
    return facts


@pytest.mark.parametrize("box", [None, Box()])
def test_a_copy_is_a_process_like_any_other(short: Path, tmp_path: Path, box: Box | None) -> None:
    runtime = made(tmp_path, REPORTING)
    if box is not None:
        box = box._replace(read=(str(runtime),))

    async def main(zygotes: Zygotes) -> None:
        copied = launch(zygotes, runtime, box=box)
        first, second = await asyncio.gather(reported(copied, short), reported(copied, short))
        program = await reported(replace(copied, zygotes=None), short)
        assert (first["copied"], second["copied"], program["copied"]) == (True, True, False)
        assert len(zygotes.pids()) == 1
        for each in (first, second, program):
            assert each["parent"] == os.getpid()
            assert each["pid"] == each["group"] == each["session"]
            assert each["temporary"] == each["environment"]["TMPDIR"]
            assert each["files"] == program["files"]
            assert {**each["environment"], "TMPDIR": "", "HOME": ""} == {
                **program["environment"], "TMPDIR": "", "HOME": ""
            }  # fmt: skip
        assert first["temporary"] != second["temporary"]
        assert (first["seeds"], second["seeds"], program["seeds"]) == (1, 1, 0)
        assert not set(first["draws"]) & set(second["draws"])

    run(short, main)


@pytest.mark.parametrize("age", ["oldest", "newest"])
def test_other_pythons_are_copied(short: Path, tmp_path: Path, age: str, numpy_python: Callable[[str], Path]) -> None:
    runtime, python = made(tmp_path, REPORTING), numpy_python(age)

    async def main(zygotes: Zygotes) -> None:
        other = replace(launch(zygotes, runtime, box=Box((str(runtime),))), python=python)
        first, second = await asyncio.gather(reported(other, short), reported(other, short))
        assert first["copied"]
        assert first["parent"] == os.getpid()
        assert not set(first["draws"]) & set(second["draws"])

    run(short, main)


def test_the_supervisor_learns_how_a_copy_ended(short: Path, tmp_path: Path) -> None:
    artifact = tmp_path / "m.fake.json"
    artifact.write_text("{}")

    async def main(zygotes: Zygotes) -> None:
        worker = Worker(launch(zygotes, FAKE, str(artifact)), short)
        os.kill((await worker.ready()).pid, signal.SIGSEGV)
        await worker.living
        assert worker.process.exit_code == -signal.SIGSEGV
        artifact.write_text('{"load_crash": true}')
        worker = Worker(launch(zygotes, FAKE, str(artifact)), short)
        await worker.living
        assert worker.process.exit_code == 1

    run(short, main)


def test_workers_outlive_the_process_that_they_are_copies_of(short: Path, tmp_path: Path) -> None:
    artifact = tmp_path / "m.fake.json"
    artifact.write_text("{}")

    async def main(zygotes: Zygotes) -> None:
        launched = launch(zygotes, FAKE, str(artifact))
        first = Worker(launched, short)
        process = await first.ready()
        zygote = psutil.Process(zygotes.pids()[0])
        zygote.kill()
        second, third = Worker(launched, short), Worker(launched, short)
        await second.ready()
        await third.ready()
        assert process.status() != psutil.STATUS_ZOMBIE
        for worker in (first, second, third):
            worker.process.stop()
            await worker.living
            assert worker.process.exit_code == 0
        assert zygote.pid not in zygotes.pids()

    run(short, main)


def test_a_worker_that_is_cancelled_while_it_is_copied_leaves_nothing(short: Path, tmp_path: Path) -> None:
    artifact = tmp_path / "m.fake.json"
    artifact.write_text("{}")

    async def main(zygotes: Zygotes) -> None:
        launched = launch(zygotes, FAKE, str(artifact))
        first = Worker(launched, short)
        process = await first.ready()  # it keeps the process with the framework
        for rounds in range(10):
            worker = Worker(launched, short)
            for _ in range(rounds):
                await asyncio.sleep(0)
            worker.living.cancel()
            await asyncio.gather(worker.living, return_exceptions=True)
        await zygotes.close()
        children = [each for each in psutil.Process().children() if each.pid != process.pid]
        # The exit status of one that has ended with the zygote may not have been fetched yet.
        running = [each for each in children if each.status() != psutil.STATUS_ZOMBIE]
        assert [each for each in running if "__main__.py" in " ".join(each.cmdline())] == []
        process.kill()
        await first.living

    run(short, main)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (
            "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()",
            "starts threads (1)",
        ),
        ("opened = open('/dev/full', 'w')", "/dev/full"),
        ("import mmap\nmapped = mmap.mmap(-1, 4096)", "/dev/zero (deleted)"),
        ("import colours", "No module named 'colours'"),
        ("import os\nos._exit(3)", "has ended"),
    ],
)
def test_what_cannot_be_copied_is_started_as_a_program(
    short: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, code: str, why: str
) -> None:
    """And fails as it would otherwise, if its import does."""
    runtime = made(
        tmp_path, code + "\n\nfrom runtimes.contract import LoadError\ndef load(options): raise LoadError('done')"
    )
    caplog.set_level(logging.INFO)

    async def main(zygotes: Zygotes) -> None:
        worker = Worker(launch(zygotes, runtime), short)
        await worker.living
        expected = {"has ended": "exit code 3", "No module named 'colours'": why}.get(why, "done")
        assert expected in worker.process.describe_end()
        assert zygotes.pids() == []

    run(short, main)
    lines = [record.getMessage() for record in caplog.records if "programs of their own" in record.getMessage()]
    assert len(lines) == 1
    assert why in lines[0]


@pytest.mark.parametrize("is_seen", [True, False], ids=["stopped", "hangs"])
def test_a_process_that_does_not_answer_is_replaced(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_seen: bool
) -> None:
    """One that was stopped is seen to be, and nobody waits for it any longer."""
    if is_seen:
        monkeypatch.setattr(zygote_module, "_FORK_S", 10 * _WAIT_S)
    else:
        monkeypatch.setattr(zygote_module, "_FORK_S", 0.2)
        monkeypatch.setattr(zygote_module, "is_stopped", lambda pid: False)
    runtime = made(tmp_path, REPORTING)

    async def main(zygotes: Zygotes) -> None:
        launched = launch(zygotes, runtime)
        first = await reported(launched, short)
        (stopped,) = zygotes.pids()
        os.kill(stopped, signal.SIGSTOP)
        assert not (await reported(launched, short))["copied"], "the worker does not wait for another one"
        monkeypatch.setattr(zygote_module, "_FORK_S", _WAIT_S)
        assert (await reported(launched, short))["copied"]
        assert stopped not in zygotes.pids()
        assert first["copied"]

    run(short, main)


def test_a_request_that_is_too_long_concerns_no_other_worker(short: Path, tmp_path: Path) -> None:
    runtime = made(tmp_path, REPORTING)

    async def main(zygotes: Zygotes) -> None:
        assert (await reported(launch(zygotes, runtime), short))["copied"]
        before = zygotes.pids()
        many = Box((str(runtime), *(f"/nowhere/{number:0100}" for number in range(900))))
        boxed = launch(zygotes, runtime, box=many)
        long = {"COLOUR": "blue" * 25_000, "SHADE": "dark" * 25_000}
        assert not (await reported(replace(boxed, environment=long), short))["copied"]
        assert (await reported(launch(zygotes, runtime), short))["copied"]
        assert before[0] in zygotes.pids()

    run(short, main)


def test_a_process_with_other_variables_takes_the_place_of_the_first(short: Path, tmp_path: Path) -> None:
    runtime = made(tmp_path, REPORTING)

    async def main(zygotes: Zygotes) -> None:
        blue = launch(zygotes, runtime)
        green = replace(blue, environment={"COLOUR": "green"})
        both = await asyncio.gather(reported(blue, short), reported(green, short))
        assert [each["copied"] for each in both] == [True, True], "the first is used by those that wait for it"
        assert [each["environment"]["COLOUR"] for each in both] == ["blue", "green"]
        for zygote in list(zygotes._zygotes.values())[:-1]:
            await zygote.wait()
        assert len(zygotes.pids()) == 1

    run(short, main)


def test_the_end_of_all_includes_those_that_are_about_to_start(short: Path, tmp_path: Path) -> None:
    runtime = made(tmp_path, REPORTING)

    async def main(zygotes: Zygotes) -> None:
        worker = Worker(launch(zygotes, runtime), short)
        for _ in range(1000):
            if zygotes._zygotes:
                break
            await asyncio.sleep(0)
        await zygotes.close()
        await worker.living

    run(short, main)


def test_a_worker_that_is_stopped_while_its_framework_is_imported_needs_no_import(short: Path, tmp_path: Path) -> None:
    never = tmp_path / "never"
    os.mkfifo(never)
    runtime = made(tmp_path, f"open({str(never)!r})\n" + REPORTING)

    async def main(zygotes: Zygotes) -> None:
        worker = Worker(launch(zygotes, runtime), short)
        while not zygotes.pids():  # noqa: ASYNC110 - a process that starts
            await asyncio.sleep(0.001)
        worker.process.stop()
        zygotes.end()
        await worker.living
        assert worker.process.exit_code is None, "no process was started for it"
        assert [each for each in psutil.Process().children() if "__main__.py" in " ".join(each.cmdline())] == []

    run(short, main)


def test_processes_without_workers_end_if_their_memory_is_needed(short: Path, tmp_path: Path) -> None:
    runtime = made(tmp_path, REPORTING)
    artifact = tmp_path / "m.fake.json"
    artifact.write_text("{}")

    async def main(zygotes: Zygotes) -> None:
        worker = Worker(launch(zygotes, FAKE, str(artifact)), short)
        await worker.ready()
        assert not zygotes.end_idle()
        assert (await reported(launch(zygotes, runtime), short))["copied"]
        before = zygotes.pids()
        assert zygotes.end_idle()
        assert not zygotes.end_idle()
        for zygote in zygotes._zygotes.values():
            if zygote.has_ended:
                await zygote.wait()
        assert len(before) == 2
        assert zygotes.pids() == before[:1]
        assert (await reported(launch(zygotes, runtime), short))["copied"]
        worker.process.stop()
        await worker.living

    run(short, main)


def test_without_workers_the_process_ends(short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zygote_module, "_IDLE_S", 0.0)
    runtime = made(tmp_path, REPORTING)

    async def main(zygotes: Zygotes) -> None:
        assert (await reported(launch(zygotes, runtime), short))["copied"]
        (zygote,) = zygotes._zygotes.values()
        await zygote.wait()
        assert (await reported(launch(zygotes, runtime), short))["copied"]

    run(short, main)


def test_without_support_of_the_system_nothing_is_copied(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zygotes_module, "become_subreaper", lambda: False)
    runtime = made(tmp_path, REPORTING)

    async def main(zygotes: Zygotes) -> None:
        assert not (await reported(launch(zygotes, runtime), short))["copied"]

    run(short, main)


def test_a_copy_reports_its_pid_itself(short: Path, tmp_path: Path) -> None:
    """So no copy that nobody knows takes a worker's LOAD, if the process that it is a copy of ends right then.

    The end of that process's group may end the copy too, before it has a group of its own. Then a program takes LOAD.
    """
    dies_after_its_second_fork = (
        "import os, signal\n"
        "ZYGOTE, forks = os.getpid(), []\n\n"
        "def on_fork():\n"
        "    forks.append(1)\n"
        "    if os.getpid() == ZYGOTE and len(forks) == 2:\n"  # the first fork ends the threads of libraries
        "        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)\n"  # the process between the two: the copy exists
        "        os.kill(ZYGOTE, signal.SIGKILL)\n\n"
        "os.register_at_fork(after_in_parent=on_fork)\n"
    )
    runtime = made(tmp_path, dies_after_its_second_fork + REPORTING)

    async def main(zygotes: Zygotes) -> None:
        worker = Worker(launch(zygotes, runtime), short)
        await worker.living
        facts = json.loads(worker.process.failure)
        assert (facts["parent"], worker.process.exit_code) == (os.getpid(), 0)
        assert [each for each in psutil.Process().children() if "__main__.py" in " ".join(each.cmdline())] == []

    run(short, main)
