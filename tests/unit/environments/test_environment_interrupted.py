"""Builds that are interrupted, by cancellation and by SIGKILL to the gateway."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.environments.environment import build, locate

PATIENCE_S = 120

# Reports through a FIFO that it runs, keeps the FIFO open, and never ends. It runs in a process that pip starts, so
# the FIFO's end of file shows that this grandchild is dead too.
STUCK_BACKEND = """
import os, threading
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    descriptor = os.open({fifo!r}, os.O_WRONLY)
    os.write(descriptor, b"x")
    threading.Event().wait()
"""

WORKING_BACKEND = """
import shutil
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    shutil.copy({wheel!r}, wheel_directory)
    return {name!r}
"""

BUILD = """
import asyncio, sys
from pathlib import Path
from gateway.environments.environment import build, locate
from gateway.environments.runtime import Runtime
requirement, pythons, folder = sys.argv[1:]
runtime = Runtime("tiny", "Tiny", Path(folder), pythons, requirements={"cpu": (requirement,)})
asyncio.run(build(locate(runtime, "cpu", Path(folder) / "home"), print))
"""


@pytest.fixture
def stuck(tmp_path, wheel):
    """The requirement, the FIFO's reading end, and a function that repairs the package's build."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (source / "backend.py").write_text(STUCK_BACKEND.format(fifo=str(fifo)))
    descriptor = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)

    def repair() -> None:
        file = wheel("tiny")
        (source / "backend.py").write_text(WORKING_BACKEND.format(wheel=str(file), name=file.name))

    yield f"tiny @ {source.as_uri()}", descriptor, repair
    os.close(descriptor)


def read_when_ready(descriptor: int) -> bytes:
    readable, _, _ = select.select([descriptor], [], [], PATIENCE_S)
    assert readable, "nothing happened"
    return os.read(descriptor, 1)


def test_a_cancelled_build_ends_its_processes_and_goes_on_later(tmp_path, runtime, stuck):
    requirement, fifo, repair = stuck
    environment = locate(runtime(requirement), "cpu", tmp_path / "home")

    async def cancel_when_stuck() -> None:
        running = asyncio.Event()
        asyncio.get_running_loop().add_reader(fifo, running.set)
        building = asyncio.create_task(build(environment, lambda line: None))
        waiting = asyncio.create_task(running.wait())
        await asyncio.wait({building, waiting}, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_S)
        asyncio.get_running_loop().remove_reader(fifo)
        assert running.is_set()
        assert not building.done()
        building.cancel()
        with pytest.raises(asyncio.CancelledError):
            await building

    asyncio.run(cancel_when_stuck())

    assert read_when_ready(fifo) == b"x"
    assert read_when_ready(fifo) == b""
    assert not environment.ready
    repair()
    said: list[str] = []
    asyncio.run(build(environment, said.append))
    assert "creating the environment" not in said
    assert environment.ready


def test_a_cancel_while_pip_installs_leaves_nothing_that_looks_ready(tmp_path, wheel, runtime):
    wheel("tiny")
    environment = locate(runtime("tiny==1.0"), "cpu", tmp_path / "home")

    async def cancel_while_installing() -> None:
        def progress(line: str) -> None:
            if line.startswith("installing"):
                building.cancel()

        building = asyncio.create_task(build(environment, progress))
        with pytest.raises(asyncio.CancelledError):
            await building

    asyncio.run(cancel_while_installing())

    assert not environment.ready
    asyncio.run(build(environment, lambda line: None))
    assert environment.installed["tiny"] == "1.0"
    assert subprocess.check_output([environment.python, "-Ic", "import tiny; print(tiny.VERSION)"]) == b"1.0\n"


@pytest.mark.skipif(not sys.platform.startswith(("linux", "darwin")), reason="POSIX processes")
def test_a_killed_gateway_takes_pip_and_its_children_along(tmp_path, runtime, stuck):
    requirement, fifo, repair = stuck
    wanted = runtime(requirement)
    gateway = subprocess.Popen(
        [sys.executable, "-c", BUILD, requirement, wanted.pythons, str(tmp_path)],
        cwd=Path(__file__).parents[3],
    )
    try:
        assert read_when_ready(fifo) == b"x"
    finally:
        os.kill(gateway.pid, signal.SIGKILL)
        gateway.wait()

    assert read_when_ready(fifo) == b""
    environment = locate(wanted, "cpu", tmp_path / "home")
    assert environment.folder is not None
    assert environment.folder.exists()
    assert not environment.ready
    repair()
    asyncio.run(build(environment, lambda line: None))
    assert environment.ready
