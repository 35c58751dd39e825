"""How much memory processes take: their own pages, and their share of those that they have in common (PSS)."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Resident(NamedTuple):
    """In bytes.

    share  the process's own pages, and its share of others: over all processes, these add up
    peak   the most that this may have been since the process started
    """

    share: int
    peak: int


def resident(pid: int) -> Resident:
    """Return what a process takes; nothing if it has ended. Without smaps, shared pages do not count."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            kilobytes = _fields(file.read(), (b"Rss:", b"Pss:"))
        with open(f"/proc/{pid}/status", "rb") as file:
            peak = _fields(file.read(), (b"VmHWM:",))
    except OSError:
        return _private(pid)
    share, all_of_it = kilobytes[b"Pss:"], kilobytes[b"Rss:"]
    return Resident(share << 10, (share + max(0, peak.get(b"VmHWM:", 0) - all_of_it)) << 10)


def _fields(text: bytes, names: Iterable[bytes]) -> dict[bytes, int]:
    """Return the numbers of these lines, which are kilobytes."""
    found = {}
    for line in text.splitlines():
        for name in names:
            if line.startswith(name):
                found[name] = int(line.split()[1])
    return found


def _private(pid: int) -> Resident:
    from gateway.process.memory import private_bytes

    private = private_bytes(pid)
    return Resident(private, private)


def process_tree(root: int) -> list[int]:
    """Return the ids of a process and of all its descendants."""
    children: dict[int, list[int]] = {}
    proc = Path("/proc")
    if not (proc / "self/stat").exists():
        import psutil

        return [root, *(each.pid for each in psutil.Process(root).children(recursive=True))]
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            stat = (folder / "stat").read_bytes()
        except OSError:
            continue  # it has ended
        # The name, in brackets, may have spaces and brackets; the state and the parent follow it.
        parent = int(stat.rpartition(b")")[2].split()[1])
        children.setdefault(parent, []).append(int(folder.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found
