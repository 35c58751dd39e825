"""Loads models when they are wanted, within the memory limit: in order, and in place of those that are worth least.

                                ┌─others have the room─┐
                                ↓                      │
UNLOADED ──wanted──→ waits for its turn ──room──→ is loaded → READY ──others need the room──→ UNLOADED
                                ↓                      ↓
                               507          UNAVAILABLE, for a while
"""

import asyncio
import bisect
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.domain import default_limits as default
from gateway.engine.metrics import DURATION_BUCKETS, Histogram
from gateway.errors import OutOfMemory
from gateway.lifecycle.memory_use import about, file_bytes
from gateway.lifecycle.model_version import ModelVersion
from gateway.lifecycle.needs_file import NeedsFile
from gateway.lifecycle.policy import State, VersionKey
from gateway.lifecycle.room import Room
from gateway.lifecycle.spare_memory import Helpers
from gateway.process.cores import available_cores

log = logging.getLogger("models")

# How often it is tried again to make room, while the models that might be unloaded are in use.
_RETRY_S = 0.02
# How long after an unexpected error it is tried again.
_PAUSE_S = 0.1
# A load that has waited so long has models unloaded that are in use: they answer what they have begun, and what comes
# then waits in turn. A shorter time lets models take turns more often, each time at the cost of a load; a longer one
# lets a busy model keep others out for longer.
_PATIENCE_S = 1.0
# A load that has waited so long for models in use is refused. Requests wait as long by default.
_MAX_WAIT_S = 60.0
# After a load has failed, requests are refused for this long, doubled with each failure in a row, up to the longest.
_BACK_OFF_S, _MAX_BACK_OFF_S = 1.0, 60.0
# How much more than it used is reserved for a load that is put back because it used more than expected. A larger value
# has more models leave for it; with a smaller one, it is put back again more often.
_GROWTH = 1.5
# How often what models need is written to disk, if it has changed. Less often, more of it is lost with the supervisor.
_SAVE_S = 60.0


@dataclass
class OnDemandCounts:
    """What has happened since the gateway started. cold_start_s: from the first request that waits until READY."""

    loads: int = 0
    failures: int = 0
    cold_start_s: Histogram = field(default_factory=lambda: Histogram(DURATION_BUCKETS))


@dataclass(eq=False)
class _Turn:
    """A load that waits for its turn.

    wanted    since when requests wait for it: turns are in this order
    need      the bytes that it is expected to need
    least     the bytes without which it cannot be loaded, as far as that is known
    admitted  set when it may start, or fails with OutOfMemory
    since     when it began to wait
    measured  it is not refused because of what was measured before
    """

    version: ModelVersion
    wanted: float
    need: int
    least: int
    admitted: "asyncio.Future[None]"
    since: float = field(default_factory=time.monotonic)
    measured: float = 0.0

    def __post_init__(self) -> None:
        self.measured = self.since


