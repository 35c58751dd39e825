"""The reconcile loop: the repository's versions → policy → workers → the fronts' table."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from gateway.domain.table import Table, TableEntry
from gateway.domain.types import ModelStatus, by_model, select_version
from gateway.environments.builder import Builder
from gateway.environments.runtime import Runtime
from gateway.lifecycle.desired_state import DesiredState
from gateway.lifecycle.entries import TableEntries
from gateway.lifecycle.model_version import ModelVersion
from gateway.lifecycle.on_demand import OnDemand
from gateway.lifecycle.options import ManagerOptions
from gateway.lifecycle.pipeline_version import PipelineVersion
from gateway.lifecycle.policy import Action, State, VersionKey, next_actions
from gateway.lifecycle.readiness import Readiness
from gateway.lifecycle.starter import Starter
from gateway.lifecycle.version import Version
from gateway.lifecycle.versions import Versions
from gateway.lifecycle.zygotes import Zygotes
from gateway.repository.model_config import ModelConfig

log = logging.getLogger("models")

# How often workers are checked for hangs and for their memory. A longer interval adds to the limits of model.toml; a
# shorter one wakes the supervisor more often.
_HANG_CHECK_S = 0.25
# Time for idle workers to end on their own when the gateway stops. No request waits for them, so they are killed after
# that; a longer time takes from the grace period.
_STOP_S = 1.0


class Manager:
    """Keeps the selected versions of the repository running. Calls `publish` with the table when it has changed.

    desired       what should be served; LoadRequests changes it
    versions      what is
    state_change  set, and replaced, at every change of a state
    """

    def __init__(
        self,
        options: ManagerOptions,
        runtimes: Mapping[str, Runtime],
        builder: Builder,
        publish: Callable[[Table], None],
    ) -> None:
        self.versions = Versions()
        self.state_change = asyncio.Event()
        self.desired = DesiredState(options, runtimes, builder.available, self.versions, self.refresh)
        self._options = options
        self._builder = builder
        self._publish = publish
        self._table = Table()
        self._entries = TableEntries()
        self._readiness = Readiness(options.strict_readiness)
        self._wake = asyncio.Event()  # set to reconcile right away, after a scan of the repository if
        self._must_scan = False
        self._reconciling = asyncio.Lock()
        self._warned: dict[str, str] = {}  # model → fingerprint of the configuration that its last warning was about
        self._closing = False
        self._tasks: dict[VersionKey, asyncio.Task[None]] = {}
        self._successors: set[ModelVersion] = set()  # which replace versions that still answer
        self._starter = Starter(options.workers, builder, self._instances)
        self.on_demand = OnDemand(
            options.memory_limit,
            self._starter.run,
            self._is_successor,
            lambda: self.state_change,
            options.grace_s,
            options.needs,
            self.zygotes,
        )

    # -- the loop ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Reconcile until cancelled. Call `close` afterwards."""
        tasks = [asyncio.create_task(self._watch_hung()), asyncio.create_task(self.on_demand.run())]
        try:
            while True:
                self._must_scan = False
                await self.rescan()
                try:
                    # A first scan that failed, because a volume was not there for a moment, is repeated in any case.
                    polls = self._options.control == "poll" or not self.desired.has_scanned
                    async with asyncio.timeout(self._options.poll_s if polls else None):
                        while not self._must_scan:
                            await self._wake.wait()
                            self._wake.clear()
                            async with self._reconciling:  # a client's load selects models before it scans
                                self.reconcile()
                except TimeoutError:
                    pass
        finally:
            for task in tasks:
                task.cancel()

    def scan_soon(self) -> None:
        """Scan the repository right away, because it has changed."""
        self._must_scan = True
        self._wake.set()

    async def rescan(self, name: str = "") -> bool:
        """Scan the repository (see DesiredState.scan) and reconcile; return False if it cannot be scanned."""
        async with self._reconciling:
            if not await self.desired.scan(name):
                return False
            self.reconcile()
            if self.desired.is_complete and not self._readiness.has_begun:
                self._readiness.has_begun = True
                self.refresh()
            return True

    def reconcile(self) -> None:
        """Begin to load and unload what the policy says."""
        before = self.desired.versions
        self.desired.resolve()
        desired = self.desired.versions
        # A version whose worker is being restarted counts as READY: its requests wait for the new worker.
        states = {key: State.READY if each.is_answering else each.state for key, each in self.versions.items()}
        restarting = {key for key, each in self.versions.items() if each.is_restarting}
        actions = next_actions(desired, states, self.desired.changing, restarting)
        for action in actions:
            self._apply(action)
        self._on_change({key.model for key in {*(before.keys() ^ desired.keys()), *(each.key for each in actions)}})

    def _apply(self, action: Action) -> None:
        key = action.key
        if action.verb == "load":
            version = self.versions[key] = self._version(key, self.desired.versions[key])
            self._warn(version.config)
            if version.failed:
                version.fail(version.reason)
            self._tasks[key] = asyncio.create_task(self._load(version))
            if isinstance(version, ModelVersion):
                self._begin(version)
        else:
            log.info("%s is unloaded", key)
            version = self.versions[key]
            version.unloading = True  # set here, not in the task: a client that unloads it must not see it READY again
            self._tasks[key] = asyncio.create_task(self._retire(version, self._tasks[key]))

    def _version(self, key: VersionKey, config: ModelConfig) -> Version:
        if config.steps:
            return PipelineVersion(key, config, self.refresh)
        on_demand = (config.toml.load or self._options.load) == "on_demand"
        on_change = partial(self._on_change, {key.model})
        return ModelVersion(key, config, on_change, self.scan_soon, on_demand, self.on_demand.room.admit)

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
        self.refresh()
        version.stop()
        if not version.workers:
            running.cancel()
        _, slow = await asyncio.wait([running], timeout=self._options.grace_s)
        if slow:
            log.warning("%s: a front did not disconnect in time; killing the worker", version.key)
            version.kill()
        await asyncio.gather(running, return_exceptions=True)
        self.versions.remove(version.key)
        self.on_demand.room.needs.forget([version.key])
        await self.desired.sweep()  # of the files that a client has sent for it
        if self._tasks.get(version.key) is asyncio.current_task():  # it may be back already
            del self._tasks[version.key]
        self.refresh()
        self._wake.set()

    async def _watch_hung(self) -> None:
        while True:
            await asyncio.sleep(_HANG_CHECK_S)
            for version in self.versions.values():
                for worker in list(version.workers):
                    worker.enforce_limits()

    def _instances(self) -> int:
        active = [each for each in self.versions.values() if isinstance(each, ModelVersion) and each.active]
        return sum(each.config.toml.workers for each in active if each.key in self.desired.versions)

    # -- models on demand ----------------------------------------------------------------------------------------------

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

    def _begin(self, version: ModelVersion) -> None:
        """Load a version at once if requests need it, because the files have changed of one that is loaded."""
        if self._is_successor(version):
            version.succeed()
            self._successors.add(version)
        model = version.key.model
        if any(key.model == model and each.is_wanted for key, each in self.versions.items() if each is not version):
            version.want()

    def _is_successor(self, version: Version) -> bool:
        """Return whether a version replaces one of the same model that answers requests."""
        model = version.key.model
        return any(
            key.model == model and key not in self.desired.versions and each.is_answering
            for key, each in self.versions.items()
            if each is not version
        )

    # -- the fronts' table ---------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Publish the table again if anything has changed it, such as the progress of an environment's build."""
        self._on_change()

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
        entries = self._entries.update(self.versions, self.desired.versions, self._entry, models)
        table = Table(entries, self._readiness.is_ready(self.versions.values(), self.desired.can_scan))
        if table != self._table:
            self._table = table
            self._publish(table)
            if self.versions.keys() != self.desired.versions.keys():
                self._wake.set()
        self.state_change.set()
        self.state_change = asyncio.Event()

    def _entry(self, version: Version) -> TableEntry:
        artifact = version.config.artifact
        return version.entry(self._builder.progress(artifact.runtime.name) if artifact else "")

    def status(self, version: Version) -> ModelStatus:
        return self._entry(version).status

    def index(self) -> list[dict[str, str]]:
        """Return every version in the repository, as entries of the v2 repository index."""
        statuses = [self.status(version) for _, version in sorted(self.versions.items())]
        entries = [
            {"name": status.name, "version": status.version, "state": status.state, "reason": status.reason}
            for status in statuses
        ]
        for key in sorted(self.desired.found):
            if not self.desired.selection.is_selected(key.model) and key not in self.versions:
                entries.append(
                    {"name": key.model, "version": key.version, "state": "UNAVAILABLE", "reason": "unloaded"}
                )
        return entries

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

    # -- the end -------------------------------------------------------------------------------------------------------

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

    def kill(self) -> None:
        """Kill every worker."""
        for version in self.versions.values():
            version.kill()

    @property
    def zygotes(self) -> Zygotes | None:
        """The processes that workers are copies of; None if they are not copied."""
        return self._starter.zygotes
