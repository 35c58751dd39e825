"""The reconcile loop: the repository's versions → policy → workers → the fronts' table."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gateway.config import ModelLoading, RepositoryControl
from gateway.domain import default_limits as default
from gateway.domain.table import Table, TableEntry
from gateway.domain.types import ModelStatus, by_model, select_version
from gateway.environments.builder import Builder
from gateway.environments.runtime import Runtime
from gateway.errors import NotFound, Unavailable, from_kind, shorten, unknown_model
from gateway.lifecycle.entries import TableEntries
from gateway.lifecycle.model_version import ModelVersion
from gateway.lifecycle.needs_file import NeedsFile
from gateway.lifecycle.on_demand import OnDemand
from gateway.lifecycle.overrides import Override, Overrides
from gateway.lifecycle.pipeline_version import PipelineVersion
from gateway.lifecycle.policy import TRANSIENT, Action, State, VersionKey, next_actions
from gateway.lifecycle.selection import ModelSelection, steps_below
from gateway.lifecycle.snapshot import RepositorySnapshot, next_snapshot
from gateway.lifecycle.starter import Starter, StarterOptions
from gateway.lifecycle.version import Version, WorkerCounts
from gateway.lifecycle.zygotes import Zygotes
from gateway.repository.scan import ModelConfig, Scan, scan, with_runtime
from gateway.repository.scanner import Scanner

log = logging.getLogger("models")

# How often workers are checked for hangs and for their memory. A longer interval adds to the limits of model.toml; a
# shorter one wakes the supervisor more often.
_HANG_CHECK_S = 0.25
# Time for idle workers to end on their own when the gateway stops. No request waits for them, so they are killed after
# that; a longer time takes from the grace period.
_STOP_S = 1.0


@dataclass(frozen=True)
class ManagerOptions:
    """workers: what all of them have in common. scan: called with `repository`.

    load          when models are loaded whose model.toml does not say so
    memory_limit  the bytes that all processes may take, for which models on demand are unloaded; 0: any
    needs        where it is kept what models need, for the next start; None: nowhere
    is_complete  whether the scan finds everything; False while a remote repository has not been read yet
    prepare      downloads models that are about to be loaded; returns why that failed, or ""
    finished     called with them when they have been loaded or not: their files need not be kept for that any more
    """

    repository: Path
    workers: StarterOptions
    poll_s: float = default.POLL_S
    grace_s: float = default.GRACE_S
    strict_readiness: bool = False
    control: RepositoryControl = "poll"
    load_model: tuple[str, ...] = ()
    load: ModelLoading = "always"
    memory_limit: int = 0
    needs: NeedsFile | None = None
    scan: Scan = scan
    is_complete: Callable[[], bool] = lambda: True
    prepare: Callable[[Collection[str]], Awaitable[str]] | None = None
    finished: Callable[[Collection[str]], None] = lambda models: None


class Manager:
    """Keeps the selected versions of the repository running. Calls `publish` with the table when it has changed."""

    def __init__(
        self,
        options: ManagerOptions,
        runtimes: Mapping[str, Runtime],
        builder: Builder,
        publish: Callable[[Table], None],
    ) -> None:
        self.versions: dict[VersionKey, Version] = {}
        self._past_counts: dict[tuple[str, str], WorkerCounts] = {}  # of versions that were unloaded
        self._options = options
        self._runtimes = runtimes
        self._builder = builder
        self._publish = publish
        self._table = Table()
        self._entries = TableEntries()
        self._wake = asyncio.Event()  # set to reconcile right away, after a scan of the repository if
        self._must_scan = False
        self._state_change = asyncio.Event()  # set, and replaced, at every change; `load` waits for it
        self._desired: dict[VersionKey, ModelConfig] = {}
        self._snapshot = RepositorySnapshot()
        self._scan_lock = asyncio.Lock()
        self._scanner = Scanner(options.repository, self._scan, self._is_serving, self._on_change)
        self._selection = ModelSelection(options.control, options.load_model)
        self._reloads: dict[str, int] = {}  # model → number of forced reloads, which is part of the fingerprint
        self._warned: dict[str, str] = {}  # model → fingerprint of the configuration that its last warning was about
        self._has_settled = False
        self._has_reconciled = False
        self._is_complete = False
        self._closing = False
        self._tasks: dict[VersionKey, asyncio.Task[None]] = {}
        self._successors: set[ModelVersion] = set()  # on demand, which replace versions that can still answer
        self._overrides = Overrides(runtimes)
        self._starter = Starter(options.workers, builder, self._instances)
        self.on_demand = OnDemand(
            options.memory_limit,
            self._starter.run,
            self._is_successor,
            lambda: self._state_change,
            self.zygotes.end_idle if self.zygotes is not None else lambda: False,
            options.grace_s,
            options.needs,
            self.zygotes.spares if self.zygotes is not None else dict,
            self.zygotes.end_spares if self.zygotes is not None else lambda: False,
        )

    async def run(self) -> None:
        """Reconcile until cancelled. Call `close` afterwards."""
        tasks = [asyncio.create_task(self._watch_hung()), asyncio.create_task(self.on_demand.run())]
        try:
            while True:
                self._must_scan = False
                await self._rescan()
                try:
                    async with asyncio.timeout(self._options.poll_s if self._selection.mode == "poll" else None):
                        while not self._must_scan:
                            await self._wake.wait()
                            self._wake.clear()
                            async with self._scan_lock:  # a client's load selects models before it scans
                                self._reconcile()
                except TimeoutError:
                    pass
        finally:
            for task in tasks:
                task.cancel()

    def _scan_soon(self) -> None:
        self._must_scan = True
        self._wake.set()

    async def close(self) -> None:
        """Stop every worker. The fronts have ended already, so no request waits for an answer."""
        self._closing = True
        self.on_demand.save()
        for version in self.versions.values():
            version.unloading = True
            version.stop()
            if not version.workers:
                self._tasks[version.key].cancel()
        if self._tasks:
            _, slow = await asyncio.wait(self._tasks.values(), timeout=_STOP_S)
            self.kill()
            if self.zygotes is not None:
                self.zygotes.end()  # a worker may wait for one that imports its framework
            await asyncio.gather(*slow, return_exceptions=True)
        if self.zygotes is not None:
            await self.zygotes.close()

    @property
    def zygotes(self) -> Zygotes | None:
        """The processes that workers are copies of; None if they are not copied."""
        return self._starter.zygotes

    def kill(self) -> None:
        """Kill every worker."""
        for version in self.versions.values():
            version.kill()

    def numbered(self) -> dict[tuple[str, str], Version]:
        """Return the versions by model and number, sorted: while new files replace old ones, the one that admits
        requests, or else one that is not being unloaded. Thread-safe.
        """
        versions, found = list(self.versions.items()), dict[tuple[str, str], Version]()
        for key, version in sorted(versions):
            other = found.get(key[:2])
            if other is None or (version.admits, not version.unloading) > (other.admits, not other.unloading):
                found[key[:2]] = version
        return found

    def index(self) -> list[dict[str, str]]:
        """Return every version in the repository, as entries of the v2 repository index."""
        statuses = [self.status(version) for _, version in sorted(self.versions.items())]
        entries = [
            {"name": status.name, "version": status.version, "state": status.state, "reason": status.reason}
            for status in statuses
        ]
        for key in sorted(self._snapshot.found):
            if not self._selection.is_selected(key.model) and key not in self.versions:
                entries.append(
                    {"name": key.model, "version": key.version, "state": "UNAVAILABLE", "reason": "unloaded"}
                )
        return entries

    def find(self, name: str, version: str) -> Version:
        """Return a version: see `numbered`. Raises NotFound."""
        found = self.numbered().get((name, version))
        if found is None:
            raise NotFound(f"there is no model '{name}' with version {version}")
        return found

    def newest(self, name: str) -> str:
        """Return the highest version of a model, in whatever state. Raises NotFound."""
        versions = [key.version for key in self.versions if key.model == name]
        if not versions:
            raise unknown_model(name)
        return max(versions, key=lambda version: int(version or 0))

    def counts(self) -> dict[tuple[str, str], WorkerCounts]:
        """Return the counts by model and version, also of those that were unloaded. Thread-safe."""
        counts = dict(self._past_counts)
        # Several versions may have the same name and number, while new files replace old ones.
        for key, version in list(self.versions.items()):
            counts[key[:2]] = counts.get(key[:2], WorkerCounts()).plus(version.counts)
        return counts

    def configuration(self, name: str, version: str) -> dict[str, Any]:
        """Return a version's configuration, as far as the fronts do not have it already. Raises NotFound."""
        return self.find(name, version).configuration()

    def steps(self, version: Version) -> list[dict[str, Any]]:
        """Return the steps of a pipeline as JSON values: {model, version, state, reason, when}.

        version  the one that answers now; the one that the configuration names if there is none
        """
        models = by_model(entry.status for entry in self._table.entries)
        steps = []
        for step in version.config.steps:
            found = select_version(models.get(step.model, ()), step.version)
            state, reason = (found.state, found.reason) if found else ("UNAVAILABLE", "it is not served")
            number = found.version if found else step.version
            when = str(step.when) if step.when else ""
            steps.append({"model": step.model, "version": number, "state": state, "reason": reason, "when": when})
        return steps

    def status(self, version: Version) -> ModelStatus:
        return self._entry(version).status

    def want(self, name: str, version: str) -> None:
        """Have a version loaded that is loaded on demand, because requests wait for it; or the steps of a pipeline.

        Does nothing if it is loaded or being loaded, or if there is no such version.
        """
        for key, found in list(self.versions.items()):
            if key.model != name or key.version != version or found.unloading:
                continue
            if isinstance(found, ModelVersion):
                found.want()
            else:
                self._want_steps(found)

    def _want_steps(self, pipeline: Version) -> None:
        """Have those steps loaded whose signatures are not known. The others are loaded when their turn has come."""
        models = by_model(entry.status for entry in self._table.entries)
        for step in pipeline.config.steps:
            status = select_version(models.get(step.model, ()), step.version)
            if status is not None and status.awaits_load:
                self.want(status.name, status.version)

    def _is_successor(self, version: Version) -> bool:
        """Return whether a version replaces one of the same model that is loaded."""
        model = version.key.model
        return any(
            key.model == model and key not in self._desired and each.state is State.READY
            for key, each in self.versions.items()
            if each is not version
        )

    def refresh(self) -> None:
        """Publish the table again if the progress of an environment's build has changed it."""
        self._on_change()

    def rescan(self) -> None:
        """Scan the repository right away, because it has changed."""
        self._scan_soon()

    async def load(self, name: str, override: Override | None = None) -> None:
        """Scan the model's files again, and wait until it is loaded or has failed.

        override  what replaces them from now on. If it fails to load, what was served before still is

        Raises NotFound, Unsupported, or Unavailable with the reason.
        """
        self._overrides.own(override)
        try:
            await self._load_overridden(name, override)
        finally:
            await self._sweep()

    async def _load_overridden(self, name: str, override: Override | None) -> None:
        self._selection.check_allowed()
        if self._options.prepare is None or (override is not None and override.folder is not None):
            await self._load_prepared(name, override)
            return
        models = {name} | steps_below([name], _steps(self._snapshot.found))
        try:
            trouble = await self._options.prepare(models)
            if trouble:
                raise Unavailable(f"model '{shorten(name)}' was not loaded: {trouble}")
            await self._load_prepared(name, override)
        finally:
            self._options.finished(models)

    async def _load_prepared(self, name: str, override: Override | None) -> None:
        undo_selection = self._selection.remember(name)
        try:
            with self._overrides.putting(name, override):
                await self._load_again(name, is_known=override is not None)
            self._reconcile()  # what it replaces is no longer there when the client gets its answer
        except BaseException:
            if override is not None:
                undo_selection()
                await self._rescan(name)
            raise

    async def _load_again(self, name: str, is_known: bool) -> None:
        """is_known: whether the version key says that there is something new to load."""
        self._selection.select(name)
        # A model that is READY or UNAVAILABLE is loaded again even if its files seem unchanged, because some file
        # systems do not report every change. A model that is loading is not: repeated requests would restart it
        # forever.
        states = [(key in self._desired, each.state) for key, each in self.versions.items() if key.model == name]
        if not is_known and (True, State.LOADING) not in states and any(state not in TRANSIENT for _, state in states):
            self._reloads[name] = self._reloads.get(name, 0) + 1
        if not await self._rescan(name):
            # The log has the reason, with a path that clients must not see.
            raise Unavailable(
                f"model '{name}' was not loaded: the repository cannot be read; the gateway's log says why"
            )
        for key in [key for key in self._desired if key.model == name and key in self.versions]:
            self.want(key.model, key.version)
        while self._is_transient(name):
            await self._state_change.wait()
        if not self._selection.is_selected(name):
            raise Unavailable(f"model '{name}' was unloaded while it was being loaded")
        if not any(key.model == name for key in self._desired):
            self._selection.forget(name)
            self._reloads.pop(name, None)
            raise NotFound(f"failed to load '{shorten(name)}': there is no such model in the repository")
        failed = [self.versions[key] for key in self._desired if key.model == name and self.versions[key].failed]
        if failed:
            raise from_kind(failed[0].error_kind or Unavailable.kind, f"failed to load '{name}': {failed[0].reason}")

    def _is_transient(self, name: str) -> bool:
        """Return whether a model is still changing its state, or its files are still changing."""
        keys = [key for key in self._desired if key.model == name]
        if not keys:
            return any(key.model == name for key in self._snapshot.found) and self._selection.is_selected(name)
        return any(key not in self.versions or self.versions[key].is_changing for key in keys)

    async def unload(self, name: str) -> None:
        """Stop serving a model until `load`. A model that is not loaded is no error. Raises NotFound, Unsupported."""
        self._selection.check_allowed()
        if not any(key.model == name for key in (*self.versions, *self._snapshot.found)):
            raise unknown_model(name)
        self._selection.deselect(name)
        self._reconcile()
        if self._overrides.drop(name):
            await self._rescan(name)
            if not any(key.model == name for key in self._snapshot.found):
                self._selection.forget(name)
            await self._sweep()

    def places(self) -> dict[str, str]:
        """Return the models that were loaded from a place outside the repository: name → path."""
        return self._overrides.places()

    async def _sweep(self) -> None:
        await self._overrides.sweep(version.config.folder for version in self.versions.values())

    async def _rescan(self, name: str = "") -> bool:
        """Scan the repository and reconcile; return False if the repository cannot be scanned.

        A model that is requested by `name` is loaded after this one scan. If the scan fails, nothing is unloaded.
        Unless the mode is "poll", only the requested model and outdated ones are updated; outdated models could not
        be loaded because their files had changed.
        """
        async with self._scan_lock:
            polling, requested = self._selection.mode == "poll", {name} - {""}
            if not polling:
                requested |= {key.model for key, version in self.versions.items() if version.outdated}
            if polling or requested or not self._has_reconciled:
                is_complete = self._options.is_complete()  # before the scan: what arrives meanwhile may be missed
                configs = await self._scanner.scan()
                if configs is None:
                    return False
                configs = await asyncio.to_thread(self._overridden, configs)
                found = {self._key(config): config for config in configs}
                if not self._has_reconciled:
                    self._selection.on_first_scan(key.model for key in found)
                if requested:  # the steps of a pipeline are loaded with it, unless they are served
                    served = {key.model for key, version in self.versions.items() if not version.unloading}
                    requested |= steps_below(requested, _steps(found)) - served
                previous = self._snapshot if self._is_complete else None
                self._snapshot = next_snapshot(previous, found, self.versions, requested, only_requested=not polling)
                self._reconcile()
                if is_complete and not self._is_complete:  # not before all that was found is in the table
                    self._is_complete = True
                    self._on_change()
            else:
                self._reconcile()
            return True

    def _scan(self) -> list[ModelConfig]:
        """Return the versions in the repository, each with its runtime on this machine. Raises RepositoryError."""
        configs = self._options.scan(self._options.repository, self._runtimes)
        return [with_runtime(config, self._builder.available) for config in configs]

    def _overridden(self, configs: list[ModelConfig]) -> list[ModelConfig]:
        """Return the versions with what load requests have replaced."""
        return [with_runtime(config, self._builder.available) for config in self._overrides.apply(configs)]

    def _is_serving(self) -> bool:
        """Return whether any model of the repository is served."""
        return any(not version.unloading and not version.config.is_foreign for version in self.versions.values())

    def _key(self, config: ModelConfig) -> VersionKey:
        reloads = self._reloads.get(config.name, 0)
        # A problem may go without a change of the files: those of a disk that was full while an archive was unpacked.
        fingerprint = config.fingerprint + config.problem
        fingerprint = f"{fingerprint}.{reloads}" if reloads else fingerprint
        return VersionKey(config.name, config.version, fingerprint)

    def _reconcile(self) -> None:
        self._selection.on_pipelines(_steps(self._snapshot.found))
        selected = self._snapshot.selected(self._selection.is_selected)
        before, self._desired = self._desired, selected.loadable()
        # A version whose worker is being restarted counts as READY: its requests wait for the new worker.
        states = {
            key: State.READY if each.admits and each.state is not State.UNLOADED else each.state
            for key, each in self.versions.items()
        }
        # What an override replaces stays until all of the override has loaded.
        actions = next_actions(self._desired, states, selected.changing() | self._overrides.loading)
        for action in actions:
            self._apply(action)
        self._has_reconciled = True
        self._on_change(
            {key.model for key in {*(before.keys() ^ self._desired.keys()), *(each.key for each in actions)}}
        )

    def _apply(self, action: Action) -> None:
        key = action.key
        if action.verb == "load":
            version = self.versions[key] = self._version(key, self._desired[key])
            self._warn(version.config)
            if version.failed:
                version.fail(version.reason)
            self._tasks[key] = asyncio.create_task(self._load(version))
            if isinstance(version, ModelVersion) and version.on_demand:
                self._begin_on_demand(version)
        else:
            log.info("%s is unloaded", key)
            version = self.versions[key]
            version.unloading = True  # set here, not in the task: a client that unloads it must not see it READY again
            self._tasks[key] = asyncio.create_task(self._retire(version, self._tasks[key]))

    def _instances(self) -> int:
        active = [each for each in self.versions.values() if isinstance(each, ModelVersion) and each.active]
        return sum(each.config.toml.workers for each in active if each.key in self._desired)

    def _begin_on_demand(self, version: ModelVersion) -> None:
        """Load a version at once if requests need it, because the files have changed of one that is loaded."""
        version.is_successor = self._is_successor(version)
        if version.is_successor:
            self._successors.add(version)
        model = version.key.model
        if any(key.model == model and each.is_wanted for key, each in self.versions.items() if each is not version):
            version.want()

    def _version(self, key: VersionKey, config: ModelConfig) -> Version:
        if config.steps:
            return PipelineVersion(key, config, self._on_change)
        on_demand = (config.toml.load or self._options.load) == "on_demand"
        return ModelVersion(key, config, partial(self._on_change, {key.model}), self._scan_soon, on_demand)

    def _warn(self, config: ModelConfig) -> None:
        """Log a model's warning, once for each content of its configuration files."""
        if config.warning and self._warned.get(config.name) != config.config_fingerprint:
            self._warned[config.name] = config.config_fingerprint
            log.warning("%s: %s", config.name, config.warning)

    async def _load(self, version: Version) -> None:
        """Run the version until it is stopped. A pipeline has no workers."""
        if isinstance(version, ModelVersion) and version.on_demand:
            await self.on_demand.serve(version)
        elif isinstance(version, ModelVersion):
            await self._starter.run(version)

    async def _retire(self, version: Version, running: "asyncio.Task[None]") -> None:
        """Remove a version from the table and stop it. Its workers end when the fronts have answered its requests."""
        self._on_change()
        version.stop()
        if not version.workers:
            running.cancel()
        _, slow = await asyncio.wait([running], timeout=self._options.grace_s)
        if slow:
            log.warning("%s: a front did not disconnect in time; killing the worker", version.key)
            version.kill()
        await asyncio.gather(running, return_exceptions=True)
        key = version.key[:2]
        self._past_counts[key] = self._past_counts.get(key, WorkerCounts()).plus(version.counts)
        self.versions.pop(version.key, None)
        self.on_demand.needs.forget([version.key])
        await self._sweep()  # of the files that a client has sent for it
        if self._tasks.get(version.key) is asyncio.current_task():  # it may be back already
            del self._tasks[version.key]
        self._on_change()
        self._wake.set()

    async def _watch_hung(self) -> None:
        while True:
            await asyncio.sleep(_HANG_CHECK_S)
            for version in self.versions.values():
                for worker in list(version.workers):
                    worker.enforce_limits()

    def _entry(self, version: Version) -> TableEntry:
        artifact = version.config.artifact
        return version.entry(self._builder.progress(artifact.runtime.name) if artifact else "")

    def _on_change(self, models: Collection[str] | None = None) -> None:
        """Publish the table if it has changed, and wake those that wait for a change of state.

        models  of which something has changed; None: any
        """
        if self._closing:
            return
        for version in list(self._successors):
            if not version.is_successor or not self._is_successor(version):
                # What it replaces has left, perhaps to make room for it, so requests wait for this one.
                version.is_successor = False
                self._successors.remove(version)
        entries = self._entries.update(self.versions, self._desired, self._entry, models)
        table = Table(entries, self._ready())
        if table != self._table:
            self._table = table
            self._publish(table)
            if self.versions.keys() != self._desired.keys():
                self._wake.set()
        self._state_change.set()
        self._state_change = asyncio.Event()

    def _ready(self) -> bool:
        """Return the server's readiness.

        Once all versions have loaded or failed, it stays ready: loading another model later must not make load
        balancers stop sending requests for the others.
        """
        if not self._has_reconciled or not self._is_complete:
            return False
        current = [version for version in self.versions.values() if not version.unloading]
        if not self._has_settled and all(version.state not in TRANSIENT for version in current):
            self._has_settled = True
            ready = sum(version.state is State.READY for version in current)
            unloaded = sum(version.state is State.UNLOADED for version in current)
            note = f", {unloaded} are loaded on demand" if unloaded else ""
            log.info("startup is complete: %d of %d model versions are READY%s", ready, len(current), note)
        if self._scanner.trouble and current and not any(version.admits for version in current):
            return False  # no version can answer, and the repository cannot provide new ones
        if self._options.strict_readiness:
            return self._has_settled and all(version.admits for version in current)
        return self._has_settled


def _steps(found: Mapping[VersionKey, ModelConfig]) -> dict[str, set[str]]:
    """Return the models that each pipeline runs, in any of its versions."""
    steps: dict[str, set[str]] = {}
    for key, config in found.items():
        if config.steps:
            steps.setdefault(key.model, set()).update(step.model for step in config.steps)
    return steps
