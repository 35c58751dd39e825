"""The memory that models on demand share: what all processes take, by measurement, and who leaves for others.

A model leaves without losing a request: it leaves the fronts' table, the fronts wait for the answers to what they have
sent, and new requests wait in the fronts and load it again. So "idle" need not be known exactly.
"""

import asyncio
import logging
import os
import time
from collections.abc import Mapping

from gateway.errors import OutOfMemory
from gateway.lifecycle.memory_use import LoadNeeds, MemoryUse, about, measure
from gateway.lifecycle.model_version import ModelVersion
from gateway.lifecycle.models_in_memory import MIN_STAY_S, ModelsInMemory, may_leave
from gateway.lifecycle.policy import State, VersionKey
from gateway.lifecycle.spare_memory import Helpers, SpareMemory
from gateway.process.resident import Resident, resident, resident_bytes

log = logging.getLogger("models")

# How often the memory of models that are being loaded is measured, and how often that of all processes. Measuring takes
# about a millisecond per process; less often, growth is noticed later.
_MEASURE_LOADING_S, _MEASURE_S = 0.1, 2.0
# While models are loaded, or wait for it, all processes are measured more often: after so many times as long as that
# takes, because what imports the framework grows too, and room must not be given away that others have taken.
_MEASURE_PAUSE = 20.0
# Models leave for a spare, and to have room for one more load in advance, unless that takes more than this part of what
# they have themselves. Where few fit, each of them is worth more than a quicker load of another.
_MAX_HEADROOM = 1 / 8
# What is kept free because processes grow between two measurements: so many bytes, but at most this part of the limit.
# With 16 MiB, benchmarks.many_models was up to 4.7 % above a limit of 512 MiB, at 20 loads a second.
_MARGIN_BYTES, _MAX_MARGIN = 24 << 20, 1 / 20


