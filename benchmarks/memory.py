"""The memory, descriptors and threads of a process, and the roles of a gateway's processes. Linux only."""

import os
import re
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import Server

MIB = 1 << 20


@dataclass(frozen=True)
class Held:
    """Sizes in bytes. rss: all mapped pages; pss: shared pages divided by their number of users; uss: private pages."""

    rss: int
    pss: int
    uss: int
    descriptors: int
    threads: int


def held(pid: int) -> Held:
    """Return what the process holds. Raises OSError if it has ended."""
    fields = dict(re.findall(r"^(\w+): +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE))
    sizes = {name: int(kib) << 10 for name, kib in fields.items()}
    uss = sizes["Private_Clean"] + sizes["Private_Dirty"]
    descriptors, threads = (len(os.listdir(f"/proc/{pid}/{folder}")) for folder in ("fd", "task"))
    return Held(sizes["Rss"], sizes["Pss"], uss, descriptors, threads)


def processes(server: Server) -> dict[int, str]:
    """Return pid → name in the metrics ("supervisor", "front-1", "worker-MODEL-VERSION") for a gateway's processes."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.ports['http']}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    return {int(pid): name for pid, name in re.findall(r'_open_fds{pid="(\d+)",process="([^"]+)"', text)}


def pids(server: Server, kind: str) -> list[int]:
    """Return the pids of processes whose name begins with `kind`: "supervisor", "front-", "worker-"."""
    return [pid for pid, name in processes(server).items() if name.startswith(kind)]
