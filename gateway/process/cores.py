"""How many cores this gateway may use, container limits counted."""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_OCTAL = re.compile(r"\\([0-7]{3})")


def available_cores(root: Path = Path("/")) -> int:
    """At least 1; of a quota, the whole cores. `root` is where proc and the cgroups are looked for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _groups(root) if (quota := _quota(folder)) is not None]
    return max(1, min([cores, *map(int, quotas)]))


def threads_per_instance(cores: int, instances: int) -> int:
    """So that all instances together do not oversubscribe the cores; a framework's own default takes all for each."""
    return max(1, cores // max(instances, 1))


def _quota(folder: Path) -> float | None:
    """The cores that the group of this folder may use; None where it has no limit of its own."""
    try:
        if (unified := folder / "cpu.max").exists():  # "QUOTA PERIOD" in microseconds, or "max PERIOD"
            quota, period = unified.read_text().split()
        else:  # version 1, where -1 is no limit
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _groups(root: Path) -> Iterator[Path]:
    """The folders of this process's group and of those above it that are seen: their limits hold too."""
    try:
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    paths = dict(_paths(groups))
    for line in mounts:
        fields, _, behind = line.partition(" - ")
        kind, _, options = behind.partition(" ")
        is_cpu = kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.rpartition(" ")[2].split(","))
        if not is_cpu or kind not in paths or len(fields.split()) < 5:
            continue
        mounted, point = (_unescaped(field) for field in fields.split()[3:5])
        folder = root / point.lstrip("/")
        yield folder
        # In a container of cgroup v1 the path is the host's, and what is mounted is our own group.
        try:
            inner = PurePosixPath(paths[kind]).relative_to(mounted)
        except ValueError:
            continue
        for part in inner.parts:
            folder /= part
            yield folder


def _paths(lines: list[str]) -> Iterator[tuple[str, str]]:
    """By the kind of file system, the group of this process."""
    for line in lines:
        _, _, named = line.partition(":")
        controllers, _, path = named.partition(":")
        if not controllers:
            yield "cgroup2", path
        elif "cpu" in controllers.split(","):
            yield "cgroup", path


def _unescaped(field: str) -> str:
    """Of mountinfo, which writes spaces and backslashes in octal."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)