class Room:
    """models: those that share it. memory: what they have. needs: what they are expected to need.

    limit       the bytes that all processes of the gateway may take; 0: any
    target      what they are to take at most, so that there is a margin
    evictions   how many models have left for others
    put_back    the loads that have ended because others had the memory that they needed, and what they used: they need
                another turn
    remembered  what models needed before this gateway started
    helpers     processes that help to start workers; None: there are none
    """

    def __init__(
        self, limit: int, remembered: Mapping[VersionKey, int] | None = None, helpers: Helpers | None = None
    ) -> None:
        self.limit = limit
        self.target = limit - min(int(limit * _MAX_MARGIN), _MARGIN_BYTES)
        self.models = ModelsInMemory()
        self.memory = MemoryUse()
        self.needs = LoadNeeds(remembered)
        self.evictions = 0
        self.put_back: dict[VersionKey, int] = {}
        self._helpers = helpers
        self._spares = SpareMemory(helpers)
        self._has_warned = False
        self._measured = self._measured_loading = 0.0
        self._changing: set[ModelVersion | int] = set()  # while all processes were measured the last time
        self._pause_s = _MEASURE_LOADING_S

    # -- room for a load -----------------------------------------------------------------------------------------------

    def missing(self, version: ModelVersion, need: int) -> int:
        """Return how many bytes are missing to load a model that needs so many; 0 or less if it may be loaded."""
        return self.memory.total + need - self._of_spare(version) - self.target

    def obtainable(self) -> int:
        """Return the bytes of what may leave, is leaving, or is being loaded."""
        had = self.memory.ending + sum(self.memory.of(each.key) for each in self.models.all)
        # What is reserved for a model that has just been loaded, but not used, is soon free: wait for that.
        return had - sum(self.memory.measured.get(each.key, 0) for each in self.models.loaded if not may_leave(each))

    def most(self) -> int:
        """Return the bytes that a load could have if it were alone."""
        return max(0, self.target - self.memory.total + self.obtainable())

    def make(self, missing: int, also_in_use: bool = False) -> None:
        """Unload models that are worth least, until so many bytes will be free. There may be too few of them."""
        missing -= self.memory.ending + sum(self.memory.of(version.key) for version in self.models.leaving)
        if missing <= 0:
            return
        for version in self.models.worth_least(missing, lambda each: self.memory.of(each.key), also_in_use):
            log.info("%s is unloaded: others need its memory", version.key)
            self.evictions += 1
            self.models.leave(version)
            self.needs.learn(version.key, version.config, sum(each.private for each in self._measure(version)))
            version.give_up_memory()

    def reserve(self, version: ModelVersion, need: int) -> None:
        """A model is about to be loaded. need: the bytes that it is expected to need."""
        self.models.loading[version] = None
        if self.limit:
            self.memory.reserved[version.key] = need

    def forget(self, version: ModelVersion) -> None:
        """A model has no workers any more."""
        self.models.forget(version)
        self.memory.release(version.key)

    async def admit(self, version: ModelVersion) -> None:
        """Called when a worker has loaded its model, before it answers: end the load if there is no room for it.

        Since the last measurement, it may have taken more than anybody expected.
        """
        if not self.limit or version not in self.models.loading:
            return
        needed = sum(each.peak for each in self._measure(version))
        self.needs.learn(version.key, version.config, needed, starts=True)
        while self.memory.total > self.target and version in self.models.loading:
            await self._measure_all()
            if not self.keep():
                return

    # -- measurement ---------------------------------------------------------------------------------------------------

    @property
    def measured_again_in_s(self) -> float:
        """How often memory is to be measured, in seconds."""
        return _MEASURE_LOADING_S if self.models.loading else _MEASURE_S

    def is_certain(self, since: float) -> bool:
        """Return whether all processes were measured since then, while no model came or went. If not, they will be.

        What a process takes that becomes a worker, or a spare, counts twice for a moment, or for others.
        """
        if self._measured >= since and not self._changing:
            return True
        if not self._that_change():
            self._measured = 0.0
        return False

    async def measure_if_due(self, is_waited_for: bool) -> None:
        """is_waited_for: whether models wait for room."""
        now = time.monotonic()
        if self.memory.ending:
            self._take_ending({pid: resident(pid) for pid in self._ending()})
        if now - self._measured_loading >= _MEASURE_LOADING_S:
            self._measured_loading = now
            for version in self.models.loading:
                self._measure(version)
            self._spares.take({pid: resident(pid) for pid in self._spares.pids})
        self.memory.spares = self._spares.total
        self.memory.take_growth(resident_bytes, self._helpers.importing() if self._helpers is not None else ())
        if now - self._measured >= (self._pause_s if is_waited_for or self.models.loading else _MEASURE_S):
            await self._measure_all()

    async def _measure_all(self) -> None:
        now = time.monotonic()
        before, starting, changing = self._worker_pids(), self._starting(), self._that_change()
        found = await asyncio.to_thread(measure, os.getpid())
        after = self._worker_pids()
        for key, pids in before.items():
            for pid in pids - after.get(key, set()):  # they have ended
                found.pop(pid, None)
        self._spares.take(found)
        self.memory.spares = self._spares.total
        self._take_ending(found)
        starting = (starting | self._starting()).difference(*after.values())
        self.memory.take(found, after, self._spares.pids | self._ending(), starting)
        self._measured, self._changing = now, changing | self._that_change()
        self._pause_s = min(_MEASURE_S, max(_MEASURE_LOADING_S, _MEASURE_PAUSE * (time.monotonic() - now)))
        for version, since in self.models.loaded.items():
            self.models.look(version, now)
            self.needs.learn(version.key, version.config, self.memory.measured.get(version.key, 0))
            if now - since >= MIN_STAY_S:
                self.memory.reserved.pop(version.key, None)

    def _that_change(self) -> "set[ModelVersion | int]":
        """Return the models that come or go, and the helping processes that go."""
        return {*self.models.loading, *self.models.leaving, *self._ending()}

    def _starting(self) -> set[int]:
        return set(self._helpers.starting()) if self._helpers is not None else set()

    def _ending(self) -> set[int]:
        return set(self._helpers.ending()) if self._helpers is not None else set()

    def _take_ending(self, found: Mapping[int, Resident]) -> None:
        """Take over a measurement of what was ended to get its memory, by process id."""
        self.memory.ending = sum(found[pid].private for pid in self._ending() if pid in found)

    def _worker_pids(self) -> dict[VersionKey, set[int]]:
        return {each.key: {worker.pid for worker in each.workers if worker.pid} for each in self.models.all}

    def _measure(self, version: ModelVersion) -> list[Resident]:
        found = [resident(worker.pid) for worker in version.workers if worker.pid]
        self.memory.take_model(version.key, found)
        return found

    # -- the limit -----------------------------------------------------------------------------------------------------

    def keep(self, is_waited_for: bool = True) -> bool:
        """Keep within the limit: make room if models have grown, and end a load that has no room to go on.

        If no model waits for room, make room in advance for one load.

        Return whether processes were ended, so that memory is to be measured again before anything else happens.
        """
        over = self.memory.total - self.target
        if over > 0:
            if not self._is_little(self.memory.spares) and self._end_spares():
                self._measured = 0.0
                return True
            self.make(over, also_in_use=True)
            movable = (*self.models.leaving, *filter(may_leave, self.models.loaded))
            over -= self.memory.ending + sum(self.memory.of(version.key) for version in movable)
            if over > 0 and self.end_idle():
                self._measured = 0.0
                return True
            self._warn(over)
            self._end_loads(over)
        elif self.evictions and not is_waited_for:
            headroom = max((self.needs.of(each.key, each.config) for each in self.models.loaded), default=0)
            if self._is_little(headroom):
                runtimes = {each.config.artifact.runtime.name for each in self.models.loaded if each.config.artifact}
                self.make(headroom + over - min(map(self._spares.soon_of, runtimes), default=0))
        return False

    def _end_loads(self, over: int) -> None:
        """End loads that have taken more than was reserved for them, the newest first, while there is too little.

        One that could not have more if it were alone has failed. The others get another turn.
        """
        for version in reversed(list(self.models.loading)):
            used, reserved = self.memory.measured.get(version.key, 0), self.memory.reserved.get(version.key, 0)
            if over <= 0 or used <= reserved or version.state is not State.LOADING:
                continue
            over -= used
            self.needs.needs_more(version.key, used)
            if used > self.most() and self._changing <= {version} and self._that_change() <= {version}:
                reason = (
                    f"it needed more than {about(used)} of memory while it was loaded, and there was no more of the "
                    f"gateway's limit of {about(self.limit)}; raise memory_limit, or serve fewer models"
                )
                version.fail(reason, OutOfMemory.kind)
            else:
                log.info("%s needs more memory than was expected, which others have: it is loaded later", version.key)
                self.put_back[version.key] = used
            version.stop()
            self.models.leave(version)

    def _end_spares(self) -> bool:
        return self._helpers is not None and self._helpers.end_spares()

    def end_idle(self) -> bool:
        """End processes that have no workers, but would help to start some. Return whether there were any."""
        return self._helpers is not None and self._helpers.end_idle()

    def _is_little(self, size: int) -> bool:
        return size <= _MAX_HEADROOM * sum(self.memory.of(each.key) for each in self.models.loaded)

    def _of_spare(self, version: ModelVersion) -> int:
        """Return the bytes of a load that are in use already, by the spare that becomes its worker.

        While another is being loaded, it may be its worker.
        """
        artifact = version.config.artifact
        if artifact is None or self.models.loading:
            return 0
        return self._spares.of(artifact.runtime.name)

    def _warn(self, over: int) -> None:
        """Log, once, that the limit cannot be kept: models that are always loaded take too much."""
        if over > self.limit - self.target and not self.models.loading and not self._has_warned:
            self._has_warned = True
            log.warning(
                "all processes take %s, over the memory_limit of %s, and no model can be unloaded; raise the limit, or "
                "let more models be loaded on demand",
                about(self.memory.total),
                about(self.limit),
            )
