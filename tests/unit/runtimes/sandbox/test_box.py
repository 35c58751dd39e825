"""A box takes files and system calls away from a process, and leaves it what a model needs."""

import glob
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.engine.arena import Arena
from runtimes.sandbox import landlock, seccomp
from runtimes.sandbox.box import Box, Denials, seal
from tests.support import ROOT

boxed = pytest.mark.skipif(
    not landlock.version() or not seccomp.supports_filters(), reason="this kernel has no Landlock or no seccomp"
)

_SCRIPT = """
import ctypes, fcntl, json, os, runpy, socket, sys, threading
runpy.run_path(sys.argv[1])
from runtimes.sandbox.box import Box, confine, seal
box = Box.from_json(json.loads(sys.argv[2]))
os.environ["TMPDIR"] = box.write[0]
early = threading.Event(), []
confine(box)
waiting = threading.Thread(target=lambda: (early[0].wait(), early[1].append(outcome("socket.socket()"))))
waiting.start()
seal(box)

def outcome(what):
    try:
        eval(what, globals())
    except Exception as error:
        return type(error).__name__
    return "done"

outcomes = {what: outcome(what) for what in json.loads(sys.argv[3])}
early[0].set()
waiting.join()
print(json.dumps([outcomes, early[1]]), flush=True)
os._exit(0)
"""


def outcomes(box: Box, attempts: list[str], pass_fds: tuple[int, ...] = ()) -> tuple[dict[str, str], list[str]]:
    """Return what became of each expression in the box, and of a socket in a thread that was there before the seal."""
    bootstrap = str(ROOT / "runtimes" / "bootstrap.py")
    command = [sys.executable, "-I", "-c", _SCRIPT, bootstrap, json.dumps(box.to_json()), json.dumps(attempts)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/", pass_fds=pass_fds)
    assert done.returncode == 0, done.stderr
    found: tuple[dict[str, str], list[str]] = json.loads(done.stdout)
    return found


@boxed
def test_a_box_denies_what_leads_out_of_it_and_leaves_the_rest(tmp_path: Path) -> None:
    own, other, scratch = (tmp_path / name for name in ("own", "other", "scratch"))
    for folder in (own, other, scratch):
        folder.mkdir()
        (folder / "file").write_text("x")
    (own / "link").symlink_to(other / "file")
    denied = [
        "open('/etc/passwd')",
        "os.listdir('/etc')",
        "open('/proc/%d/cmdline' % os.getppid())",
        f"open({str(other / 'file')!r})",
        f"open({str(own / 'link')!r})",
        f"open({str(own / 'file')!r}, 'a')",
        f"open({str(other / 'new')!r}, 'w')",
        f"os.remove({str(own / 'file')!r})",
        f"os.rename({str(scratch / 'file')!r}, {str(own / 'new')!r})",
        f"os.truncate({str(own / 'file')!r}, 0)",
        f"os.chmod({str(own / 'file')!r}, 0)",
        f"os.utime({str(own / 'file')!r})",
        "socket.socket()",
        "socket.socket(socket.AF_UNIX)",
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "os.fork()",
        "os.execv('/bin/true', ['true'])",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "os.kill(os.getppid(), 0)",
        "os.kill(-1, 0)",
        "os.chroot('/')",
        # Datagrams reach any Unix socket without a call of `connect`.
        "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
        "socket.socketpair(socket.AF_UNIX, socket.SOCK_RAW)",
        # The kernel would signal the owner of a descriptor, by a signal of choice.
        "fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())",
        "fcntl.fcntl(0, 15, bytes(8))",
        "fcntl.fcntl(0, 10, 9)",
        "fcntl.ioctl(0, 0x8901, (0).to_bytes(4, sys.byteorder))",
        # Other processes would get less time.
        "os.sched_setaffinity(os.getppid(), {0})",
        "os.sched_setscheduler(os.getppid(), os.SCHED_IDLE, os.sched_param(0))",
        "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
        "os.setpriority(os.PRIO_USER, 0, 19)",
        f"fcntl.ioctl(os.open({str(own / 'file')!r}, os.O_RDONLY), 0x40086602, bytes(8))",  # chattr
        f"os.setxattr({str(own / 'file')!r}, 'user.x', b'1')",
    ]
    allowed = [
        f"open({str(own / 'file')!r}).read()",
        f"open({str(scratch / 'new')!r}, 'w').write('x')",
        f"os.rename({str(scratch / 'new')!r}, {str(scratch / 'renamed')!r})",
        "__import__('tempfile').TemporaryFile().write(b'x')",
        "__import__('numpy').ones(3) @ __import__('numpy').ones(3)",
        "threading.Thread(target=int).start()",
        "socket.socketpair()",
        "fcntl.fcntl(0, fcntl.F_GETFL)",
        "os.sched_setaffinity(0, os.sched_getaffinity(0))",
        "os.nice(1)",
        "os.kill(os.getpid(), 0)",
        "open('/dev/null', 'w').write('x')",
        "os.urandom(1)",
        "open('/proc/self/maps').read()",
    ]
    found, early = outcomes(Box(read=(str(own),), write=(str(scratch),)), denied + allowed)
    assert {what: found[what] for what in denied if found[what] != "PermissionError"} == {}
    assert {what: found[what] for what in allowed if found[what] != "done"} == {}
    assert early == ["PermissionError"], "a thread that was there before has no filter"
    assert (own / "file").read_text() == "x"


@boxed
def test_the_arena_of_a_front_cannot_be_written_to(tmp_path: Path) -> None:
    """Not even by opening its descriptor again, which Landlock allows."""
    arena = Arena(1 << 16)
    attempts = [f"os.open('/proc/self/fd/{arena.descriptor}', os.{mode})" for mode in ("O_RDONLY", "O_RDWR")]
    found, _ = outcomes(Box(write=(str(tmp_path),)), attempts, (arena.descriptor,))
    assert list(found.values()) == ["done", "PermissionError"]


@boxed
def test_the_network_is_open_only_if_the_box_says_so(tmp_path: Path) -> None:
    attempts = ["socket.create_server(('127.0.0.1', 0))", "socket.socket(socket.AF_UNIX)", "os.fork()"]
    found, _ = outcomes(Box(write=(str(tmp_path),), network=True), attempts)
    assert list(found.values()) == ["done", "PermissionError", "PermissionError"]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("options", [(False, False), (True, False), (False, True)])
def test_each_program_is_one_that_the_kernel_accepts(machine: str, options: tuple[bool, bool]) -> None:
    """Jumps lead to instructions that exist, and each path ends with a decision."""
    program = seccomp.program(machine, *options, reported=True, watched=True)
    assert len(program) < 4096
    for index, (code, then, otherwise, _) in enumerate(program):
        assert index + 1 + max(then, otherwise) < len(program) or code == 0x06
    assert program[-1][0] == 0x06


def decide(number: int, arguments: tuple[int, ...] = (), **options: Any) -> int:
    """Run the program as the kernel does, for a call on x86-64."""
    words = {0: number, 4: 0xC000003E, **{16 + 8 * index: value for index, value in enumerate(arguments)}}
    settings: dict[str, Any] = {"network": False, "gpu": False, "reported": False, **options}
    program, at, loaded = seccomp.program("x86_64", **settings), 0, 0
    while True:
        code, then, otherwise, value = program[at]
        if code == 0x06:
            return value
        if code == 0x20:
            loaded, at = words.get(value, 0), at + 1
            continue
        holds = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}[code]
        at += 1 + (then if holds else otherwise)


