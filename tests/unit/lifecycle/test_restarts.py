"""Back-off and thread counts: the small numbers that decide how a machine fares."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway.lifecycle import served as served_module
from gateway.lifecycle.policy import State, Unit
from gateway.lifecycle.served import Served, restart_delay_s
from gateway.process.cores import threads_per_instance
from gateway.repository.scan import ModelConfig
from runtimes.control import Ready


def test_the_first_restart_is_at_once_and_the_next_ones_back_off() -> None:
    delays = [restart_delay_s(deaths, was_ready=False) for deaths in range(1, 14)]
    assert delays[0] == 0
    assert delays == sorted(delays)
    assert delays[-1] == 60


def test_what_has_served_comes_back_soon_since_requests_wait_for_it() -> None:
    assert max(restart_delay_s(deaths, was_ready=True) for deaths in range(1, 100)) == 2


@pytest.mark.parametrize(("cores", "instances", "threads"), [(8, 1, 8), (8, 3, 2), (2, 4, 1), (4, 0, 4)])
def test_instances_together_do_not_oversubscribe_the_cores(cores: int, instances: int, threads: int) -> None:
    assert threads_per_instance(cores, instances) == threads


class Worker:
    """One life of a worker: READY and then dead, dead while loading, or refused as soon as it is READY."""

    audits = (0, 0)
    learned: dict[str, Any] = {}  # noqa: RUF012 - nobody learns anything
    failure = ""
    ready: Ready | None = None

    def __init__(self, launch: Any, run_dir: Path, on_change: Any, check: Any) -> None:
        self.is_ready, self.on_change, self.check = launch, on_change, check

    async def run(self) -> None:
        if self.is_ready:
            loaded = Ready({}, 0, 2, "trial", "batching is off")
            self.failure = await self.check(loaded)
            self.ready = None if self.failure else loaded
        self.on_change()

    def describe_end(self) -> str:
        return "it ended"


def keep(served: Served, launch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_module, "WorkerProcess", Worker)
    asyncio.run(asyncio.wait_for(served.keep(launch, Path()), 10))


def test_what_has_died_while_it_was_tried_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(Unit("m", "1", "print"), ModelConfig("m", "1", "print"), lambda: None)
    lives, tried = [False, True, True], []

    def launch() -> bool:
        tried.append(served.may_be_tried)
        if len(tried) == len(lives):
            served.stop()
        return lives[len(tried) - 1]

    keep(served, launch, monkeypatch)
    assert tried == [True, False, False]


def test_files_that_were_out_of_sight_for_a_moment_are_loaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_module, "_OUTDATED_S", 0)
    states: list[tuple[State, bool]] = []
    served: Served
    config = ModelConfig("m", "1", "print")
    answers = iter([False, True, True])
    threads: set[threading.Thread] = set()

    def unchanged(self: ModelConfig) -> bool:
        threads.add(threading.current_thread())
        return next(answers)

    monkeypatch.setattr(ModelConfig, "unchanged", unchanged)
    served = Served(Unit("m", "1", "print"), config, lambda: states.append((served.state, served.outdated)))

    def launch() -> bool:
        if (State.READY, False) in states:
            served.stop()
        return True

    keep(served, launch, monkeypatch)
    assert (State.UNAVAILABLE, True) in states
    assert states.index((State.UNAVAILABLE, True)) < states.index((State.READY, False))
    assert threading.main_thread() not in threads  # a slow file system must not hold up the event loop
