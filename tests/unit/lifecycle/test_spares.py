"""Workers that are made in advance: real processes of the gateway's own interpreter."""

import asyncio
import logging
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from gateway.lifecycle import copy as copy_module
from gateway.lifecycle import spare as spare_module
from gateway.lifecycle.launch import Launch
from gateway.lifecycle.zygotes import Zygotes
from runtimes.sandbox.box import Box
from tests.unit.lifecycle.test_zygotes import REPORTING, Worker, launch, made, reported, run
from tests.unit.lifecycle.test_zygotes import short as short

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux copies workers")

# Loads the fake artifact of a test, or reports on its process.
BOTH = (
    REPORTING.replace("def load(", "def report(")
    + """
from runtimes.fake import runtime as fake

def load(options):
    return fake.load(options) if options.artifact else report(options)
"""
)
REHEARSED = """
import os

def rehearsal(folder):
    path = os.path.join(folder, "rehearsed.fake.json")
    open(path, "w").write("{}")
    print("from the rehearsal")
    return path
"""


def spare_of(zygotes: Zygotes) -> int | None:
    return next((pid for name, pid in zygotes.named().items() if name.endswith("-spare")), None)


async def until_spare(zygotes: Zygotes, before: int | None = None) -> int:
    while (found := spare_of(zygotes)) is None or found == before:  # noqa: ASYNC110 - a process that starts
        await asyncio.sleep(0.001)
    return found


async def ended(process: psutil.Process) -> None:
    while process.is_running():  # noqa: ASYNC110 - a process that ends
        await asyncio.sleep(0.001)


class Served:
    """A worker that is ready, after which a spare is made."""

    def __init__(self, zygotes: Zygotes, short: Path, tmp_path: Path, code: str, box: Box | None = None) -> None:
        runtime, artifact = made(tmp_path, code), tmp_path / "m.fake.json"
        artifact.write_text("{}")
        if box is not None:
            box = box._replace(read=(str(runtime), *box.read))
        self.reports: Launch = launch(zygotes, runtime, box=box)
        self.kept = replace(launch(zygotes, runtime, str(artifact), box), spare=True)
        self._short, self._workers = short, list[Worker]()

    async def start(self) -> None:
        self._workers.append(Worker(self.kept, self._short))
        await self._workers[-1].ready()

    async def stop(self) -> None:
        for worker in self._workers:
            worker.process.stop()
            await worker.living


@pytest.mark.parametrize("box", [None, Box(), Box(network=True)], ids=["open", "boxed", "network"])
def test_a_spare_becomes_a_worker_like_any_other(short: Path, tmp_path: Path, box: Box | None) -> None:
    async def main(zygotes: Zygotes) -> None:
        served = Served(zygotes, short, tmp_path, BOTH + REHEARSED, box)
        await served.start()
        spare = await until_spare(zygotes)
        first, second = await asyncio.gather(reported(served.reports, short), reported(served.reports, short))
        assert spare in (first["pid"], second["pid"])
        assert first["pid"] != second["pid"], "it is used once"
        program = await reported(replace(served.reports, zygotes=None), short)
        for each in (first, second):
            assert each["copied"]
            assert each["parent"] == os.getpid()
            assert each["pid"] == each["group"] == each["session"]
            assert each["temporary"] == each["environment"]["TMPDIR"]
            assert each["files"] == program["files"]
            assert each["seeds"] == 1
            assert {**each["environment"], "TMPDIR": "", "HOME": ""} == {
                **program["environment"], "TMPDIR": "", "HOME": ""
            }  # fmt: skip
        assert not set(first["draws"]) & set(second["draws"])
        assert spare_of(zygotes) is None, "another is made when a worker is ready"
        await served.start()
        assert await until_spare(zygotes) != spare
        await served.stop()

    run(short, main)


def test_models_that_are_always_loaded_have_no_spare(short: Path, tmp_path: Path) -> None:
    async def main(zygotes: Zygotes) -> None:
        served = Served(zygotes, short, tmp_path, BOTH)
        served.kept = replace(served.kept, spare=False)
        await served.start()
        (zygote,) = zygotes._zygotes.values()
        assert not zygote.spare._is_making
        assert spare_of(zygotes) is None
        await served.stop()

    run(short, main)


def test_a_spare_that_has_ended_is_replaced(short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare_module, "_REPLACE_S", 0.0)

    async def main(zygotes: Zygotes) -> None:
        served = Served(zygotes, short, tmp_path, BOTH)
        await served.start()
        spare = await until_spare(zygotes)
        os.kill(spare, signal.SIGKILL)
        other = await until_spare(zygotes, before=spare)
        os.kill(other, signal.SIGKILL)
        assert (await reported(served.reports, short))["copied"], "before its end is known"
        await served.stop()

    run(short, main)


def test_nobody_waits_for_a_spare_that_was_stopped(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_module, "_ORDER_S", 1000.0)  # of a copy that was just made

    async def main(zygotes: Zygotes) -> None:
        served = Served(zygotes, short, tmp_path, BOTH)
        await served.start()
        spare = psutil.Process(await until_spare(zygotes))
        spare.suspend()
        facts = await reported(served.reports, short)
        assert facts["copied"], "another copy takes its place"
        assert facts["pid"] != spare.pid
        await ended(spare)
        await served.stop()

    run(short, main)


