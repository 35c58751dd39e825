"""How much memory processes take: their own pages, and their share of those that they have in common (PSS)."""

import resource
from pathlib import Path
from typing import NamedTuple

_PAGE_BYTES = resource.getpagesize()


class Resident(NamedTuple):
    """In bytes.

    share    the process's own pages, and its share of others: over all processes, these add up
    private  its own pages, which become free when it ends
    peak     the most that `private` may have been since the process started
    all      its own pages, and all those that others have as well
    """

    share: int = 0
    private: int = 0
    peak: int = 0
    all: int = 0


def resident(pid: int) -> Resident:
    """Return what a process takes; nothing if it has ended. Without smaps, shared pages do not count."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            kilobytes = _fields(file.read())
        with open(f"/proc/{pid}/status", "rb") as file:
            peak = _fields(file.read()).get(b"VmHWM", 0)
    except OSError:
        return _private(pid)
    share, private = kilobytes[b"Pss"], kilobytes[b"Private_Clean"] + kilobytes[b"Private_Dirty"]
    every = kilobytes[b"Rss"]
    return Resident(share << 10, private << 10, (private + max(0, peak - every)) << 10, every << 10)


def _fields(text: bytes) -> dict[bytes, int]:
    """Return the kilobytes of each line that has some."""
    lines = (line.split() for line in text.splitlines() if line.endswith(b" kB"))
    return {line[0].rstrip(b":"): int(line[1]) for line in lines}


def _private(pid: int) -> Resident:
    private = anonymous_bytes(pid)
    return Resident(private, private, private, resident_bytes(pid))


def resident_bytes(pid: int) -> int:
    """Return what `Resident.all` would be; 0 if the process has ended. Takes a hundredth of the time of `resident`."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def private_bytes(pid: int) -> int:
    """Return the bytes of memory that only this process has, without files and shared memory; 0 if it has ended.

    A forked process has pages of the one that it was copied from. They are nobody's own until one of them writes there.
    """
    anonymous = anonymous_bytes(pid)
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            # This includes shared memory that no other process has touched yet; the other figure does not.
            return min(anonymous, _fields(file.read())[b"Private_Dirty"] << 10)
    except OSError:
        return anonymous


def anonymous_bytes(pid: int) -> int:
    """Return the resident bytes of a process without files and shared memory; 0 if it has ended.

    That is at least `private_bytes`, and takes a tenth of its time.
    """
    import psutil  # not needed in fronts, which import this package

    try:
        used = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0
    return int(used.rss - getattr(used, "shared", 0))


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
