"""The scheduling policy of the gRPC transport's thread while answers are handed over."""

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.front.grpc import io_thread
from gateway.front.grpc.io_thread import IoThread

NAME = "tests-io-thread"

if sys.platform != "linux":
    pytest.skip("other systems have no such policy", allow_module_level=True)


@pytest.fixture
def number() -> Iterator[int]:
    """The number of a thread of this name."""
    started, ends = threading.Event(), threading.Event()

    def work() -> None:
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(NAME)
        started.set()
        ends.wait()

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    assert thread.native_id is not None
    yield thread.native_id
    ends.set()
    thread.join()


def test_the_thread_does_not_preempt_within_the_context(number: int) -> None:
    thread = IoThread.find(NAME)
    assert thread.number == number
    for _ in range(2):
        with thread:
            assert os.sched_getscheduler(number) == os.SCHED_BATCH
        assert os.sched_getscheduler(number) == os.SCHED_OTHER


def test_another_policy_stays(number: int) -> None:
    os.sched_setscheduler(number, os.SCHED_IDLE, os.sched_param(0))
    with IoThread.find(NAME):
        assert os.sched_getscheduler(number) == os.SCHED_IDLE


def test_a_system_without_proc_makes_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io_thread, "_TASKS", tmp_path / "nothing")
    assert IoThread.find(NAME).number is None


def test_a_thread_that_ended_or_never_existed_makes_no_difference() -> None:
    thread = threading.Thread(target=str)
    thread.start()
    thread.join()
    while Path(f"/proc/self/task/{thread.native_id}").exists():  # join returns before the system's thread has ended
        os.sched_yield()
    for each in (IoThread(thread.native_id), IoThread.find(NAME), IoThread(None)):
        with each:
            pass
        assert each.number is None