class OnDemand:
    """Runs the versions that are loaded on demand. `run` must run meanwhile.

    limit     the bytes that all processes of the gateway may take; 0: any
    start     runs the workers of a version until they are stopped
    succeeds  returns whether a version replaces one that answers
    changed   returns what is set at the next change of any version
    grace_s   how long an idle worker may wait for the fronts to disconnect from it
    needs     where it is kept what models need; None: nowhere
    helpers   processes that help to start workers, and may be ended for their memory; None: there are none
    """

    def __init__(
        self,
        limit: int,
        start: Callable[[ModelVersion], Awaitable[None]],
        succeeds: Callable[[ModelVersion], bool],
        changed: Callable[[], asyncio.Event],
        grace_s: float = default.GRACE_S,
        needs: NeedsFile | None = None,
        helpers: Helpers | None = None,
    ) -> None:
        needs = needs if limit else None
        self.room = Room(limit, needs.read() if needs is not None else None, helpers)
        self.counts = OnDemandCounts()
        self._start, self._succeeds, self._changed, self._grace_s = start, succeeds, changed, grace_s
        self._needs_file = needs
        self._saved: dict[VersionKey, int] = {}
        self._next_save = time.monotonic() + _SAVE_S
        self._turns: list[_Turn] = []
        self._kick = asyncio.Event()

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
                await self._load(version, since)
            except OutOfMemory as error:
                version.fail(str(error), error.kind)
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

    async def _load(self, version: ModelVersion, since: float) -> None:
        """Wait until there is room for a version, and run it until it is unloaded. Raises OutOfMemory."""
        used = 0
        while True:
            try:
                await self._turn(version, since, used)
                await self._run(version, since)
            finally:
                used = self.room.put_back.pop(version.key, 0)
                self.room.forget(version)
                self._kick.set()
            if not used or version.failed or version.unloading:
                return
            version.begin_load()

    async def _turn(self, version: ModelVersion, wanted: float, used: int) -> None:
        """Wait until a version may be loaded. Raises OutOfMemory.

        used: the bytes that it had when it was put back; 0 if it was not
        """
        files, needs = 0, self.room.needs
        if self.room.limit and version.config.artifact is not None and not needs.is_known(version.key):
            files = await asyncio.to_thread(file_bytes, version.config.artifact.path)
        need = needs.of(version.key, version.config, files) if self.room.limit else 0
        need, least = max(need, int(used * _GROWTH)), used or needs.least(version.key)
        turn = _Turn(version, wanted, need, least, asyncio.get_running_loop().create_future())
        bisect.insort(self._turns, turn, key=lambda each: each.wanted)
        self._kick.set()
        try:
            await turn.admitted
        finally:
            if turn in self._turns:
                self._turns.remove(turn)
            self._kick.set()

    async def _run(self, version: ModelVersion, since: float) -> None:
        running = asyncio.ensure_future(self._start(version))
        try:
            while version.state is State.LOADING and not running.done():
                await self._until_changed(running)
            if version.state is State.READY:
                self.room.models.settle(version)
                self.counts.loads += 1
                self.counts.cold_start_s.observe(time.monotonic() - since)
            else:
                self.room.models.leave(version)
                if version.failed:
                    version.stop()
            self._kick.set()
            await running
        finally:
            running.cancel()

    async def _until_changed(self, running: "asyncio.Future[None]") -> None:
        changed = asyncio.create_task(self._changed().wait())
        waits: list[asyncio.Future[Any]] = [changed, running]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()

    # -- turns ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Give turns until cancelled."""
        limited = bool(self.room.limit)
        while True:
            self._kick.clear()
            try:
                if limited:
                    await self.room.measure_if_due(bool(self._turns))
                    if time.monotonic() >= self._next_save:
                        await asyncio.to_thread(self.save)
                self._give_turns()
                if limited:
                    self.room.keep(bool(self._turns))
                    self._end_slow()
            except Exception:  # a bug; without further turns, nothing could be loaded any more
                log.exception("the memory of models could not be managed; it is tried again")
                await asyncio.sleep(_PAUSE_S)
            timeout = _RETRY_S if self._turns else self.room.measured_again_in_s
            try:
                async with asyncio.timeout(timeout if limited else None):
                    await self._kick.wait()
            except TimeoutError:
                pass

    def save(self) -> None:
        """Write what models need to disk, if it has changed."""
        self._next_save = time.monotonic() + _SAVE_S
        needs = self.room.needs.learned()
        changed = {key: size for key, size in needs.items() if self._saved.get(key) != size}
        if self._needs_file is None or not changed:
            return
        try:
            self._needs_file.write(changed)
        except OSError as error:
            log.warning("what models need cannot be kept for the next start: %s", error.strerror)
        self._saved = needs

    def _give_turns(self) -> None:
        while self._turns and len(self.room.models.loading) < available_cores():
            turn = self._turns[0]
            if self.room.limit and not self._has_room(turn):
                break
            self._turns.remove(turn)
            if not turn.admitted.done():
                self.room.reserve(turn.version, turn.need)
                turn.admitted.set_result(None)

    def _end_slow(self) -> None:
        """Kill the workers that have nothing to do, but of which a front does not let go: it hangs, or was stopped."""
        now = time.monotonic()
        for version, busy in self.room.models.leaving.items():
            if version.decoupled or any(worker.use[1] for worker in version.workers):
                self.room.models.leaving[version] = now
            elif now - busy >= self._grace_s:
                log.warning("%s: a front did not disconnect in time; killing the worker", version.key)
                self.room.models.leaving[version] = now
                version.kill()

    def _has_room(self, turn: _Turn) -> bool:
        """Return whether a load may start. If not, make room, or refuse it."""
        room = self.room
        missing = room.missing(turn.version, turn.need)
        if missing <= 0:
            return True
        waited = time.monotonic() - turn.since
        most = room.most()
        if turn.need <= most:  # nothing leaves for a load that would be refused all the same
            room.make(missing, also_in_use=waited >= _PATIENCE_S)
        if waited >= _MAX_WAIT_S:
            self._refuse(turn, most if turn.need > most else max(0, room.target - room.memory.total))
        elif missing <= room.obtainable() or not room.is_certain(turn.measured):
            pass  # wait
        elif room.end_idle():
            turn.measured = time.monotonic()  # measure again, without them
        elif turn.least < most:
            turn.need = most  # perhaps it needs less than it seems; if not, it is ended
        else:
            self._refuse(turn, most)
        return False

    def _refuse(self, turn: _Turn, most: int) -> None:
        self._turns.remove(turn)
        if not turn.admitted.done():
            turn.admitted.set_exception(
                OutOfMemory(
                    f"it needs about {about(turn.need)} of memory, and at most {about(most)} of the gateway's limit of "
                    f"{about(self.room.limit)} can be had for it; raise memory_limit, or serve fewer models"
                )
            )
