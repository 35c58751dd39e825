"""One version of a model that is served: its state, its workers, and their restarts."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.domain.table import TableEntry
from gateway.domain.types import ModelStatus
from gateway.lifecycle.launch import Launch
from gateway.lifecycle.policy import State, VersionKey
from gateway.lifecycle.version import Version, WorkerCounts
from gateway.lifecycle.worker_process import WorkerProcess
from gateway.repository.image_config import incompatibility
from gateway.repository.model_config import ModelConfig
from gateway.repository.model_toml import ModelToml
from runtimes.contract import Signature
from runtimes.control import BatchingOff, Ready

log = logging.getLogger("models")

# Crashes within this time increase the delay before the next restart. A shorter time lets a worker that crashes about
# once a minute restart without a delay each time; a longer one makes unrelated crashes add up.
_RECENT_CRASHES_S = 60.0
# Delay before another attempt if the files changed while they were loaded. Shorter delays read large files again and
# again while they are copied; longer ones keep a model UNAVAILABLE after its files have been restored.
_OUTDATED_S = 10.0
# How long fronts have, once a worker was replaced, to send it what has waited, before another version may take over. A
# shorter time loses requests on a busy machine; with a longer one, both versions take memory.
_CATCH_UP_S = 1.0
# What crashes more often than this within _RECENT_CRASHES_S does not keep another version from taking over.
_MAX_CRASHES_WAITED_FOR = 3
# After this many crashes in a row while loading, a model is reported as UNAVAILABLE. Attempts continue.
_MAX_LOADING_CRASHES = 3


def restart_delay_s(crashes: int, was_ready: bool) -> float:
    """Return the seconds to wait before a restart: none after the first crash, then 50 ms, doubled each time.

    `crashes` counts those of the last minute or, while loading, those in a row. Requests wait for a version that has
    served, so its delay is at most 2 s; otherwise it is at most 60 s.
    """
    if crashes <= 1:
        return 0.0
    return min(0.05 * 2.0 ** (crashes - 2), 2.0 if was_ready else 60.0)


_REASONS = {
    State.UNLOADED: "the first request loads it",
    State.LOADING: "it is being loaded",
    State.UNLOADING: "it is being unloaded",
    State.UNAVAILABLE: "it is being loaded",
}


class ModelVersion(Version):
    """Runs the workers of one version.

    `look_again` is called when the manager may have to act although no state has changed: the version is `outdated`, or
    no longer `is_restarting`. If what is outdated has no other worker, it is tried again later, in case the files are
    restored.

    `on_loaded` is called when a worker has loaded the model, before it answers. It may end the load.

    on_demand     whether it is loaded when it is wanted (see OnDemand), and not before
    active        whether it is loaded, or is to be: it has workers, or will have
    is_successor  whether it replaces a version that answers requests. So it is loaded at once, and admits none before
    """

    def __init__(
        self,
        key: VersionKey,
        config: ModelConfig,
        on_change: Callable[[], None],
        look_again: Callable[[], None] = lambda: None,
        on_demand: bool = False,
        on_loaded: "Callable[[ModelVersion], Awaitable[None]] | None" = None,
    ) -> None:
        super().__init__(key, config, on_change)
        self._look_again, self._on_loaded = look_again, on_loaded
        self.on_demand = on_demand and not self.failed
        self.active = not self.on_demand
        self.is_successor = False
        self._is_awaited = self.on_demand
        self.wanted = asyncio.Event()
        self._stop = asyncio.Event()
        self._loaded: Ready | None = None
        self._learned: dict[str, Signature] = {}
        # Set once a worker has found that batching is unsafe; the other workers then switch it off too.
        self.batching_off: BatchingOff | None = None
        self._proven: dict[str, tuple[str, ...]] = {}  # so that not every worker has to try what the first one has
        # If model.toml has max_batch_size, there is a batch dimension even while batching is off.
        self._was_batched = bool(config.toml.max_batch_size)
        self._past = WorkerCounts()  # without the audits of workers that run
        self._crash_times: list[float] = []
        self._is_behind = False  # since a crash, until fronts have sent what has waited for the next worker
        self._loading_crashes = 0  # in a row
        self._has_crashed_loading = False

    @property
    def admits(self) -> bool:
        """Once it has been READY, requests wait while a crashed worker is replaced.

        They also wait for what is loaded on demand, or replaces a version that has answered, once that one does not.
        """
        state = self.state
        if state is State.LOADING:
            return self._loaded is not None or (self._is_awaited and not self.is_successor)
        return state is State.READY or (state is State.UNLOADED and not self.is_successor)

    @property
    def is_restarting(self) -> bool:
        now = time.monotonic()
        if sum(now - at < _RECENT_CRASHES_S for at in self._crash_times) > _MAX_CRASHES_WAITED_FOR:
            return False
        # A worker that has just ended counts as ready until its files have been removed.
        is_alive = any(worker.ready and worker.pid for worker in self.workers)
        return self.is_answering and (self._is_behind or not is_alive)

    @property
    def decoupled(self) -> bool:
        """Whether its requests get any number of answers, as far as it is known."""
        return self._loaded is not None and self._loaded.decoupled

    @property
    def trial_allowed(self) -> bool:
        """Whether a worker may run the model on generated inputs: not after a crash while loading."""
        return not self._has_crashed_loading

    def proven(self, device: str) -> tuple[str, ...]:
        """Return the signatures that a worker has found to be safe in batches on "cpu" or "cuda"."""
        return self._proven.get(device, ())

    @property
    def batching_off_reason(self) -> str:
        return self._loaded.batching_off if self._loaded else ""

    @property
    def batching_note(self) -> str:
        return self._loaded.note if self._loaded else ""

    @property
    def execution_note(self) -> str:
        return self._loaded.execution if self._loaded else ""

    @property
    def counts(self) -> WorkerCounts:
        total = self._past
        for worker in list(self.workers):
            total = total.plus(WorkerCounts(0, 0, *worker.audits))
        return total

    @property
    def state(self) -> State:
        if self.unloading:
            return State.UNLOADING
        if not self.active:
            waiting = State.LOADING if self.wanted.is_set() else State.UNLOADED
            return State.UNAVAILABLE if self.failed else waiting
        if any(worker.ready for worker in self.workers):
            return State.READY
        if self.failed and not (self.on_demand and self.outdated):  # otherwise, it will be replaced at once
            return State.UNAVAILABLE
        return State.LOADING

    def entry(self, waiting_for: str = "") -> TableEntry:
        state = self.state
        loaded = self._loaded
        signatures = loaded.signatures if loaded else {}
        learned = self._learned.get(next(iter(signatures), ""))
        reason = self.reason or waiting_for or _REASONS.get(state, "")
        if state in (State.READY, State.UNLOADING):
            reason = _REASONS.get(state, "")
        status = ModelStatus(
            name=self.key.model,
            version=self.key.version,
            state=state.value,
            reason=reason,
            error_kind=self.error_kind,
            admits=self.admits,
            platform=self.config.artifact.platform if self.config.artifact else "",
            signatures=signatures,
            learned=learned,
            max_batch_size=loaded.max_batch_size if loaded else 0,
            was_batched=self._was_batched,
            batch_dim=self.config.toml.batch_dim,
            stateful=self.config.toml.stateful,
            decoupled=loaded.decoupled if loaded else False,
            sequence=self.config.toml.sequence is not None,
            takes_context=loaded.takes_context if loaded else False,
            instances=self.config.toml.workers,
            calls_models=loaded.calls_models if loaded else False,
            priority_levels=self.config.toml.priority_levels,
            default_priority_level=self.config.toml.default_priority_level,
            latency_target_ms=self.config.toml.latency_target_ms,
            version_labels=self._version_labels,
            class_labels=self.config.labels_of(next(iter(signatures.values()), None)),
            preprocess=self._preprocess,
            postprocess=self._postprocess,
            fingerprint=self.key.fingerprint,
            response_cache=_cache_bytes(self.config.toml, loaded) if loaded else None,
            table=self.config.artifact.table if self.config.artifact else None,
        )
        workers = self.workers if self.active else ()
        return TableEntry(status, tuple(worker.address for worker in workers if worker.ready))

    def succeed(self) -> None:
        """Note that it replaces a version that answers requests."""
        self.is_successor = self._is_awaited = True

    def want(self) -> None:
        """Have it loaded, if it is loaded on demand and is not."""
        if self.on_demand and not self.active and not self.failed and not self.wanted.is_set():
            self.wanted.set()
            if self.workers:  # they have to end first; otherwise, it is about to be loaded
                self._on_change()

    def begin_load(self) -> None:
        """Note that it is about to be loaded on demand."""
        self.wanted.clear()
        self._stop = asyncio.Event()
        self.active, self.reason, self.error_kind = True, "it waits for its turn to be loaded", ""
        self._on_change()

    def give_up_memory(self) -> None:
        """Have its workers end when the fronts have answered what they sent to them. New requests wait."""
        self.active = False
        self.stop()
        self._on_change()

    def end_load(self) -> None:
        """Note that none of its workers is left, after it was loaded on demand, or could not be."""
        self.reason = f"the last attempt to load it failed: {self.reason}" if self.failed else ""
        self.active, self.failed, self.error_kind = False, False, ""
        self._on_change()

    async def run_instance(self, launch: Callable[[], Launch], run_dir: Path, slot: int = 0) -> None:
        """Run one instance: replace its worker after each crash, until `stop` or until the model cannot be loaded."""
        while not self._stop.is_set():
            worker = WorkerProcess(launch(), run_dir, self._on_worker_change, self._check_loaded, slot)
            self._past = self._past.plus(WorkerCounts(starts=1))
            self.workers.append(worker)
            await worker.run()
            self.workers.remove(worker)
            self._past = self._past.plus(WorkerCounts(0, 0, *worker.audits))
            if self._stop.is_set():
                if worker.has_crashed:  # perhaps with requests that it had begun
                    log.warning("%s: %s while it was being unloaded", self.key, worker.describe_end())
                return
            if worker.failure and self.state is State.READY:
                log.error("%s: one instance cannot be loaded: %s", self.key, worker.failure)
                if self.outdated:
                    self._look_again()
                return
            if worker.failure:
                self.outdated = self.outdated or not await asyncio.to_thread(self.config.unchanged)
                if self._stop.is_set():
                    return
                if self.outdated and self._loaded is not None:  # requests wait: new files replace it, or it returns
                    log.warning("%s: %s", self.key, worker.failure)
                    self.reason = worker.failure
                    self._on_change()
                else:
                    self.fail(worker.failure)
                if not self.outdated:
                    return
                self._look_again()
                await self._pause(_OUTDATED_S)
                self.outdated = self.failed = False
                continue
            await self._after_crash(worker)

    async def _after_crash(self, worker: WorkerProcess) -> None:
        now = time.monotonic()
        self._crash_times = [*(at for at in self._crash_times if now - at < _RECENT_CRASHES_S), now]
        self._loading_crashes = 0 if worker.ready else self._loading_crashes + 1
        self._has_crashed_loading |= not worker.ready
        self._is_behind = self._loaded is not None
        self._past = self._past.plus(WorkerCounts(restarts=1))
        delay = restart_delay_s(self._loading_crashes or len(self._crash_times), worker.ready is not None)
        reason = worker.describe_end()
        when = f"in {delay:.2g} s" if delay else "immediately"
        log.warning("%s: %s; restarting %s", self.key, reason, when)
        self.reason = f"{reason}; it is being restarted"
        if self._loading_crashes >= _MAX_LOADING_CRASHES:
            self.fail(f"{reason}, {self._loading_crashes} times while loading; the next attempt is in {delay:.2g} s")
        self._on_change()
        await self._pause(delay)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not beyond `stop`."""
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            pass

    def _on_worker_change(self) -> None:
        for worker in self.workers:
            self._learned.update(worker.learned)
            if worker.ready is not None:
                if self._loaded is None:
                    log.info("%s is READY, %s", self.key, worker.ready.note)
                    if self.config.toml.response_cache and (problem := uncacheable(self.config.toml, worker.ready)):
                        log.warning("%s has no response cache: %s", self.key, problem)
                self._update_loaded(worker.ready)
                if worker.ready.batched:
                    self._proven[worker.launch.load.device] = worker.ready.batched
                self.failed, self.reason = False, ""
                if self._is_behind:
                    asyncio.get_running_loop().call_later(_CATCH_UP_S, self._catch_up, self._past.restarts)
        self._on_change()

    def _catch_up(self, restarts: int) -> None:
        """Called some time after a worker was replaced, which had been restarted this often. Later crashes count."""
        if self._is_behind and self.state is State.READY and self._past.restarts == restarts:
            self._is_behind = False
            self._look_again()

    def _update_loaded(self, loaded: Ready) -> None:
        """Store what a worker reported. Once one worker has switched batching off, all workers do."""
        previous = self._loaded or loaded
        self._was_batched |= loaded.max_batch_size > 0
        self._loaded = loaded if loaded.batching_off else previous
        if previous.batching_off == loaded.batching_off:
            self._loaded = loaded
            return
        if self.batching_off is None:
            note = self._loaded.note
            log.warning("%s: %s", self.key, note)
            self.batching_off = BatchingOff(self._loaded.batching_off, note.partition(": ")[2])
        for worker in self.workers:
            if worker.ready is not None and not worker.ready.batching_off:
                worker.switch_batching_off(self.batching_off)

    async def _check_loaded(self, loaded: Ready) -> str:
        """Return why a worker must not serve what it has loaded; "" if it may.

        The files are checked after the worker has read them, so that a change in the meantime is noticed, and in a
        thread, because there may be thousands of them, or the file system may be slow.
        """
        if not await asyncio.to_thread(self.config.unchanged):
            self.outdated = True
            return "its files changed while they were read; it is loaded again when they no longer change"
        reason = self._incompatibility(loaded) if self._loaded is None else ""
        if not reason and self._on_loaded is not None:
            await self._on_loaded(self)
        return reason

    def _incompatibility(self, loaded: Ready) -> str:
        """Return how model.toml contradicts the loaded model; "" if it does not."""
        signature = next(iter(loaded.signatures.values()), None)
        if signature is None:
            return ""
        config, toml = self.config, self.config.toml
        return incompatibility(toml.preprocess, toml.postprocess, signature, config.declared_labels, toml.batch_dim)

    def stop(self) -> None:
        self._stop.set()
        super().stop()


def uncacheable(toml: ModelToml, loaded: Ready) -> str:
    """Return why answers of a model must not be kept for equal requests, in words; "" if they may."""
    if loaded.varies:
        return f"the same request may get another answer: {loaded.varies}"
    if toml.stateful or toml.sequence is not None:
        return "its answers depend on earlier requests"
    if loaded.decoupled:
        return "it gives several answers"
    if loaded.takes_context or loaded.calls_models:
        return "its answers may depend on more than the tensors of a request"
    return ""


def _cache_bytes(toml: ModelToml, loaded: Ready) -> int | None:
    """Return what ModelStatus.response_cache has."""
    if not toml.response_cache or uncacheable(toml, loaded):
        return None
    return 0 if toml.response_cache is True else toml.response_cache
