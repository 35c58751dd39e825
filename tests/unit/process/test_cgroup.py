"""Control groups for memory limits, in folders that look like the kernel's: only in a subtree of the gateway's own."""

import os
from pathlib import Path

import pytest

from gateway.process.cgroup import MemoryGroups, NotDelegated, has_exceeded


class Machine:
    """A folder that looks like cgroup v2, in which the gateway is in /system.slice/modelport.service."""

    def __init__(self, tmp_path: Path) -> None:
        self.top = tmp_path / "cgroup" / "system.slice" / "modelport.service"
        self.top.mkdir(parents=True)
        self.mounts, self.own = tmp_path / "mounts", tmp_path / "own"
        self.mounts.write_text(f"proc /proc proc rw 0 0\ncgroup2 {tmp_path / 'cgroup'} cgroup2 rw 0 0\n")
        self.own.write_text("0::/system.slice/modelport.service\n")
        self.write("cgroup.controllers", "cpu memory pids\n")
        self.write("cgroup.procs", f"{os.getpid()}\n")
        self.write("cgroup.subtree_control", "")
        self.write("cgroup.type", "domain\n")

    def write(self, name: str, text: str) -> None:
        (self.top / name).write_text(text)

    def groups(self) -> MemoryGroups:
        return MemoryGroups(self.mounts, self.own)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return Machine(tmp_path)


def test_a_delegated_subtree_gets_a_group_for_each_worker(machine: Machine) -> None:
    groups = machine.groups()
    assert (machine.top / "modelport" / "cgroup.procs").read_text() == str(os.getpid())
    assert (machine.top / "cgroup.subtree_control").read_text() == "+memory"
    made = groups.create("worker-1", 1 << 30)
    made.add(77)
    folder = machine.top / "worker-1"
    assert (folder / "memory.max").read_text() == str(1 << 30)
    assert (folder / "cgroup.procs").read_text() == "77"
    for file in folder.iterdir():
        file.unlink()  # the kernel's files do not prevent rmdir
    made.remove()
    assert not folder.exists()


def test_the_files_that_a_kernel_has_are_set(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    groups, mkdir = machine.groups(), Path.mkdir

    def with_files(path: Path, *args: int, **options: bool) -> None:
        mkdir(path, *args, **options)
        (path / "memory.oom.group").write_text("0")

    monkeypatch.setattr(Path, "mkdir", with_files)
    groups.create("worker-2", 1)
    assert (machine.top / "worker-2" / "memory.oom.group").read_text() == "1"
    assert not (machine.top / "worker-2" / "memory.swap.max").exists()


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("cgroup.controllers", "cpu pids\n", "no memory controller"),
        ("cgroup.procs", f"{os.getpid()}\n4321\n", "other processes"),
    ],
    ids=["controllers", "procs"],
)
def test_other_groups_are_left_alone(machine: Machine, name: str, text: str, reason: str) -> None:
    machine.write(name, text)
    with pytest.raises(NotDelegated, match=reason):
        machine.groups()
    assert not (machine.top / "modelport").exists()


def test_root_may_write_everywhere_but_only_divides_what_is_delegated(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(NotDelegated, match="has not been delegated"):
        machine.groups()
    marks = {"user.delegate": b"1"}

    def getxattr(path: Path, name: str) -> bytes:
        if name not in marks:
            raise OSError
        return marks[name]

    monkeypatch.setattr(os, "getxattr", getxattr)
    machine.groups()
    (machine.top / "cgroup.type").unlink()  # the root of all groups has none
    with pytest.raises(NotDelegated, match="has not been delegated"):
        machine.groups()


def test_a_machine_without_version_2_says_so(machine: Machine) -> None:
    machine.own.write_text("4:memory:/system.slice\n")
    with pytest.raises(NotDelegated, match="no control groups of version 2"):
        machine.groups()
    machine.own.unlink()
    with pytest.raises(NotDelegated, match="no control groups"):
        machine.groups()


def test_what_the_kernel_has_ended_is_counted(tmp_path: Path) -> None:
    events = tmp_path / "memory.events"
    events.write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 0\n")
    assert not has_exceeded(str(events))
    events.write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\n")
    assert has_exceeded(str(events))
    assert not has_exceeded(str(tmp_path / "gone"))
    assert not has_exceeded("")
