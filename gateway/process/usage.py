"""What a process uses. On Linux it is read from /proc, because psutil would take half a MiB of memory."""

import os
import sys
from typing import NamedTuple


class Usage(NamedTuple):
    resident_bytes: int
    cpu_s: float
    descriptors: int


def usage(pid: int) -> Usage:
    """Raises OSError if the process has ended."""
    if sys.platform != "linux":
        return _by_psutil(pid)
    folder = f"/proc/{pid}"
    with open(f"{folder}/statm", "rb") as statm, open(f"{folder}/stat", "rb") as stat:
        pages = int(statm.read().split()[1])
        # The second field is a name in parentheses, which may contain spaces and parentheses.
        fields = stat.read().rpartition(b")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return Usage(pages * os.sysconf("SC_PAGE_SIZE"), ticks / os.sysconf("SC_CLK_TCK"), len(os.listdir(f"{folder}/fd")))


def _by_psutil(pid: int) -> Usage:
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            return Usage(process.memory_info().rss, times.user + times.system, process.num_fds())
    except psutil.Error as error:
        raise OSError(str(error)) from None