def test_each_environment_of_a_runtime_has_a_spare_of_its_own(short: Path, tmp_path: Path) -> None:
    async def main(zygotes: Zygotes) -> None:
        served = Served(zygotes, short, tmp_path, BOTH)
        for name in ("plain", "plain-1a2b3c4d"):
            served.kept = replace(served.kept, runtime=name)
            await served.start()
            while name not in zygotes.spares():  # noqa: ASYNC110 - a process that starts
                await asyncio.sleep(0.001)
        found = zygotes.spares()
        assert set(found) == {"plain", "plain-1a2b3c4d"}
        assert len({pid for pids in found.values() for pid in pids}) == 2
        await served.stop()

    run(short, main)


def test_a_spare_ends_with_the_process_that_it_is_a_copy_of(short: Path, tmp_path: Path) -> None:
    async def main(zygotes: Zygotes) -> None:
        served = Served(zygotes, short, tmp_path, BOTH)
        await served.start()
        spare = psutil.Process(await until_spare(zygotes))
        os.kill(next(pid for pid in zygotes.pids() if pid != spare.pid), signal.SIGKILL)
        await ended(spare)
        assert (await reported(served.reports, short))["copied"]
        await served.stop()

    run(short, main)


@pytest.mark.parametrize("reason", ["pressure", "time"])
def test_a_spare_is_given_up(short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    if reason == "time":
        monkeypatch.setattr(spare_module, "IDLE_S", 0.2)

    async def main(zygotes: Zygotes) -> None:
        served = Served(zygotes, short, tmp_path, BOTH)
        await served.start()
        spare = psutil.Process(await until_spare(zygotes))
        if reason == "pressure":
            assert zygotes.end_idle()
            assert not zygotes.end_idle()
        await ended(spare)
        await served.start()
        (zygote,) = zygotes._zygotes.values()
        assert zygote.spare._is_making == (reason == "time"), "not while memory is short"
        await served.stop()

    run(short, main)


@pytest.mark.parametrize("is_begun", [False, True])
def test_a_spare_that_is_being_made_is_given_up_too(short: Path, tmp_path: Path, is_begun: bool) -> None:
    may_end = tmp_path / "may end"
    waits = f"\nimport signal\n\ndef rehearsal(folder):\n    os.path.exists({str(may_end)!r}) or signal.pause()"
    waits += "\n    path = folder + '/rehearsed.fake.json'\n    open(path, 'w').write('{}')\n    return path\n"

    async def main(zygotes: Zygotes) -> None:
        served = Served(zygotes, short, tmp_path, BOTH + waits)
        await served.start()
        (zygote,) = zygotes._zygotes.values()
        while is_begun and zygote.spare._making is None:  # noqa: ASYNC110 - a process that starts
            await asyncio.sleep(0.001)
        assert zygotes.end_spares()
        assert not zygotes.end_spares()  # otherwise, a load that exceeds the limit would not be ended meanwhile
        while zygote.spare._is_making:  # noqa: ASYNC110 - a process that ends
            await asyncio.sleep(0.001)
        assert spare_of(zygotes) is None
        zygotes._spares_from = 0.0
        may_end.touch()
        await served.start()
        await until_spare(zygotes)
        await served.stop()

    run(short, main)


def test_other_variables_have_a_spare_of_their_own(short: Path, tmp_path: Path) -> None:
    async def main(zygotes: Zygotes) -> None:
        served = Served(zygotes, short, tmp_path, BOTH)
        await served.start()
        spare = psutil.Process(await until_spare(zygotes))
        facts = await reported(replace(served.reports, environment={"COLOUR": "green"}), short)
        assert facts["copied"]
        assert facts["environment"]["COLOUR"] == "green"
        assert facts["pid"] != spare.pid
        await ended(spare)
        await served.stop()

    run(short, main)


@pytest.mark.parametrize(
    ("act", "why"),
    [("threading.Thread(target=threading.Event().wait).start()", "threads"), ("raise OSError('no room')", "no room")],
)
def test_what_cannot_be_rehearsed_has_no_spare(
    short: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, act: str, why: str
) -> None:
    caplog.set_level(logging.INFO)
    code = BOTH + f"import threading\n\ndef rehearsal(folder):\n    {act}\n    return fake.__file__\n"
    code += "\ndef load(options):\n    return fake.load(options._replace(artifact=ARTIFACT))"
    code = code.replace("ARTIFACT)", repr(str(tmp_path / "m.fake.json")) + ")")

    async def main(zygotes: Zygotes) -> None:
        served = Served(zygotes, short, tmp_path, code)
        await served.start()
        (zygote,) = zygotes._zygotes.values()
        while not zygote.spare._is_useless:  # noqa: ASYNC110 - a process that ends
            await asyncio.sleep(0.001)
        await served.start()
        assert not zygote.spare._is_making
        await served.stop()

    run(short, main)
    assert any(why in record.getMessage() for record in caplog.records)


def test_a_long_order_concerns_no_other_worker(short: Path, tmp_path: Path) -> None:
    async def main(zygotes: Zygotes) -> None:
        box = Box()
        served = Served(zygotes, short, tmp_path, BOTH, box)
        await served.start()
        spare = psutil.Process(await until_spare(zygotes))
        many = tuple(f"/nowhere/{number:0100}" for number in range(4000))
        long = replace(served.reports, box=box._replace(read=(*(served.reports.box or box).read, *many)))
        worker = Worker(long, short)
        await worker.living
        assert not spare.is_running()
        assert (await reported(served.reports, short))["copied"]
        await served.stop()

    run(short, main)
