"""Determines how many cores the gateway may use, considering CPU affinity and the quotas of its control groups."""

import os
import re
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath

# How often quotas are read. They hardly ever change, and reading them takes as long as a part of a model's load.
_READ_S = 1.0
_OCTAL = re.compile(r"\\([0-7]{3})")


def available_cores(root: Path = Path("/")) -> int:
    """Return the number of cores, at least 1. Quotas are rounded down. `root` is the folder that contains proc."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *_quotas(root, int(time.monotonic() / _READ_S))]))


@lru_cache(maxsize=1)
def _quotas(root: Path, _: int) -> list[int]:
    return [int(quota) for folder in _groups(root) if (quota := _quota(folder)) is not None]


def threads_per_instance(cores: int, instances: int) -> int:
    """Return the threads for each instance so that together they do not oversubscribe the cores.

    Most frameworks use all cores for each process by default.
    """
    return max(1, cores // max(instances, 1))


def _quota(folder: Path) -> float | None:
    """Return the cores that the control group in this folder may use; None if it has no limit itself."""
    try:
        if (unified := folder / "cpu.max").exists():  # "QUOTA PERIOD" in microseconds, or "max PERIOD"
            quota, period = unified.read_text().split()
        else:  # version 1, where -1 means no limit
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of this process's control group and of its visible ancestors, whose limits apply too."""
    try:
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    paths = dict(_paths(groups))
    for line in mounts:
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.partition(" ")
        is_cpu = kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.rpartition(" ")[2].split(","))
        if not is_cpu or kind not in paths or len(fields.split()) < 5:
            continue
        mount_root, mount_point = (_unescape(field) for field in fields.split()[3:5])
        folder = root / mount_point.lstrip("/")
        yield folder
        # In a container with cgroup v1, the path is that of the host, and only the container's own group is mounted.
        try:
            inner = PurePosixPath(paths[kind]).relative_to(mount_root)
        except ValueError:
            continue
        for part in inner.parts:
            folder /= part
            yield folder


def _paths(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the kind of file system (cgroup2 or cgroup) and this process's group in it."""
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            yield "cgroup2", path
        elif "cpu" in controllers.split(","):
            yield "cgroup", path


def _unescape(field: str) -> str:
    """Decode a field of mountinfo, in which spaces and backslashes are octal escapes."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)
