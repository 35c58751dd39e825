"""Processes that have ended, whether or not their parent has read their exit status.

psutil waits until a process is gone from the table of processes. An orphan stays there as a zombie until process 1
reads its status, and in a container, process 1 may be a program that never does.
"""

import os
import select
from collections.abc import Iterable

import psutil


def wait_ended(processes: Iterable[psutil.Process | int], timeout: float | None = 60) -> list[psutil.Process]:
    """Wait until the processes, or those with these ids, have ended. Return those that run after `timeout` seconds."""
    found = []
    for each in processes:
        try:
            found.append(each if isinstance(each, psutil.Process) else psutil.Process(each))
        except psutil.NoSuchProcess:
            continue
    return [each for each in found if not _has_ended(each, timeout)]


def _has_ended(process: psutil.Process, timeout: float | None) -> bool:
    if not hasattr(os, "pidfd_open"):  # macOS, where process 1 reads each status
        return process not in psutil.wait_procs([process], timeout)[1]
    try:
        file = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        if not process.is_running():  # the id belongs to another process now
            return True
        poll = select.poll()
        poll.register(file, select.POLLIN)  # it is readable from the end of the process on, not from that of the zombie
        return bool(poll.poll(None if timeout is None else timeout * 1000))
    finally:
        os.close(file)
