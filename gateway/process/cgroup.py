"""Control groups (cgroup v2) for memory limits: one for each worker that has a limit, below the gateway's own.

This needs a subtree that has been delegated to the gateway: by systemd (`Delegate=yes`), or by a container with a
writable /sys/fs/cgroup. The kernel's documentation is https://docs.kernel.org/admin-guide/cgroup-v2.html.
"""

import contextlib
import os
from pathlib import Path

_OWN_GROUP = "modelport"  # for the gateway's own processes, because a group that has processes cannot have limited ones


class NotDelegated(Exception):
    """The message says why there can be no control groups; it completes "because …"."""


class MemoryGroups:
    """The gateway's subtree. Raises NotDelegated."""

    def __init__(self, mounts: Path = Path("/proc/self/mounts"), own: Path = Path("/proc/self/cgroup")) -> None:
        self._top = _own_folder(mounts, own)
        try:
            self._prepare()
        except OSError as error:
            raise NotDelegated(f"the gateway may not change its control group ({error.strerror})") from None

    def _prepare(self) -> None:
        if "memory" not in (self._top / "cgroup.controllers").read_text().split():
            raise NotDelegated("the gateway's control group has no memory controller")
        if not _is_delegated(self._top):
            raise NotDelegated("the gateway's control group has not been delegated to it")
        if (self._top / "cgroup.procs").read_text().split() != [str(os.getpid())]:
            raise NotDelegated("the gateway's control group has other processes")
        leaf = self._top / _OWN_GROUP
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text(str(os.getpid()))
        (self._top / "cgroup.subtree_control").write_text("+memory")

    def create(self, name: str, limit: int) -> "MemoryGroup":
        """Return a new group with this limit in bytes. Raises OSError."""
        return MemoryGroup(self._top / name, limit)


class MemoryGroup:
    """The group of one worker. events: the file in which the kernel counts what its limit has done."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self.events = folder / "memory.events"
        folder.mkdir()
        (folder / "memory.max").write_text(str(limit))
        for name, value in (("memory.swap.max", "0"), ("memory.oom.group", "1")):
            with contextlib.suppress(FileNotFoundError):  # a kernel without swap, or before 4.19
                if (folder / name).exists():
                    (folder / name).write_text(value)

    def add(self, pid: int) -> None:
        """Raises OSError."""
        (self._folder / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Delete the group, whose processes must have ended."""
        with contextlib.suppress(OSError):
            self._folder.rmdir()


def has_exceeded(events: str) -> bool:
    """Return whether the kernel has ended processes of the group with this file of events; False without one."""
    if not events:
        return False
    try:
        counts = dict(line.split() for line in Path(events).read_text().splitlines())
    except (OSError, ValueError):
        return False
    return int(counts.get("oom_kill", 0)) > 0


def _own_folder(mounts: Path, own: Path) -> Path:
    """Return the folder of this process's group."""
    try:
        points = [line.split()[1] for line in mounts.read_text().splitlines() if line.split()[2] == "cgroup2"]
        paths = [line[3:] for line in own.read_text().splitlines() if line.startswith("0::")]
    except OSError:
        raise NotDelegated("this system has no control groups") from None
    if not points or not paths:
        raise NotDelegated("this system has no control groups of version 2")
    return Path(points[0]) / paths[0].lstrip("/")


def _is_delegated(folder: Path) -> bool:
    """Return whether the group is for the gateway to divide: to root, every group is writable."""
    if os.geteuid():
        return os.access(folder / "cgroup.procs", os.W_OK) and os.access(folder / "cgroup.subtree_control", os.W_OK)
    if not (folder / "cgroup.type").exists():
        return False  # the root of all groups
    for attribute in ("trusted.delegate", "user.delegate"):  # systemd's marks
        with contextlib.suppress(OSError):
            if os.getxattr(folder, attribute) == b"1":
                return True
    # A container that sees its own group as the root. On the host, the root of all groups has no type.
    return Path("/proc/self/cgroup").read_text().strip() == "0::/"
