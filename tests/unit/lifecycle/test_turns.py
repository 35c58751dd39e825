"""Turns to load models, and the room for them, with workers and memory that are made up."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from gateway.environments.runtime import read_runtime
from gateway.lifecycle import models_in_memory, on_demand, room
from gateway.lifecycle.model_version import ModelVersion
from gateway.lifecycle.needs_file import NeedsFile
from gateway.lifecycle.on_demand import OnDemand
from gateway.lifecycle.policy import State, VersionKey
from gateway.process.resident import Resident
from gateway.repository.formats import Artifact
from gateway.repository.model_config import ModelConfig
from gateway.repository.model_toml import ModelToml
from tests.support import ROOT

_MIB = 1 << 20
_RUNTIME = read_runtime(ROOT / "runtimes" / "fake", "fake")
_IDS = itertools.count(1)


def run(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run_it(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run_it


class Worker:
    """begun, busy: what its status page says."""

    def __init__(self) -> None:
        self.id = self.pid = next(_IDS)
        self.ready: object = None
        self.begun, self.busy, self.load_s = 0, False, 0.01
        self.ended = asyncio.Event()
        self.audits = (0, 0)

    @property
    def use(self) -> tuple[int, bool]:
        return self.begun, self.busy

    def stop(self) -> None:
        if not self.busy:
            self.ended.set()

    def kill(self) -> None:
        self.ended.set()


class Machine:
    """Models by name, each with a worker that takes as many MiB as `sizes` says once it is loaded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limit_mib: int, tmp_path: Path, **sizes: int) -> None:
        self.sizes = sizes
        self.problems: dict[str, str] = {}
        self.held: set[str] = set()  # what does not get ready, although its worker has all its memory
        self.loads: list[str] = []
        self.changed = asyncio.Event()
        self.workers: dict[str, Worker] = {}
        self.others_mib = 0  # what processes take that serve no model
        self.spare_mib = self.idle_mib = self.ending_mib = 0
        self.spare_of = "fake"
        self.is_spare_coming = False
        self.starting_mib = self.importing_mib = 0
        self._ending_measured = 0
        self.measurements = 0
        self.ends_soon = True  # whether what is ended has no memory any more when it is measured for the third time
        self.manager = OnDemand(
            limit_mib * _MIB,
            self._start,
            lambda _: False,
            lambda: self.changed,
            needs=NeedsFile(tmp_path / "needs.json"),
            helpers=self,
        )
        self.room = self.manager.room
        self.versions = {name: self._version(name, tmp_path) for name in sizes}
        monkeypatch.setattr(room, "_MARGIN_BYTES", 0)
        monkeypatch.setattr(room, "_MEASURE_S", 0.01)
        monkeypatch.setattr(on_demand, "_PATIENCE_S", 0.1)
        monkeypatch.setattr(on_demand, "_BACK_OFF_S", 0.01)
        monkeypatch.setattr(room, "_MAX_HEADROOM", 0.0)
        monkeypatch.setattr(room, "measure", self._measure)
        monkeypatch.setattr(room, "resident", self._resident)
        monkeypatch.setattr(room, "resident_bytes", self._resident_bytes)
        self.room.target = limit_mib * _MIB
        self.room.needs._runtimes["fake"] = _MIB

    def _version(self, name: str, folder: Path) -> ModelVersion:
        artifact = Artifact(folder / name, _RUNTIME, "fake")
        toml = ModelToml(pinned=name.startswith("pinned"))
        config = ModelConfig(name, "1", "content", artifact, toml)
        return ModelVersion(VersionKey(name, "1", "content"), config, self._on_change, on_demand=True)

    def _on_change(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def _pids(self) -> list[int]:
        return [worker.pid for worker in self.workers.values()]

    def _resident(self, pid: int) -> Resident:
        name = next((name for name, worker in self.workers.items() if worker.pid == pid), "")
        size = {-1: self.spare_mib, -2: self.ending_mib, -3: self.starting_mib}.get(pid, self.sizes.get(name, 0)) * _MIB
        return Resident(size, size, size)

    def _resident_bytes(self, pid: int) -> int:
        return {0: self.others_mib + self.idle_mib, -4: self.importing_mib}.get(pid, 0) * _MIB

    def _measure(self, _: int) -> dict[int, Resident]:
        self.measurements += 1
        size, spare = (self.others_mib + self.idle_mib) * _MIB, self.spare_mib * _MIB
        others = Resident(size, 0, 0, size)
        found = {0: others, -1: Resident(spare, spare, spare), -2: self._resident(-2), -3: self._resident(-3)}
        self._ending_measured += self.ending_mib > 0
        if self._ending_measured > 2 and self.ends_soon:
            self.ending_mib = self._ending_measured = 0
        return found | {pid: self._resident(pid) for pid in self._pids()}

    def spares(self) -> dict[str, list[int]]:
        return {self.spare_of: [-1]} if self.spare_mib else {}

    def coming(self) -> dict[str, list[int]]:
        return {self.spare_of: [0]} if self.is_spare_coming else {}

    def importing(self) -> list[int]:
        return [-4] if self.importing_mib else []

    def starting(self) -> list[int]:
        return [-3] if self.starting_mib else []

    def end_spares(self) -> bool:
        had = self.spare_mib > 0
        self.ending_mib, self.spare_mib = self.ending_mib + self.spare_mib, 0
        return had

    def end_idle(self) -> bool:
        had = self.idle_mib > 0
        self.ending_mib, self.idle_mib = self.ending_mib + self.idle_mib, 0
        return self.end_spares() or had

    def ending(self) -> list[int]:
        return [-2] if self.ending_mib else []

    async def _start(self, version: ModelVersion) -> None:
        name = version.key.model
        self.loads.append(name)
        worker: Any = Worker()
        version.workers.append(worker)
        self.workers[name] = worker
        await asyncio.sleep(0)
        try:
            if problem := self.problems.get(name):
                version.fail(problem)
                return
            await self.until(lambda: name not in self.held or worker.ended.is_set())
            await self.room.admit(version)
            if version.failed or worker.ended.is_set():
                return
            worker.ready = True
            self._on_change()
            await worker.ended.wait()
        finally:
            version.workers.remove(worker)
            del self.workers[name]

    async def use(self, name: str) -> None:
        """Send a request, which loads the model if it must, and is answered."""
        version = self.versions[name]
        version.want()
        await self.until(lambda: version.state is not State.LOADING and not version.wanted.is_set())
        assert version.state is State.READY, (version.state, version.reason)
        self.workers[name].begun += 1
        await self.until(lambda: not self.room.models.loading)

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not is_so():  # noqa: ASYNC110 - time passes in what is tested
                await asyncio.sleep(0.001)

    async def settle(self) -> None:
        """Wait until what is measured now has been acted upon."""
        last = self.measurements + 2
        await self.until(lambda: self.measurements >= last)

    def loaded(self) -> set[str]:
        return {name for name, version in self.versions.items() if version.state is State.READY}


@asynccontextmanager
async def machine(
    monkeypatch: pytest.MonkeyPatch, limit_mib: int, tmp_path: Path, **sizes: int
) -> AsyncIterator[Machine]:
    found = Machine(monkeypatch, limit_mib, tmp_path, **sizes)
    tasks = [asyncio.create_task(found.manager.run())]
    tasks += [asyncio.create_task(found.manager.serve(version)) for version in found.versions.values()]
    try:
        yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@run
async def test_what_is_used_least_leaves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with machine(monkeypatch, 30, tmp_path, a=10, b=10, c=10, d=10) as found:
        for name in ("a", "b", "c", "a", "c"):
            await found.use(name)
        assert found.loaded() == {"a", "b", "c"}
        await found.use("d")
        assert found.loaded() == {"a", "c", "d"}
        assert (found.manager.counts.loads, found.room.evictions) == (4, 1)
        await found.use("b")  # d has been used once, as b; but now b has been used twice
        assert found.loaded() == {"a", "b", "c"}


@run
async def test_a_model_in_use_leaves_only_after_a_while_and_has_answered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with machine(monkeypatch, 10, tmp_path, a=10, b=10) as found:
        await found.use("a")
        worker = found.workers["a"]
        worker.busy = True
        found.versions["b"].want()
        await found.until(lambda: found.versions["a"].state is State.UNLOADED)  # it gets no new requests
        assert found.loads == ["a"]  # but has not ended
        worker.busy = False
        worker.stop()
        await found.until(lambda: found.loaded() == {"b"})


@run
async def test_models_that_do_not_fit_together_take_turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with machine(monkeypatch, 10, tmp_path, a=10, b=10) as found:
        await found.use("a")
        await found.use("b")
        for _ in range(10):
            await asyncio.gather(found.use("a"), found.use("b"))
        assert found.loads.count("a") >= 4  # one that is there is used, and makes room for the other
        assert found.loads.count("b") >= 4


@run
async def test_pinned_models_stay_and_what_does_not_fit_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with machine(monkeypatch, 30, tmp_path, pinned=20, a=10, large=20) as found:
        await found.use("large")  # nobody knows what it needs
        await found.use("pinned")
        assert found.loaded() == {"pinned"}
        await found.use("a")
        version = found.versions["large"]
        found.room.needs.learn(version.key, version.config, 20 * _MIB)
        version.want()
        await found.until(lambda: version.state is State.UNAVAILABLE)
        assert version.error_kind == "out_of_memory"
        assert "about 20 MiB of memory, and at most 10 MiB" in version.reason
        assert "pinned" in found.loaded()


@run
async def test_a_load_that_fails_is_tried_again_after_a_while(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with machine(monkeypatch, 0, tmp_path, a=1) as found:
        found.problems["a"] = "it is broken"
        version = found.versions["a"]
        version.want()
        await found.until(lambda: version.state is State.UNAVAILABLE)
        version.want()  # not now
        assert version.reason == "it is broken"
        await found.until(lambda: version.state is State.UNLOADED)
        assert version.reason == "the last attempt to load it failed: it is broken"
        assert found.loads == ["a"]
        found.problems.clear()
        await found.use("a")
        assert found.loaded() == {"a"}


@run
async def test_room_is_not_given_away_that_other_processes_have_taken_meanwhile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with machine(monkeypatch, 30, tmp_path, a=10, b=10) as found:
        monkeypatch.setattr(room, "_MEASURE_S", 1000.0)  # while nothing is loaded
        monkeypatch.setattr(room, "_MEASURE_LOADING_S", 0.0)
        monkeypatch.setattr(room, "_MEASURE_PAUSE", 0.0)
        await found.use("a")
        found.room._pause_s = 0.0
        found.others_mib = 20  # a framework was imported, to be copied
        await found.use("b")
        assert found.loaded() == {"b"}


@run
async def test_processes_that_only_wait_for_workers_end_before_a_load_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with machine(monkeypatch, 30, tmp_path, pinned=10, a=20, b=30) as found:
        monkeypatch.setattr(models_in_memory, "MIN_STAY_S", 0.0)
        for name, size in (("pinned", 10), ("a", 20), ("b", 30)):
            version = found.versions[name]
            found.room.needs.learn(version.key, version.config, size * _MIB)
        await found.use("pinned")
        found.idle_mib = 10
        await found.until(lambda: found.room.memory.base == 10 * _MIB)
        await found.use("a")
        assert (found.loaded(), found.idle_mib) == ({"a", "pinned"}, 0)
        found.versions["b"].want()
        await found.until(lambda: found.versions["b"].state is State.UNAVAILABLE)


@run
async def test_a_load_waits_for_what_was_reserved_for_another_one_and_is_not_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with machine(monkeypatch, 30, tmp_path, pinned=10, a=20) as found:
        monkeypatch.setattr(models_in_memory, "MIN_STAY_S", 0.1)
        needs, a = found.room.needs, found.versions["a"]
        needs.learn(a.key, a.config, 20 * _MIB)
        needs._runtimes["fake"] = 25 * _MIB  # the guess for a model that nobody knows
        await found.use("pinned")
        await found.use("a")
        assert found.loaded() == {"a", "pinned"}


@run
async def test_what_models_need_is_known_after_a_restart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with machine(monkeypatch, 30, tmp_path, a=25) as found:
        await found.use("a")
        found.manager.save()
    async with machine(monkeypatch, 30, tmp_path, a=8, b=1) as found:
        needs = found.room.needs
        a, b = (found.versions[name] for name in "ab")
        assert needs.of(a.key, a.config) == 25 * _MIB
        assert needs.of(b.key, b.config) == 1 * _MIB, "a model that was never loaded is guessed"
        await found.use("a")
        assert needs.of(a.key, a.config) == 8 * _MIB


@run
async def test_what_a_model_grew_to_before_a_restart_does_not_refuse_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with machine(monkeypatch, 100, tmp_path, a=80) as found:
        await found.use("a")
        found.manager.save()
    async with machine(monkeypatch, 50, tmp_path, a=20) as found:
        await found.use("a")
        assert found.loaded() == {"a"}


@run
async def test_what_a_load_needs_is_what_it_needed_the_last_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with machine(monkeypatch, 30, tmp_path, a=10, b=20) as found:
        version = found.versions["a"]
        found.room.needs.needs_more(version.key, 25 * _MIB)  # there was no room for more, and now there is
        assert found.room.needs.of(version.key, version.config) == 25 * _MIB
        await found.use("a")
        assert found.room.needs.of(version.key, version.config) == 10 * _MIB


@run
async def test_a_front_that_hangs_does_not_keep_the_memory_of_a_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with machine(monkeypatch, 10, tmp_path, a=10, b=10) as found:
        found.manager._grace_s = 0.05
        await found.use("a")
        worker = found.workers["a"]
        monkeypatch.setattr(worker, "stop", lambda: None)  # it waits for the front
        worker.busy = True
        found.versions["b"].want()
        await found.until(lambda: found.versions["a"].state is State.UNLOADED)
        asked = found.room.models.leaving[found.versions["a"]]
        await found.until(lambda: found.room.models.leaving[found.versions["a"]] >= asked + 0.1)
        assert not worker.ended.is_set()  # what it has begun is answered
        worker.busy = False
        await found.until(lambda: found.loaded() == {"b"})
        assert worker.ended.is_set()


@run
async def test_turns_go_on_after_an_unexpected_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with machine(monkeypatch, 30, tmp_path, a=10) as found:
        broken = []

        def measure(root: int) -> dict[int, Resident]:
            monkeypatch.setattr(room, "measure", found._measure)
            broken.append(root)
            raise KeyError("Pss")

        monkeypatch.setattr(room, "measure", measure)
        await found.until(lambda: bool(broken))
        await found.use("a")
        assert found.loaded() == {"a"}
    assert "KeyError: 'Pss'" in caplog.text


@run
async def test_what_was_loaded_between_two_measurements_answers_nothing_if_it_is_too_large(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with machine(monkeypatch, 30, tmp_path, a=40, b=20) as found:
        for often in ("_MEASURE_S", "_MEASURE_LOADING_S"):
            monkeypatch.setattr(room, often, 1000.0)
        version = found.versions["a"]
        seen = list[State]()
        monkeypatch.setattr(found, "_on_change", lambda: (seen.append(version.state), Machine._on_change(found)))
        version._on_change = found._on_change
        version.want()
        await found.until(lambda: version.state is State.UNAVAILABLE)
        assert version.error_kind == "out_of_memory"
        assert State.READY not in seen
        await found.use("b")


@run
async def test_what_was_loaded_between_two_measurements_makes_others_leave(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with machine(monkeypatch, 30, tmp_path, a=20, b=20) as found:
        for often in ("_MEASURE_S", "_MEASURE_LOADING_S"):
            monkeypatch.setattr(room, often, 1000.0)
        await found.use("a")
        await found.use("b")
        assert found.loaded() == {"b"}


@run
async def test_a_load_waits_for_what_was_ended_for_it_and_still_has_its_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with machine(monkeypatch, 30, tmp_path, a=26) as found:
        version = found.versions["a"]
        found.room.needs.learn(version.key, version.config, 26 * _MIB)
        found.idle_mib, found.ends_soon = 16, False
        await found.settle()
        version.want()
        await found.until(lambda: found.ending_mib == 16)
        await found.settle()
        assert (found.room.memory.total, found.loads) == (16 * _MIB, [])
        found.ends_soon = True
        await found.use("a")
        assert found.loaded() == {"a"}


@run
async def test_a_load_that_needs_more_than_expected_is_put_back_until_the_others_are_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with machine(monkeypatch, 30, tmp_path, a=16, b=16, c=1) as found:
        monkeypatch.setattr(on_demand, "available_cores", lambda: 2)
        found.held = {"a", "b"}
        a, b, c = (found.versions[name] for name in "abc")
        seen = list[State]()
        monkeypatch.setattr(found, "_on_change", lambda: (seen.append(b.state), Machine._on_change(found)))
        b._on_change = found._on_change
        a.want()  # 1 MiB is expected of each of them
        await found.until(lambda: "a" in found.workers)
        b.want()
        await found.until(lambda: "b" in found.workers)
        c.want()
        await found.until(lambda: "b" not in found.workers)
        assert (a.state, b.state, found.manager.waiting) == (State.LOADING, State.LOADING, 2)
        found.held.clear()
        for name in "abc":
            await found.use(name)
        assert found.loads == ["a", "b", "b", "c"]
        assert (found.manager.counts.failures, set(seen)) == (0, {State.LOADING, State.READY})


@run
async def test_a_load_that_was_put_back_and_does_not_fit_alone_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with machine(monkeypatch, 30, tmp_path, a=10, large=40) as found:
        monkeypatch.setattr(on_demand, "available_cores", lambda: 2)
        found.held = {"a"}
        a, large = found.versions.values()
        a.want()
        await found.until(lambda: "a" in found.workers)
        large.want()
        await found.until(lambda: found.loads == ["a", "large"] and "large" not in found.workers)
        await found.settle()
        assert (large.state, found.manager.waiting) == (State.LOADING, 1)
        found.held.clear()
        await found.until(lambda: large.state is State.UNAVAILABLE)
        assert large.error_kind == "out_of_memory"
        assert (found.loaded(), found.loads) == ({"a"}, ["a", "large"])


@run
async def test_nothing_leaves_for_a_load_that_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with machine(monkeypatch, 30, tmp_path, a=10, large=40) as found:
        large = found.versions["large"]
        found.room.needs.needs_more(large.key, 40 * _MIB)
        await found.use("a")
        await found.settle()
        large.want()
        await found.until(lambda: large.state is State.UNAVAILABLE)
        assert large.error_kind == "out_of_memory"
        assert (found.loaded(), found.loads, found.room.evictions) == ({"a"}, ["a"], 0)


@run
async def test_nothing_is_refused_for_what_was_measured_while_another_model_was_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with machine(monkeypatch, 30, tmp_path, a=1, b=10) as found:
        monkeypatch.setattr(on_demand, "available_cores", lambda: 2)
        b = found.versions["b"]
        found.room.needs.learn(b.key, b.config, 10 * _MIB)
        found.held = {"a"}
        found.versions["a"].want()
        await found.until(lambda: "a" in found.workers)
        found.others_mib = 25
        await found.settle()
        b.want()
        await found.settle()
        assert (b.state, found.manager.waiting) == (State.LOADING, 1)
        found.others_mib, found.held = 0, set()
        await found.use("b")
        assert found.manager.counts.failures == 0


@run
async def test_a_load_that_has_processes_ended_has_waited_as_long_as_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with machine(monkeypatch, 30, tmp_path, a=26) as found:
        version = found.versions["a"]
        found.room.needs.learn(version.key, version.config, 26 * _MIB)
        found.idle_mib, found.ends_soon = 16, False
        await found.settle()
        version.want()
        await found.until(lambda: bool(found.manager._turns))
        (turn,) = found.manager._turns
        since = turn.since
        await found.until(lambda: found.ending_mib == 16)
        assert turn.since == since
        assert turn.measured > since


@run
async def test_a_spare_counts_before_all_processes_are_measured_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with machine(monkeypatch, 30, tmp_path, a=10) as found:
        await found.use("a")
        await found.settle()
        monkeypatch.setattr(room, "_MEASURE_S", 1000.0)
        monkeypatch.setattr(room, "_MEASURE_LOADING_S", 0.0)
        found.spare_mib, before = 2, found.measurements
        await found.room.measure_if_due(is_waited_for=False)
        assert found.room.memory.total == 12 * _MIB
        assert found.measurements == before


@run
async def test_a_spare_that_is_being_made_counts_before_it_exists(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with machine(monkeypatch, 30, tmp_path, a=10) as found:
        found.spare_mib = 5
        await found.use("a")
        await found.settle()
        for often in ("_MEASURE_S", "_MEASURE_LOADING_S"):
            monkeypatch.setattr(room, often, 1000.0)
        found.spare_mib, found.is_spare_coming, before = 0, True, found.measurements
        await found.room.measure_if_due(is_waited_for=False)
        assert found.room.memory.total == 15 * _MIB
        assert found.room.missing(found.versions["a"], 30 * _MIB) == 15 * _MIB  # a load does not get it yet
        assert found.measurements == before


@run
async def test_what_processes_without_models_have_grown_by_counts_before_they_are_measured_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with machine(monkeypatch, 30, tmp_path, a=10) as found:
        found.others_mib = 5
        await found.use("a")
        await found.settle()
        monkeypatch.setattr(room, "_MEASURE_S", 1000.0)
        found.others_mib, found.importing_mib, before = 7, 3, found.measurements
        await found.room.measure_if_due(is_waited_for=False)
        assert found.room.memory.total == (5 + 2 + 3 + 10) * _MIB
        assert found.measurements == before


@run
async def test_what_is_becoming_a_worker_counts_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with machine(monkeypatch, 30, tmp_path, a=10) as found:
        await found.use("a")
        await found.settle()
        found.starting_mib = 8  # of a load, for which that is reserved
        await found.settle()
        assert found.room.memory.total == 10 * _MIB


@pytest.mark.parametrize(("environment", "saved_mib"), [("fake", 5), ("fake-1a2b3c4d", 0)])
@run
async def test_a_spare_is_part_of_loads_of_its_own_environment_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environment: str, saved_mib: int
) -> None:
    async with machine(monkeypatch, 30, tmp_path, a=10) as found:
        found.spare_of, found.spare_mib = environment, 5
        await found.settle()
        assert found.room.missing(found.versions["a"], 30 * _MIB) == (5 - saved_mib) * _MIB


@pytest.mark.parametrize(("spare", "leaves"), [(1, True), (2, False)])
@run
async def test_models_leave_for_a_spare_only_if_it_is_little(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spare: int, leaves: bool
) -> None:
    async with machine(monkeypatch, 30, tmp_path, a=10) as found:
        monkeypatch.setattr(room, "_MAX_HEADROOM", 1 / 8)
        found.others_mib = 20
        await found.use("a")
        await found.settle()
        found.spare_mib = spare
        await found.settle()
        assert found.loaded() == (set() if leaves else {"a"})
        assert found.spare_mib == (spare if leaves else 0)


@run
async def test_the_only_model_that_fits_does_not_leave_for_room_in_advance(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with machine(monkeypatch, 200, tmp_path, a=10, b=10) as found:
        monkeypatch.setattr(room, "_MAX_HEADROOM", 1 / 8)
        found.others_mib = 190
        await found.use("a")
        await found.use("b")
        await found.settle()
        await found.use("b")
        await found.settle()
        assert (found.loads, found.loaded()) == (["a", "b"], {"b"})
