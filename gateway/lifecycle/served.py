"""One unit as it runs: its state, its workers, and their restarts."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.domain.table import Entry
from gateway.domain.types import ModelStatus
from gateway.lifecycle.launch import Launch
from gateway.lifecycle.policy import State, Unit
from gateway.lifecycle.worker_process import WorkerProcess
from gateway.repository.image_config import misfit
from gateway.repository.scan import ModelConfig
from runtimes.contract import Signature
from runtimes.control import BatchingOff, Ready

log = logging.getLogger("models")

_RECENT_S = 60.0
# When to try again what could not be loaded because its files had changed.
_OUTDATED_S = 10.0
# A worker that dies while it loads gets this many tries before its model is called UNAVAILABLE; the tries go on.
_LOADING_DEATHS = 3


def restart_delay_s(deaths: int, was_ready: bool) -> float:
    """Back-off by the number of deaths: those of the last minute, or those in a row while loading.

    What has served comes back soon, since requests wait for it.
    """
    if deaths <= 1:
        return 0.0
    return min(0.05 * 2.0 ** (deaths - 2), 2.0 if was_ready else 60.0)


class Served:
    """Changes are told by `on_change`; the manager publishes what `entry` says.

    outdated  whether a worker could not be loaded because its files are no longer those that the unit stands for:
              `on_outdated` is called. What then serves nothing is tried again, in case the files come back
    """

    def __init__(
        self,
        unit: Unit,
        config: ModelConfig,
        on_change: Callable[[], None],
        on_outdated: Callable[[], None] = lambda: None,
    ) -> None:
        self.unit = unit
        self.config = config
        self.workers: list[WorkerProcess] = []
        self.restarts = 0
        self.reason = _printable(config.problem)
        self.failed = bool(config.problem)
        self.unloading = False
        self.places: tuple[str, ...] = ()  # "cpu" or "cuda:N": where each of `instances` is, once that is settled
        self.outdated = False
        self._on_change = on_change
        self._on_outdated = on_outdated
        self._stop = asyncio.Event()
        self._loaded: Ready | None = None
        self._learned: dict[str, Signature] = {}
        # What one of its workers has found out about batching; its other workers follow.
        self.batching_off: BatchingOff | None = None
        # What is declared to have rows has them whether or not they run together.
        self._was_batched = bool(config.toml.max_batch_size)
        self._audits_before = (0, 0)
        self._deaths: list[float] = []
        self._loading_deaths = 0  # in a row
        self._has_died_loading = False
        labels = config.toml.version_labels.items()
        self._version_labels = tuple(label for label, version in labels if str(version) == config.version)
        toml = config.toml
        self._preprocess = toml.preprocess.settled() if toml.preprocess else None
        self._postprocess = toml.postprocess.settled() if toml.postprocess else None

    @property
    def admits(self) -> bool:
        """Whether requests are taken: once it has answered, they wait for the worker that replaces a dead one."""
        return self.state is State.READY or (self.state is State.LOADING and self._loaded is not None)

    @property
    def may_be_tried(self) -> bool:
        """Whether a worker may run the model with invented inputs: not when one has ever died while loading."""
        return not self._has_died_loading

    @property
    def why_not_batched(self) -> str:
        """Why batching is off, as a word for a metric; "" if it is on, or if nothing is known yet."""
        return self._loaded.batching_off if self._loaded else ""

    @property
    def audits(self) -> tuple[int, int]:
        """How many requests have run again by themselves, and how many of them got another answer."""
        total = self._audits_before
        for worker in list(self.workers):
            total = added(total, worker.audits)
        return total

    @property
    def state(self) -> State:
        if self.unloading:
            return State.UNLOADING
        if any(worker.ready for worker in self.workers):
            return State.READY
        return State.UNAVAILABLE if self.failed else State.LOADING

    def fail(self, reason: str) -> None:
        """It cannot be served, for this reason, until something changes."""
        self.failed, self.reason = True, _printable(reason)
        log.error("%s version %s is UNAVAILABLE: %s", self.unit.model, self.unit.version or "-", self.reason)
        self._on_change()

    def entry(self, waiting_for: str = "") -> Entry:
        """What the fronts are told. waiting_for: what keeps it from loading, when it is not its own doing."""
        state = self.state
        loaded = self._loaded
        signatures = loaded.signatures if loaded else {}
        learned = self._learned.get(next(iter(signatures), ""))
        reason = self.reason or waiting_for or "it is being loaded"
        if state in (State.READY, State.UNLOADING):
            reason = "" if state is State.READY else "it is being unloaded"
        status = ModelStatus(
            name=self.unit.model,
            version=self.unit.version,
            state=state.value,
            reason=reason,
            admits=self.admits,
            platform=self.config.artifact.platform if self.config.artifact else "",
            signatures=signatures,
            learned=learned,
            max_batch_size=loaded.max_batch_size if loaded else 0,
            was_batched=self._was_batched,
            batch_dim=self.config.toml.batch_dim,
            stateful=self.config.toml.stateful,
            priority_levels=self.config.toml.priority_levels,
            default_priority_level=self.config.toml.default_priority_level,
            latency_target_ms=self.config.toml.latency_target_ms,
            version_labels=self._version_labels,
            class_labels=self.config.class_labels,
            preprocess=self._preprocess,
            postprocess=self._postprocess,
        )
        return Entry(status, tuple(worker.address for worker in self.workers if worker.ready))

    def configuration(self) -> dict[str, Any]:
        """What model.toml, or a config.pbtxt in its place, comes to. In JSON's types."""
        toml, artifact = self.config.toml, self.config.artifact
        return {
            # TensorFlow Serving's layout has no name for it: the version's folder is the artifact.
            "artifact": artifact.path.name if artifact and artifact.path.suffix else "",
            "backend": artifact.runtime.backend(artifact.platform) if artifact else "",
            "instances": toml.instances,
            "places": list(self.places),
            "queue_delay_ms": toml.queue_delay_ms,
            "version_policy": toml.version_policy.model_dump(mode="json"),
            "labels": dict(toml.labels),
            "reshape": {
                kind: {tensor.name: list(tensor.reshape) for tensor in declared if tensor.reshape is not None}
                for kind, declared in (("inputs", toml.inputs), ("outputs", toml.outputs))
            },
            "formats": {tensor.name: tensor.format for tensor in toml.inputs if tensor.format},
            "batching": self._loaded.note if self._loaded else "",
        }

    async def keep(self, launch: Callable[[], Launch], run_dir: Path) -> None:
        """One instance: a worker, and another when it dies, until `stop` or until it cannot be loaded."""
        while not self._stop.is_set():
            worker = WorkerProcess(launch(), run_dir, self._changed, self._refusal)
            self.workers.append(worker)
            await worker.run()
            self.workers.remove(worker)
            self._audits_before = added(self._audits_before, worker.audits)
            if self._stop.is_set():
                return
            if worker.failure and self.state is State.READY:
                log.error("%s version %s: one instance cannot be loaded: %s", *self.unit[:2], worker.failure)
                if self.outdated:
                    self._on_outdated()
                return
            if worker.failure:
                self.outdated = self.outdated or not await asyncio.to_thread(self.config.unchanged)
                if self._stop.is_set():
                    return
                self.fail(worker.failure)
                if not self.outdated:
                    return
                self._on_outdated()
                await self._pause(_OUTDATED_S)
                self.outdated = False
                continue
            await self._after_death(worker)

    async def _after_death(self, worker: WorkerProcess) -> None:
        now = time.monotonic()
        self._deaths = [*(at for at in self._deaths if now - at < _RECENT_S), now]
        self._loading_deaths = 0 if worker.ready else self._loading_deaths + 1
        self._has_died_loading |= not worker.ready
        self.restarts += 1
        delay = restart_delay_s(self._loading_deaths or len(self._deaths), worker.ready is not None)
        why = worker.describe_end()
        log.warning("%s version %s: %s; restarting in %.2g s", self.unit.model, self.unit.version, why, delay)
        self.reason = f"{why}; it is being restarted"
        if self._loading_deaths >= _LOADING_DEATHS:
            self.fail(f"{why}, {self._loading_deaths} times while loading; the next try is in {delay:.0f} s")
        self._on_change()
        await self._pause(delay)

    async def _pause(self, seconds: float) -> None:
        """No longer than until `stop`."""
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            pass

    def _changed(self) -> None:
        for worker in self.workers:
            self._learned.update(worker.learned)
            if worker.ready is not None:
                if self._loaded is None:
                    log.info("%s version %s is READY, %s", self.unit.model, self.unit.version, worker.ready.note)
                self._settle_batching(worker.ready)
                self.failed, self.reason = False, ""
        self._on_change()

    def _settle_batching(self, loaded: Ready) -> None:
        """Take over what a worker says of itself. What one finds out while it serves, all of them follow."""
        before = self._loaded or loaded
        self._was_batched |= loaded.max_batch_size > 0
        self._loaded = loaded if loaded.batching_off else before
        if before.batching_off == loaded.batching_off:
            self._loaded = loaded
            return
        if self.batching_off is None:
            note = self._loaded.note
            log.warning("%s version %s: %s", self.unit.model, self.unit.version, note)
            self.batching_off = BatchingOff(self._loaded.batching_off, note.partition(": ")[2])
        for worker in self.workers:
            if worker.ready is not None and not worker.ready.batching_off:
                worker.switch_batching_off(self.batching_off)

    async def _refusal(self, loaded: Ready) -> str:
        """Why what a worker has loaded must not answer; "" if it may.

        The files are looked at after they were read, and in a thread: there may be thousands, or a slow file system.
        """
        if not await asyncio.to_thread(self.config.unchanged):
            self.outdated = True
            return "its files changed while they were read; it is loaded again when they no longer change"
        return self._misfit(loaded) if self._loaded is None else ""

    def _misfit(self, loaded: Ready) -> str:
        """Why model.toml cannot be right about what has been loaded; "" if it can."""
        signature = next(iter(loaded.signatures.values()), None)
        if signature is None:
            return ""
        config, toml = self.config, self.config.toml
        return misfit(toml.preprocess, toml.postprocess, signature, config.class_labels, toml.batch_dim)

    def stop(self) -> None:
        """No more restarts; the workers end when every front has let go of them."""
        self._stop.set()
        for worker in self.workers:
            worker.stop()

    def kill(self) -> None:
        for worker in self.workers:
            worker.kill()


def added(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return a[0] + b[0], a[1] + b[1]


def _printable(text: str) -> str:
    """A file's name may hold bytes that no protocol can tell."""
    return text.encode(errors="backslashreplace").decode()
