"""How many cores this gateway may use, container limits counted."""

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup/cpu.max")


def available_cores(cgroup: Path = _CGROUP) -> int:
    """At least 1. `cgroup` holds "QUOTA PERIOD" in microseconds, or "max PERIOD" (cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = cgroup.read_text().split()
    except (OSError, ValueError):
        return cores
    if quota == "max":
        return cores
    return max(1, min(cores, int(quota) // int(period)))


def threads_per_instance(cores: int, instances: int) -> int:
    """So that all instances together do not oversubscribe the cores; a framework's own default takes all for each."""
    return max(1, cores // max(instances, 1))