_ALLOWED, _DENIED, _MISSING, _REPORTED = 0x7FFF0000, 0x00050001, 0x00050026, 0x7FC00000


def test_calls_are_judged_by_their_arguments() -> None:
    thread = 0x3D0F00
    assert decide(0) == _ALLOWED  # read
    assert decide(56, (thread,)) == _ALLOWED  # clone, for a thread
    assert decide(56, (17,)) == _DENIED  # clone, for a process
    assert decide(435) == _MISSING  # clone3
    assert decide(41, (2, 1)) == _DENIED  # socket(AF_INET)
    assert decide(41, (2, 1), network=True) == _ALLOWED
    assert decide(41, (1, 1), network=True) == _DENIED  # socket(AF_UNIX)
    assert decide(41, (1, 5), gpu=True) == _ALLOWED
    assert decide(42, gpu=True) == _DENIED  # connect
    assert decide(59) == _DENIED
    assert decide(59, reported=True) == _REPORTED  # execve
    assert decide(0x40000000) == _MISSING  # a number of x32
    assert decide(41, (1, 2), gpu=True) == _DENIED  # socket(AF_UNIX, SOCK_DGRAM)
    assert decide(53, (30, 1)) == _DENIED  # socketpair(AF_TIPC)
    assert decide(69) == _DENIED  # msgsnd, to a queue that others have made
    assert decide(157, (1, 0)) == _DENIED  # prctl(PR_SET_PDEATHSIG)
    assert decide(157, (15,)) == _ALLOWED  # prctl(PR_SET_NAME)


def test_the_file_of_an_error_is_printed_and_so_is_the_one_that_it_came_from(
    capsys: pytest.CaptureFixture[str],
) -> None:
    denials = Denials()
    try:
        try:
            raise OSError("open </etc/passwd>: Permission denied")
        except OSError as error:
            raise ValueError("open <passwd>: Permission denied") from error
    except ValueError as error:
        denials.observe(error)
    denials.observe(ValueError("something else"))
    assert capsys.readouterr().out.splitlines() == [
        "the sandbox stopped the model: it tried to use a file that is not its own: "
        "open </etc/passwd>: Permission denied"
    ]
    for _ in range(100):
        denials.observe(OSError("Permission denied"))
    assert len(capsys.readouterr().out.splitlines()) < 30, "a client can fill the log"


def test_an_error_that_is_its_own_cause_is_looked_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    error = OSError("Permission denied")
    error.__cause__ = error
    Denials().observe(error)
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_no_folder_is_read_between_the_filter_and_its_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Opening one would wait for the supervisor, which has no report yet: a model on a card never loaded.
    steps = list[str]()
    receiver, sender = socket.socketpair()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    monkeypatch.setattr(seccomp, "supports_filters", lambda: True)
    monkeypatch.setattr(seccomp, "supports_reports", lambda: True)
    monkeypatch.setattr(seccomp, "install", lambda *_: (steps.append("install"), descriptor)[1])
    monkeypatch.setattr(glob, "glob", lambda pattern: (steps.append("glob"), [str(tmp_path / "card")])[1])
    with receiver:
        seal(Box(read=(), write=(str(tmp_path),), gpu=True, reports=sender.detach()))
        allowed, received, _, _ = socket.recv_fds(receiver, 1 << 16, 1)
    os.close(received[0])
    assert str(tmp_path / "card") in json.loads(allowed)
    assert steps[-1] == "install"
    assert "glob" in steps


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_copies_of_a_process_that_has_rehearsed_may_list_their_own_entries_of_proc() -> None:
    program = (
        "import os; from runtimes.sandbox import box; box.rehearse(); original = os.getpid(); child = os.fork()\n"
        "if child: os.waitpid(child, 0)\n"
        "else: has = box._allowed(box.Box()); print(*('/proc/%d' % each in has for each in (original, os.getpid())))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False True\n"
