"""Runs a program that may hang, and returns what it prints."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

# How often a program is looked at. One that works has usually ended before the first time.
_TICK_S = 0.1
# What a program may take in all, however busy the machine is: its disk may be one that never answers.
_MOST_S = 120.0


class Activity(NamedTuple):
    """What a process does. sleeps: whether it waits for something else than a processor or a disk."""

    sleeps: bool
    cpu_s: float


def output_of(command: Sequence[str], timeout_s: float) -> bytes:
    """Return what a program prints to standard output. Raises OSError, subprocess.SubprocessError.

    timeout_s: how long it may sleep and compute. While it waits for a processor or a disk, others are to blame, so that
    does not count where the system reports it (Linux)
    """
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    with process:
        try:
            output = _read(process, timeout_s)
        except BaseException:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # with what it has started, which would survive it
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return output


def _read(process: "subprocess.Popen[bytes]", timeout_s: float) -> bytes:
    started = before = time.monotonic()
    slept_s = 0.0
    while True:
        try:
            return process.communicate(timeout=_TICK_S)[0]
        except subprocess.TimeoutExpired:
            now, activity = time.monotonic(), activity_of(process.pid)
            slept_s += (now - before) * activity.sleeps
            before = now
            if slept_s + activity.cpu_s > timeout_s or now - started > max(timeout_s, _MOST_S):
                raise


def activity_of(pid: int) -> Activity:
    """Return what a process does. It counts as one that sleeps if the system does not report it."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return Activity(True, 0.0)
    # Of the process, and of its children that have ended: in user mode, and in the kernel.
    return Activity(state not in ("R", "D"), sum(map(int, fields[10:14])) / os.sysconf("SC_CLK_TCK"))
