"""The CPU priority of another process."""

import os
import resource
import subprocess
import sys

import pytest

from gateway.process.niceness import LOWEST, is_reversible, own_nice, set_nice


def test_all_threads_of_a_process_get_it() -> None:
    program = "import threading, sys; threading.Thread(target=sys.stdin.read).start(); print('on', flush=True)"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert set_nice(child.pid, LOWEST)
        threads = os.listdir(f"/proc/{child.pid}/task")
        assert len(threads) == 2
        assert {os.getpriority(os.PRIO_PROCESS, int(each)) for each in threads} == {LOWEST}
        assert set_nice(child.pid, own_nice()) is is_reversible()
        child.communicate()
    assert not set_nice(child.pid, LOWEST)


def test_threads_that_end_or_start_meanwhile_change_nothing_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = iter([["1", "2", "3"], ["1", "3", "4"], ["1", "3", "4"]])
    found: list[int] = []

    def set_priority(which: int, thread: int, value: int) -> None:
        if thread == 2:
            raise ProcessLookupError
        found.append(thread)

    monkeypatch.setattr(os, "listdir", lambda path: next(lists))
    monkeypatch.setattr(os, "setpriority", set_priority)
    assert set_nice(1, 0)
    assert sorted(found) == [1, 3, 4]


@pytest.mark.parametrize("limit", [resource.RLIM_INFINITY, 20, 40])
def test_a_limit_that_allows_it_is_enough(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    assert is_reversible()
