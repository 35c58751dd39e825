"""Loads models when they are wanted, within the memory limit: in order, and in place of those that are worth least.

    UNLOADED ──wanted──→ waits for its turn ──room──→ LOADING → READY ──others need the room──→ UNLOADED
                                    ↓                    ↓
                                 507                UNAVAILABLE, for a while

A model leaves memory without losing a request: it leaves the fronts' table, the fronts wait for the answers to what
they have sent, and new requests wait in the fronts and load it again. So "idle" need not be known exactly.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.domain import default_limits as default
from gateway.engine.metrics import DURATION_BUCKETS, Histogram
from gateway.errors import OutOfMemory
from gateway.lifecycle.eviction import Candidate, Known, Uses, choose, worths
from gateway.lifecycle.memory_use import LoadNeeds, MemoryUse, file_bytes, measure
from gateway.lifecycle.model_version import ModelVersion
from gateway.lifecycle.needs_file import NeedsFile
from gateway.lifecycle.policy import State, VersionKey
from gateway.process.cores import available_cores
from gateway.process.resident import Resident, resident

log = logging.getLogger("models")

# How often the memory of models that are being loaded is measured, and how often that of all processes. Measuring takes
# about a millisecond per process; less often, growth is noticed later.
_MEASURE_LOADING_S, _MEASURE_S = 0.1, 2.0
# While models are loaded, or wait for it, all processes are measured more often: after so many times as long as that
# takes, because what imports the framework grows too, and room must not be given away that others have taken.
_MEASURE_PAUSE = 20.0
# How often it is tried again to make room, while the models that might be unloaded are in use.
_RETRY_S = 0.02
# A load that has waited so long has models unloaded that are in use: they answer what they have begun, and what comes
# then waits in turn. A shorter time lets models take turns more often, each time at the cost of a load; a longer one
# lets a busy model keep others out for longer.
_PATIENCE_S = 1.0
# A model stays at least this long, or until it has answered a request, so that each load is of use to someone.
_MIN_STAY_S = 1.0
# A load that has waited so long for models in use is refused. Requests wait as long by default.
_MAX_WAIT_S = 60.0
# A model with streams is idle if none of them has taken a step for so long.
_IDLE_STREAMS_S = 60.0
# After a load has failed, requests are refused for this long, doubled with each failure in a row, up to the longest.
_BACK_OFF_S, _MAX_BACK_OFF_S = 1.0, 60.0
# How often what models need is written to disk, if it has changed. Less often, more of it is lost with the supervisor.
_SAVE_S = 60.0
# Models leave for a spare, and to have room for one more load in advance, unless that takes more than this part of what
# they have themselves. Where few fit, each of them is worth more than a quicker load of another.
_MAX_HEADROOM = 1 / 8
# What is kept free because processes grow between two measurements: so many bytes, but at most this part of the limit.
# With 16 MiB, benchmarks.many_models was up to 1.3 % above a limit of 500 MiB.
_MARGIN_BYTES, _MAX_MARGIN = 24 << 20, 1 / 20


@dataclass
class OnDemandCounts:
    """What has happened since the gateway started. cold_start_s: from the first request that waits until READY."""

    loads: int = 0
    failures: int = 0
    evictions: int = 0
    cold_start_s: Histogram = field(default_factory=lambda: Histogram(DURATION_BUCKETS))


@dataclass(eq=False)
class _Turn:
    """A load that waits for its turn.

    need      the bytes that it is expected to need
    files     the bytes of its artifact
    admitted  set when it may start, or fails with OutOfMemory
    """

    version: ModelVersion
    need: int
    files: int
    admitted: "asyncio.Future[None]"
    since: float = field(default_factory=time.monotonic)


class OnDemand:
    """Runs the versions that are loaded on demand. `run` must run meanwhile.

    limit     the bytes that all processes of the gateway may take; 0: any
    start     runs the workers of a version until they are stopped
    succeeds  returns whether a version replaces one that is loaded
    grace_s   how long an idle worker may wait for the fronts to disconnect from it
    end_idle  ends processes that have no workers, but would help to start some; returns whether there were any
    needs     where it is kept what models need; None: nowhere
    spares    returns the folder of a runtime → the process that waits to become its next worker
    end_spares  ends these processes, and has none made for a while; returns whether there were any
    """

    def __init__(
        self,
        limit: int,
        start: Callable[[ModelVersion], Awaitable[None]],
        succeeds: Callable[[ModelVersion], bool],
        changed: Callable[[], asyncio.Event],
        end_idle: Callable[[], bool] = lambda: False,
        grace_s: float = default.GRACE_S,
        needs: NeedsFile | None = None,
        spares: Callable[[], dict[Path, int]] = dict,
        end_spares: Callable[[], bool] = lambda: False,
    ) -> None:
        self.limit = limit
        self._target = limit - min(int(limit * _MAX_MARGIN), _MARGIN_BYTES)
        self.counts = OnDemandCounts()
        self.memory = MemoryUse()
        self._needs_file = needs if limit else None
        self.needs = LoadNeeds(self._needs_file.read() if self._needs_file is not None else None)
        self._saved: dict[VersionKey, int] = {}
        self._next_save = time.monotonic() + _SAVE_S
        self._start, self._succeeds, self._changed, self._end_idle = start, succeeds, changed, end_idle
        self._spares, self._end_spares = spares, end_spares
        self._spare_bytes: dict[Path, int] = {}
        self._uses: dict[tuple[str, str], Uses] = {}
        # By worker: the requests that it had begun when it was last looked at.
        self._begun: dict[VersionKey, dict[int, int]] = {}
        self._load_s: dict[tuple[str, str], float] = {}
        self._turns: list[_Turn] = []
        self._loading: set[ModelVersion] = set()
        self._loaded: dict[ModelVersion, float] = {}  # those with workers that are not leaving, and since when
        self._leaving: dict[ModelVersion, float] = {}  # and when it was last seen busy
        self._grace_s = grace_s
        self._kick = asyncio.Event()
        self._has_warned = False
        self._measured = self._measured_loading = 0.0
        self._pause_s = _MEASURE_LOADING_S

    @property
    def waiting(self) -> int:
        """How many models wait for their turn to be loaded."""
        return len(self._turns)

    # -- the life of a version -----------------------------------------------------------------------------------------

    async def serve(self, version: ModelVersion) -> None:
        """Load a version each time it is wanted, until it is unloaded for good."""
        failures = 0
        while not version.unloading:
            await version.wanted.wait()
            since = time.monotonic()
            version.begin_load()
            try:
                await self._turn(version)
                await self._run(version, since)
            except OutOfMemory as error:
                version.fail(str(error), error.kind)
            finally:
                self._forget(version)
            failures = failures + 1 if version.failed else 0
            if version.unloading:
                return
            if version.failed:
                self.counts.failures += 1
                await asyncio.sleep(min(_BACK_OFF_S * 2.0 ** (failures - 1), _MAX_BACK_OFF_S))
                while self._succeeds(version):  # the one before it answers; nobody needs this one
                    await self._changed().wait()
            version.is_successor = False
            version.end_load()

    async def _turn(self, version: ModelVersion) -> None:
        """Wait until a version may be loaded. Raises OutOfMemory."""
        files = 0
        if self.limit and version.config.artifact is not None and not self.needs.is_known(version.key):
            files = await asyncio.to_thread(file_bytes, version.config.artifact.path)
        need = self.needs.of(version.key, version.config, files) if self.limit else 0
        admitted = asyncio.get_running_loop().create_future()
        turn = _Turn(version, need, files, admitted)
        self._turns.append(turn)
        self._kick.set()
        try:
            await admitted
        finally:
            if turn in self._turns:
                self._turns.remove(turn)
            self._kick.set()

    async def _run(self, version: ModelVersion, since: float) -> None:
        running = asyncio.ensure_future(self._start(version))
        try:
            while version.state is State.LOADING and not running.done():
                await self._until_changed(running)
            self._loading.discard(version)
            if version.state is State.READY:
                self._loaded[version] = time.monotonic()
                self._note_duration(version)
                self.counts.loads += 1
                self.counts.cold_start_s.observe(time.monotonic() - since)
                if self.limit:
                    self._learn(version)
            else:
                self._leaving[version] = time.monotonic()  # its memory is in use until its workers have ended
                if version.failed:
                    version.stop()
            self._kick.set()
            await running
        finally:
            running.cancel()

    def _note_duration(self, version: ModelVersion) -> None:
        """Note how long it takes to load. The quickest load counts: the others had to wait for processors and disks."""
        if version.load_s is not None:
            key = version.key[:2]
            self._load_s[key] = min(self._load_s.get(key, version.load_s), version.load_s)

    async def _until_changed(self, running: "asyncio.Future[None]") -> None:
        changed = asyncio.create_task(self._changed().wait())
        waits: list[asyncio.Future[Any]] = [changed, running]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()

    def _learn(self, version: ModelVersion) -> None:
        # What is reserved stays so until it is measured together with all others: its first requests make it grow.
        needed = sum(each.peak for each in self._measure(version))
        self.needs.learn(version.key, version.config, needed, starts=True)

    def _forget(self, version: ModelVersion) -> None:
        self._loading.discard(version)
        self._leaving.pop(version, None)
        self._loaded.pop(version, None)
        self._begun.pop(version.key, None)
        self.memory.release(version.key)
        self._kick.set()

    # -- turns, and the room for them ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Give turns until cancelled."""
        while True:
            self._kick.clear()
            try:
                if self.limit:
                    await self._measure_if_due()
                    if time.monotonic() >= self._next_save:
                        await asyncio.to_thread(self.save)
                self._give_turns()
            except Exception:  # a bug; without further turns, nothing could be loaded any more
                log.exception("the memory of models could not be managed; it is tried again")
                await asyncio.sleep(_MEASURE_LOADING_S)
            timeout = _RETRY_S if self._turns else _MEASURE_LOADING_S if self._loading else _MEASURE_S
            try:
                async with asyncio.timeout(timeout if self.limit else None):
                    await self._kick.wait()
            except TimeoutError:
                pass

    def save(self) -> None:
        """Write what models need to disk, if it has changed."""
        self._next_save = time.monotonic() + _SAVE_S
        needs = self.needs.learned()
        changed = {key: size for key, size in needs.items() if self._saved.get(key) != size}
        if self._needs_file is None or not changed:
            return
        try:
            self._needs_file.write(changed)
        except OSError as error:
            log.warning("what models need cannot be kept for the next start: %s", error.strerror)
        self._saved = needs

    def _give_turns(self) -> None:
        while self._turns and len(self._loading) < available_cores():
            turn = self._turns[0]
            if self.limit and not self._has_room(turn):
                break
            self._turns.remove(turn)
            if not turn.admitted.done():
                self._loading.add(turn.version)
                if self.limit:
                    self.memory.reserved[turn.version.key] = turn.need
                turn.admitted.set_result(None)
        if self.limit:
            self._keep_within_limit()
            self._end_slow()

    def _end_slow(self) -> None:
        """Kill the workers that have nothing to do, but of which a front does not let go: it hangs, or was stopped."""
        now = time.monotonic()
        for version, busy in self._leaving.items():
            if version.decoupled or any(worker.use[1] for worker in version.workers):
                self._leaving[version] = now
            elif now - busy >= self._grace_s:
                log.warning("%s: a front did not disconnect in time; killing the worker", version.key)
                self._leaving[version] = now
                version.kill()

    def _has_room(self, turn: _Turn) -> bool:
        """Return whether a load may start. If not, make room, or refuse it."""
        missing = self.memory.total + turn.need - self._of_spare(turn.version) - self._target
        if missing <= 0:
            return True
        waited = time.monotonic() - turn.since
        self._make_room(missing, also_in_use=waited >= _PATIENCE_S)
        movable = sum(self.memory.of(each.key) for each in (*self._loaded, *self._leaving, *self._loading))
        # What is reserved for a model that has just been loaded, but not used, is soon free: wait for that.
        fixed = sum(self.memory.measured.get(each.key, 0) for each in self._loaded if not _is_evictable(each))
        if missing > movable - fixed and self._measured < turn.since:
            self._measured = 0.0  # measure again, before anything is refused
        elif missing > movable - fixed and self._end_idle():
            turn.since = time.monotonic()  # measure again, with what they took
        elif missing > movable - fixed:
            room = max(0, self._target - self.memory.total + movable - fixed)
            if turn.files < room // 2 and not self.needs.is_known(turn.version.key):
                turn.need = room  # perhaps it needs less than it seems; if not, it is ended
            else:
                self._refuse(turn, room)
        elif waited >= _MAX_WAIT_S:
            self._refuse(turn, max(0, self._target - self.memory.total))
        return False

    def _refuse(self, turn: _Turn, room: int) -> None:
        self._turns.remove(turn)
        if not turn.admitted.done():
            turn.admitted.set_exception(
                OutOfMemory(
                    f"it needs about {_about(turn.need)} of memory, and at most {_about(room)} of the gateway's limit "
                    f"of {_about(self.limit)} can be had for it; raise memory_limit, or serve fewer models"
                )
            )

    def _make_room(self, missing: int, also_in_use: bool = False) -> None:
        """Unload models that are worth least, until so many bytes will be free. There may be too few of them."""
        missing -= sum(self.memory.of(version.key) for version in self._leaving)
        if missing <= 0:
            return
        now, found = time.monotonic(), list[tuple[ModelVersion, Known]]()
        for version, since in self._loaded.items():
            uses = self._look(version, now)
            has_served = uses.last >= since or now - since >= _MIN_STAY_S
            if _is_evictable(version) and has_served and (self._is_idle(version, uses, now) or also_in_use):
                size = max(1, self.memory.of(version.key))
                found.append((version, Known(uses.count(now), self._load_s.get(version.key[:2], 1.0), size)))
        worth = worths([known for _, known in found])
        candidates = [Candidate(version, known.size, each) for (version, known), each in zip(found, worth, strict=True)]
        for victim in choose(candidates, missing):
            assert isinstance(victim.name, ModelVersion)
            self._evict(victim.name)

    def _evict(self, version: ModelVersion) -> None:
        log.info("%s is unloaded: others need its memory", version.key)
        self.counts.evictions += 1
        del self._loaded[version]
        self._leaving[version] = time.monotonic()
        self.needs.learn(version.key, version.config, sum(each.private for each in self._measure(version)))
        version.give_up_memory()

    def _is_idle(self, version: ModelVersion, uses: Uses, now: float) -> bool:
        if any(worker.use[1] for worker in version.workers):
            return False
        sequence = version.config.toml.sequence
        idle_s = sequence.idle_timeout_s if sequence else _IDLE_STREAMS_S if version.decoupled else 0.0
        return not idle_s or now - uses.last >= idle_s

    def _look(self, version: ModelVersion, now: float) -> Uses:
        """Return how often a model was used, until now."""
        uses = self._uses.setdefault(version.key[:2], Uses())
        before = self._begun.get(version.key, {})
        self._begun[version.key] = found = {worker.id: worker.use[0] for worker in version.workers}
        for worker, begun in found.items():
            if new := (begun - before.get(worker, 0)) & 0xFFFFFFFF:
                uses.add(new, now)
        return uses

    # -- measurement ---------------------------------------------------------------------------------------------------

    async def _measure_if_due(self) -> None:
        now = time.monotonic()
        if now - self._measured_loading >= _MEASURE_LOADING_S:
            self._measured_loading = now
            for version in self._loading:
                self._measure(version)
        if now - self._measured < (self._pause_s if self._turns or self._loading else _MEASURE_S):
            return
        before = self._worker_pids()
        found = await asyncio.to_thread(measure, os.getpid())
        after = self._worker_pids()
        self._spare_bytes = {folder: found[pid].private for folder, pid in self._spares().items() if pid in found}
        for key, pids in before.items():  # what has ended meanwhile takes no memory any more
            for pid in pids - after.get(key, set()):
                found.pop(pid, None)
        self.memory.take(found, after)
        self._measured = now
        self._pause_s = min(_MEASURE_S, max(_MEASURE_LOADING_S, _MEASURE_PAUSE * (time.monotonic() - now)))
        for version, since in self._loaded.items():
            self._look(version, now)
            self.needs.learn(version.key, version.config, self.memory.measured.get(version.key, 0))
            if now - since >= _MIN_STAY_S:
                self.memory.reserved.pop(version.key, None)

    def _worker_pids(self) -> dict[VersionKey, set[int]]:
        versions = (*self._loaded, *self._leaving, *self._loading)
        return {each.key: {worker.pid for worker in each.workers if worker.pid} for each in versions}

    def _measure(self, version: ModelVersion) -> list[Resident]:
        found = [resident(worker.pid) for worker in version.workers if worker.pid]
        self.memory.take_model(version.key, found)
        return found

    def _keep_within_limit(self) -> None:
        """Make room if models have grown, and in advance for one load. End a load that has no room to go on."""
        over = self.memory.total - self._target
        if over > 0:
            if not self._is_little(sum(self._spare_bytes.values())) and self._end_spares():
                self._spare_bytes, self._measured = {}, 0.0  # measure again, without what they took
                return
            self._make_room(over, also_in_use=True)
            movable = (*self._leaving, *(each for each in self._loaded if _is_evictable(each)))
            over -= sum(self.memory.of(version.key) for version in movable)
            if over > 0 and self._end_idle():
                self._measured = 0.0  # measure again, without what they took
                return
            self._warn(over)
            for version in sorted(self._loading, key=lambda each: -self.memory.of(each.key)):
                used, reserved = self.memory.measured.get(version.key, 0), self.memory.reserved.get(version.key, 0)
                if used > reserved and over > 0:
                    self._end_load(version, used)
                    over -= used
        elif self.counts.evictions and not self._turns:
            headroom = max((self.needs.of(each.key, each.config) for each in self._loaded), default=0)
            if self._is_little(headroom):
                self._make_room(headroom + over - min(map(self._of_spare, self._loaded), default=0))

    def _is_little(self, size: int) -> bool:
        return size <= _MAX_HEADROOM * sum(self.memory.of(each.key) for each in self._loaded)

    def _of_spare(self, version: ModelVersion) -> int:
        """Return the bytes of a load that are in use already, by the spare that becomes its worker.

        While another is being loaded, it may be its worker.
        """
        artifact = version.config.artifact
        return self._spare_bytes.get(artifact.runtime.folder, 0) if artifact is not None and not self._loading else 0

    def _warn(self, over: int) -> None:
        """Log, once, that the limit cannot be kept: models that are always loaded take too much."""
        if over > self.limit - self._target and not self._loading and not self._has_warned:
            self._has_warned = True
            log.warning(
                "all processes take %s, over the memory_limit of %s, and no model can be unloaded; raise the limit, or "
                "let more models be loaded on demand",
                _about(self.memory.total),
                _about(self.limit),
            )

    def _end_load(self, version: ModelVersion, used: int) -> None:
        self.needs.needs_more(version.key, used)
        reason = (
            f"it needed more than {_about(used)} of memory while it was loaded, and there was no more of the gateway's "
            f"limit of {_about(self.limit)}; raise memory_limit, or serve fewer models"
        )
        version.fail(reason, OutOfMemory.kind)
        version.stop()


def _is_evictable(version: ModelVersion) -> bool:
    """Whether a model may be unloaded at all: not if it is pinned, or keeps a state that would be lost."""
    toml = version.config.toml
    return not toml.pinned and not toml.stateful


def _about(size: int) -> str:
    return f"{-(-size // (1 << 20))} MiB"
