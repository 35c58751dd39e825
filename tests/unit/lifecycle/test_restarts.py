"""Delays before restarts, threads per instance, and attempts after files changed."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway.lifecycle import model_version as model_version_module
from gateway.lifecycle.model_version import ModelVersion, restart_delay_s
from gateway.lifecycle.policy import State, VersionKey
from gateway.process.cores import threads_per_instance
from gateway.repository.model_config import ModelConfig
from runtimes.control import Ready


def test_the_first_restart_has_no_delay_and_later_ones_back_off() -> None:
    delays = [restart_delay_s(crashes, was_ready=False) for crashes in range(1, 14)]
    assert delays[0] == 0
    assert delays == sorted(delays)
    assert delays[-1] == 60


def test_a_version_that_has_served_restarts_soon() -> None:
    assert max(restart_delay_s(crashes, was_ready=True) for crashes in range(1, 100)) == 2


@pytest.mark.parametrize(("cores", "instances", "threads"), [(8, 1, 8), (8, 3, 2), (2, 4, 1), (4, 0, 4)])
def test_instances_together_do_not_oversubscribe_the_cores(cores: int, instances: int, threads: int) -> None:
    assert threads_per_instance(cores, instances) == threads


class Worker:
    """A worker that is READY and then crashes, crashes while loading, or fails the check once it is READY."""

    audits = (0, 0)
    learned: dict[str, Any] = {}  # noqa: RUF012 - nothing is learned
    failure = ""
    ready: Ready | None = None
    pid: int | None = 1
    has_crashed = True

    def __init__(self, launch: Any, run_dir: Path, on_change: Any, check: Any, slot: int) -> None:
        self.is_ready, self.on_change, self.check = launch, on_change, check

    async def run(self) -> None:
        if self.is_ready:
            loaded = Ready({}, 0, 2, "trial", "batching is off")
            self.failure = await self.check(loaded)
            self.ready = None if self.failure else loaded
        self.on_change()

    def describe_end(self) -> str:
        return "it ended"


def keep(version: ModelVersion, launch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_version_module, "WorkerProcess", Worker)
    asyncio.run(asyncio.wait_for(version.run_instance(launch, Path()), 10))


def test_there_is_no_trial_after_a_crash_while_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    version = ModelVersion(VersionKey("m", "1", "print"), ModelConfig("m", "1", "print"), lambda: None)
    lives, tried = [False, True, True], []

    def launch() -> bool:
        tried.append(version.trial_allowed)
        if len(tried) == len(lives):
            version.stop()
        return lives[len(tried) - 1]

    keep(version, launch, monkeypatch)
    assert tried == [True, False, False]


def test_the_reason_says_when_the_next_attempt_is(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons: list[str] = []
    version: ModelVersion
    version = ModelVersion(
        VersionKey("m", "1", "print"), ModelConfig("m", "1", "print"), lambda: reasons.append(version.reason)
    )
    launched: list[bool] = []

    def launch() -> bool:
        launched.append(False)
        if len(launched) == 4:
            version.stop()
        return False

    keep(version, launch, monkeypatch)
    assert "it ended, 3 times while loading; the next attempt is in 0.1 s" in reasons


def test_files_that_changed_for_a_moment_are_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_version_module, "_OUTDATED_S", 0)
    states: list[tuple[State, bool]] = []
    version: ModelVersion
    config = ModelConfig("m", "1", "print")
    answers = iter([False, True, True])
    threads: set[threading.Thread] = set()

    def unchanged(self: ModelConfig) -> bool:
        threads.add(threading.current_thread())
        return next(answers)

    monkeypatch.setattr(ModelConfig, "unchanged", unchanged)
    version = ModelVersion(
        VersionKey("m", "1", "print"), config, lambda: states.append((version.state, version.outdated))
    )

    def launch() -> bool:
        if (State.READY, False) in states:
            version.stop()
        return True

    keep(version, launch, monkeypatch)
    assert (State.UNAVAILABLE, True) in states
    assert states.index((State.UNAVAILABLE, True)) < states.index((State.READY, False))
    assert threading.main_thread() not in threads  # a slow file system must not block the event loop


class LastingWorker(Worker):
    """A worker that is READY, and crashes when `ends` is set."""

    ends: asyncio.Event

    async def run(self) -> None:
        self.ends = asyncio.Event()
        await super().run()
        await self.ends.wait()
        self.pid = None
        self.on_change()


def test_a_version_is_restarting_from_its_workers_end_until_fronts_have_caught_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if it crashes again before they have: until then, no other version may take over."""
    monkeypatch.setattr(model_version_module, "WorkerProcess", LastingWorker)
    monkeypatch.setattr(model_version_module, "restart_delay_s", lambda crashes, was_ready: 0)
    version: ModelVersion
    changed, restarting = asyncio.Event(), list[bool]()

    def on_change() -> None:
        restarting.append(version.is_restarting)
        changed.set()

    async def worker(number: int) -> Any:
        while version.counts.starts < number or not version.workers or not version.workers[0].ready:
            await changed.wait()
            changed.clear()
        return version.workers[0]

    async def main() -> None:
        timers: list[Any] = []
        monkeypatch.setattr(
            asyncio.get_running_loop(), "call_later", lambda _, call, *arguments: timers.append((call, arguments))
        )
        running = asyncio.create_task(version.run_instance(lambda: True, Path()))  # type: ignore[arg-type,return-value]
        for number in (1, 2):
            ready = await worker(number)
            restarting.clear()
            ready.ends.set()
            await worker(number + 1)
            assert restarting
            assert all(restarting)
        *earlier, (last, given) = timers
        for call, arguments in earlier:
            call(*arguments)
        assert earlier
        assert version.is_restarting
        last(*given)
        assert not version.is_restarting
        version._stop.set()
        (await worker(3)).ends.set()
        await running

    version = ModelVersion(VersionKey("m", "1", "print"), ModelConfig("m", "1", "print"), on_change)
    asyncio.run(asyncio.wait_for(main(), 10))


@pytest.mark.parametrize("has_crashed", [True, False])
def test_a_worker_that_crashes_while_its_version_is_unloaded_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, has_crashed: bool
) -> None:
    version = ModelVersion(VersionKey("m", "1", "print"), ModelConfig("m", "1", "print"), lambda: None)

    def launch() -> bool:
        version.stop()
        return True

    monkeypatch.setattr(Worker, "has_crashed", has_crashed)
    keep(version, launch, monkeypatch)
    assert ("m version 1: it ended while it was being unloaded" in caplog.text) == has_crashed
