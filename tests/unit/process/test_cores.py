"""The number of cores under control groups' quotas, with trees of files as systems have them."""

import os
from pathlib import Path

import pytest

from gateway.process.cores import available_cores

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V2_HYBRID = "42 32 0:39 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw"
V1 = "33 32 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:16 - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "34 32 0:30 / /sys/fs/cgroup/memory rw shared:17 - cgroup cgroup rw,memory"
V1_OWN = "90 80 0:29 /docker/0abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu"
SPACED = r"30 23 0:26 / /my\040groups rw - cgroup2 none rw"


@pytest.mark.parametrize(
    ("mounts", "groups", "files", "cores"),
    [
        # cgroup v2: a container sees its own group as the root
        ([V2], "0::/", {"sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
        ([V2], "0::/", {"sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        ([V2], "0::/", {"sys/fs/cgroup/cpu.max": "max 100000"}, 8),
        ([V2], "0::/", {}, 8),
        ([V2], "0::/", {"sys/fs/cgroup/cpu.max": "nonsense"}, 8),
        ([V2], "0::/", {"sys/fs/cgroup/cpu.max": "100000 0"}, 8),
        # a systemd unit with a quota, in a slice with a quota, or both
        ([V2], "0::/system.slice/m.service", {"sys/fs/cgroup/system.slice/m.service/cpu.max": "350000 100000"}, 3),
        ([V2], "0::/a.slice/m.service", {"sys/fs/cgroup/a.slice/cpu.max": "400000 100000"}, 4),
        (
            [V2],
            "0::/a.slice/a-b.slice/m.service",
            {
                "sys/fs/cgroup/a.slice/cpu.max": "600000 100000",
                "sys/fs/cgroup/a.slice/a-b.slice/cpu.max": "250000 50000",
                "sys/fs/cgroup/a.slice/a-b.slice/m.service/cpu.max": "max 100000",
                "sys/fs/cgroup/other.slice/cpu.max": "100000 100000",
            },
            5,
        ),
        ([SPACED], "0::/a", {"my groups/a/cpu.max": "300000 100000"}, 3),
        # cgroup v1: on the host, and in a container, where the path is that of the host
        (
            [V1_MEMORY, V1],
            "5:memory:/x\n4:cpu,cpuacct:/a/b\n1:name=systemd:/x",
            {
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "300000",
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/memory/x/cpu.max": "100000 100000",
            },
            3,
        ),
        (
            [V2_HYBRID, V1_OWN],
            "3:cpu:/docker/0abc\n0::/",
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            1,
        ),
        (
            [V1_OWN],
            "3:cpu:/docker/0abc/inner",
            {
                "sys/fs/cgroup/cpu/inner/cpu.cfs_quota_us": "200000",
                "sys/fs/cgroup/cpu/inner/cpu.cfs_period_us": "100000",
            },
            2,
        ),
        (
            [V1_OWN],
            "3:cpu:/kubepods/pod1",
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
            4,
        ),
        # neither
        ([], "", {}, 8),
        (["cut off"], "cut off", {}, 8),
    ],
)
def test_the_lowest_quota_of_all_groups_applies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounts: list[str], groups: str, files: dict[str, str], cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    for name, text in {"proc/self/mountinfo": "\n".join(mounts), "proc/self/cgroup": groups, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_cores(tmp_path) == cores


def test_without_control_groups_the_affinity_applies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    assert available_cores(tmp_path) == 3
