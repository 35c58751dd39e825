"""The CPU priority of another process, all its threads: lowered only if it can be raised again."""

import contextlib
import os
import resource
from pathlib import Path

# The lowest priority: with it, a process gets about 1.5 % of a core that another one wants as well.
LOWEST = 19
_CAP_SYS_NICE = 23
# How often threads are listed: one that starts meanwhile has the value of the one that starts it, perhaps the old one.
_ROUNDS = 3


def own_nice() -> int:
    """Return the nice value of this process, which its workers start with."""
    return os.getpriority(os.PRIO_PROCESS, 0)


def is_reversible() -> bool:
    """Whether this process may raise priorities to its own: it has the capability for it, or its limit allows that."""
    allowed = resource.getrlimit(resource.RLIMIT_NICE)[0]
    # The limit is 20 minus the lowest number that it may set.
    if allowed == resource.RLIM_INFINITY or allowed >= 20 - own_nice():
        return True
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    found = next((line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), "0")
    return bool(int(found, 16) >> _CAP_SYS_NICE & 1)


def set_nice(pid: int, nice: int) -> bool:
    """Set the nice value of all threads of a process. Return whether that was possible; it may have ended."""
    done: set[str] = set()
    try:
        for _ in range(_ROUNDS):
            threads = set(os.listdir(f"/proc/{pid}/task")) - done
            for thread in threads:
                with contextlib.suppress(ProcessLookupError):  # only this thread has ended
                    os.setpriority(os.PRIO_PROCESS, int(thread), nice)
            done |= threads
    except OSError:
        return False
    return True
