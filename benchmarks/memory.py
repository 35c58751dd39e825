"""What a process holds: memory, descriptors, threads; and which process of a gateway is which. Linux only."""

import os
import re
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import Server

MIB = 1 << 20


@dataclass(frozen=True)
class Held:
    """Bytes. rss: all that is mapped; pss: shared pages divided by those who share them; uss: what is its alone."""

    rss: int
    pss: int
    uss: int
    descriptors: int
    threads: int


def held(pid: int) -> Held:
    """Raises OSError when the process has ended."""
    told = dict(re.findall(r"^(\w+): +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE))
    sizes = {name: int(kib) << 10 for name, kib in told.items()}
    uss = sizes["Private_Clean"] + sizes["Private_Dirty"]
    descriptors, threads = (len(os.listdir(f"/proc/{pid}/{folder}")) for folder in ("fd", "task"))
    return Held(sizes["Rss"], sizes["Pss"], uss, descriptors, threads)


def processes(server: Server) -> dict[int, str]:
    """pid → its name in the metrics: "supervisor", "front-1", "worker-MODEL-VERSION". Of a gateway only."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.ports['http']}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    return {int(pid): name for pid, name in re.findall(r'_open_fds{pid="(\d+)",process="([^"]+)"', text)}


def pids(server: Server, kind: str) -> list[int]:
    """Of those whose name begins with `kind`: "supervisor", "front-", "worker-"."""
    return [pid for pid, name in processes(server).items() if name.startswith(kind)]
