"""Processes that another process has started for this one, which is their parent all the same. Linux only."""

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
# Process groups whose processes have been killed, but whose exit statuses may not have been fetched.
_killed: set[int] = set()


def become_subreaper() -> bool:
    """Become the parent of each process below this one whose own parent ends. Return whether the system can do that."""
    if not sys.platform.startswith("linux") or not hasattr(os, "pidfd_open"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))  # not before Linux 5.3, and some sandboxes forbid it
    except OSError:
        return False
    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def reap_orphans(group: int) -> None:
    """Fetch the exit statuses of a process group whose leader has ended, and which has been killed.

    A subreaper has to do that for the children of its children. Those that have not ended yet are looked for again when
    the next group has been killed.
    """
    _killed.add(group)
    for each in list(_killed):
        try:
            while os.waitpid(-each, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            _killed.discard(each)


def is_stopped(pid: int) -> bool:
    """Return whether a process was stopped by a signal or a debugger: it runs when another signal lets it go on."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False  # it has ended
    return stat.rpartition(b")")[2].split()[0] in (b"T", b"t")


class ForkedProcess:
    """A child of this process. The part of asyncio.subprocess.Process that Child uses.

    on_end: called when it has ended
    """

    def __init__(self, pid: int) -> None:
        """Raises OSError."""
        self.pid = pid
        self.returncode: int | None = None
        self.on_end: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._descriptor = os.pidfd_open(pid)
        self._loop.add_reader(self._descriptor, self._on_end)

    def _on_end(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        _, status = os.waitpid(self.pid, 0)
        self.returncode = os.waitstatus_to_exitcode(status)
        self._ended.set()
        self.on_end()

    async def wait(self) -> int:
        """Wait for the end and return the exit code, negative for a signal."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode
