"""A front's box takes from a process what no front needs, and leaves it what one does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from runtimes.sandbox import landlock
from tests.support import ROOT

boxed = pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")

_SCRIPT = """
import json, mmap, os, socket, sys, tempfile, threading
from types import SimpleNamespace
from gateway.front import box

def outcome(what):
    try:
        eval(what, globals())
    except Exception as error:
        return type(error).__name__
    return "done"

box.enter(SimpleNamespace(**json.loads(sys.argv[1])))
found = {what: outcome(what) for what in json.loads(sys.argv[2])}
early = []
thread = threading.Thread(target=lambda: early.append(outcome("open('/outside', 'w')")))
thread.start()
thread.join()
print(json.dumps([found, early]), flush=True)
os._exit(0)
"""


def outcomes(attempts: list[str], **options: object) -> tuple[dict[str, str], list[str]]:
    """Return what became of each expression in the box, and of writing elsewhere in a thread."""
    given = {"sandbox": True, "shared_memory": False, **options}
    command = [sys.executable, "-c", _SCRIPT, json.dumps(given), json.dumps(attempts)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found: tuple[dict[str, str], list[str]] = json.loads(done.stdout)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("run", "other", "logs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    return tmp_path


@boxed
def test_a_front_writes_starts_and_signals_nothing_else(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        run, other, logs = (str(folder / name) for name in ("run", "other", "logs"))
        denied = [
            f"open({other + '/new'!r}, 'w')",
            f"open({other + '/file'!r}, 'a')",
            f"os.remove({other + '/file'!r})",
            f"os.rename({run + '/file'!r}, {other + '/moved'!r})",
            "os.execv('/bin/true', ['true'])",
            "open('/dev/shm/anything', 'w')",
            f"open({logs + '/file'!r}, 'a')",  # the supervisor opens the access log, beside which others may be
        ]
        allowed = [
            f"open({run + '/new'!r}, 'w')",
            f"os.rename({run + '/file'!r}, {run + '/renamed'!r})",
            f"open({other + '/file'!r}).read()",  # models and exports may be anywhere
            "open('/dev/null', 'w')",
            f"socket.create_connection(('127.0.0.1', {port}))",
            "socket.create_server(('127.0.0.1', 0))",
            f"socket.socket(socket.AF_UNIX).bind({run + '/socket'!r})",
            "socket.getaddrinfo('localhost', 80)",
            "os.fchmod(os.memfd_create('x'), 0o400)",
            "mmap.mmap(-1, 4096)",
            "threading.Thread(target=print).start()",
            "os.kill(os.getpid(), 0)",
        ]
        found, early = outcomes([*denied, *allowed], run_dir=run)
        signals = "os.kill(os.getppid(), 0)"
        signaled, _ = outcomes([signals], run_dir=run)
    assert signaled[signals] == ("PermissionError" if landlock.version() >= 6 else "done")
    assert {what: found[what] for what in denied} == dict.fromkeys(denied, "PermissionError")
    assert {what: found[what] for what in allowed} == dict.fromkeys(allowed, "done")
    assert early == ["PermissionError"]


@boxed
def test_shared_memory(folder: Path) -> None:
    region = Path("/dev/shm") / f"modelport-{os.getpid()}"
    try:
        region.touch()
    except OSError as error:
        pytest.skip(f"/dev/shm cannot be written: {error}")
    opens = f"os.close(os.open({str(region)!r}, os.O_RDWR))"
    try:
        found, _ = outcomes([opens], run_dir=str(folder / "run"), shared_memory=True)
    finally:
        region.unlink()
    assert found == {opens: "done"}


def test_the_setting_switches_it_off(folder: Path) -> None:
    writes = f"open({str(folder / 'other' / 'new')!r}, 'w')"
    found, _ = outcomes([writes], run_dir=str(folder / "run"), sandbox=False)
    assert found == {writes: "done"}
