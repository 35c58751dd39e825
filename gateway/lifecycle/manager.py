"""The one reconcile loop: what the repository asks for → policy → workers → the fronts' table."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gateway.config import RepositoryControl
from gateway.domain import default_limits as default
from gateway.domain.table import Entry, Table
from gateway.domain.types import ModelStatus
from gateway.environments.builder import Builder
from gateway.environments.environment import Environment
from gateway.environments.errors import EnvironmentUnavailable
from gateway.environments.runtime import Runtime
from gateway.errors import NotFound, Unavailable, shorten, unknown_model
from gateway.lifecycle import devices
from gateway.lifecycle.control import Control
from gateway.lifecycle.launch import Launch, plan_launch
from gateway.lifecycle.policy import Action, State, Unit, next_actions
from gateway.lifecycle.served import Served, added
from gateway.lifecycle.snapshot import Snapshot, next_snapshot
from gateway.repository.scan import ModelConfig, Scan, scan, with_runtime
from gateway.repository.scanner import Scanner

log = logging.getLogger("models")

_HANG_CHECK_S = 0.25
# What idle workers get to end by themselves when the gateway stops.
_STOP_S = 1.0
_MOVING = (State.LOADING, State.UNLOADING)


@dataclass(frozen=True)
class ManagerOptions:
    repository: Path
    run_dir: Path
    accelerator: str = "cpu"
    poll_s: float = default.POLL_S
    grace_s: float = default.GRACE_S
    strict_readiness: bool = False
    max_response_bytes: int = default.MAX_RESPONSE_BYTES
    audit_share: float = default.AUDIT_SHARE
    control: RepositoryControl = "poll"
    load_model: tuple[str, ...] = ()
    scan: Scan = scan  # of `repository`


class Manager:
    """`publish` gets the table whenever it has changed."""

    def __init__(
        self,
        options: ManagerOptions,
        runtimes: Mapping[str, Runtime],
        builder: Builder,
        publish: Callable[[Table], None],
    ) -> None:
        self.served: dict[Unit, Served] = {}
        # Counted by versions that have left: restarts, and audits with their differences.
        self.restarts: dict[tuple[str, str], int] = {}
        self.audits: dict[tuple[str, str], tuple[int, int]] = {}
        self._options = options
        self._runtimes = runtimes
        self._builder = builder
        self._publish = publish
        self._table = Table()
        # Set to look at the repository at once, and at every change, for whoever waits for a state.
        self._wake = asyncio.Event()
        self._pulse = asyncio.Event()
        self._desired: dict[Unit, ModelConfig] = {}
        self._snapshot = Snapshot()
        self._looking = asyncio.Lock()
        self._scanner = Scanner(options.repository, self._scan, self._is_serving, self._changed)
        self._control = Control(options.control, options.load_model)
        self._loads: dict[str, int] = {}  # model → how often `load` has asked for what is there now
        self._warned: dict[str, str] = {}  # model → the files that its last warning was about
        self._has_settled = False
        self._has_acted = False
        self._closing = False
        self._tasks: dict[Unit, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until cancelled; then `close`."""
        watch = asyncio.create_task(self._watch_hung())
        try:
            while True:
                self._wake.clear()
                await self._look()
                try:
                    async with asyncio.timeout(self._options.poll_s if self._control.kind == "poll" else None):
                        await self._wake.wait()
                except TimeoutError:
                    pass
        finally:
            watch.cancel()

    async def close(self) -> None:
        """Stop every worker; the fronts have left already, so nobody waits for an answer."""
        self._closing = True
        for served in self.served.values():
            served.unloading = True
            served.stop()
            if not served.workers:
                self._tasks[served.unit].cancel()
        if self._tasks:
            _, slow = await asyncio.wait(self._tasks.values(), timeout=_STOP_S)
            self.kill()
            await asyncio.gather(*slow, return_exceptions=True)

    def kill(self) -> None:
        """End every worker at once."""
        for served in self.served.values():
            served.kill()

    def index(self) -> list[dict[str, str]]:
        """Every version there is, as the v2 repository index tells it."""
        statuses = [self.status(served) for _, served in sorted(self.served.items())]
        told = [
            {"name": status.name, "version": status.version, "state": status.state, "reason": status.reason}
            for status in statuses
        ]
        for unit in sorted(self._snapshot.found):
            if not self._control.wants(unit.model) and unit not in self.served:
                told.append({"name": unit.model, "version": unit.version, "state": "UNAVAILABLE", "reason": "unloaded"})
        return told

    def configuration(self, name: str, version: str) -> dict[str, Any]:
        """How a version is served, beside what the fronts know of it. Raises NotFound."""
        found = [served for unit, served in self.served.items() if unit[:2] == (name, version)]
        if not found:
            raise NotFound(f"there is no model '{name}' with version {version}")
        return max(found, key=lambda served: served.admits).configuration()

    def status(self, served: Served) -> ModelStatus:
        return self._entry(served).status

    def refresh(self) -> None:
        """Something that keeps models waiting has changed."""
        self._changed()

    async def load(self, name: str) -> None:
        """Look at the model anew and wait until it has settled.

        Raises NotFound, Unsupported, or Unavailable with the reason.
        """
        self._control.load(name)
        # What is served or broken is loaded again even if no file seems to have changed: not every file system tells.
        # What is being loaded is not: clients that ask again and again would never see an end of it.
        states = [(unit in self._desired, each.state) for unit, each in self.served.items() if unit.model == name]
        if (True, State.LOADING) not in states and any(state not in _MOVING for _, state in states):
            self._loads[name] = self._loads.get(name, 0) + 1
        if not await self._look(name):
            # Clients need not know where it lies.
            raise Unavailable(
                f"model '{name}' was not loaded: the repository cannot be read; the gateway's log says why"
            )
        while self._is_moving(name):
            await self._pulse.wait()
        if not self._control.wants(name):
            raise Unavailable(f"model '{name}' was unloaded while it was being loaded")
        if not any(unit.model == name for unit in self._desired):
            self._control.forget(name)
            self._loads.pop(name, None)
            raise NotFound(f"failed to load '{shorten(name)}': there is no such model in the repository")
        failed = [self.served[unit] for unit in self._desired if unit.model == name and self.served[unit].failed]
        if failed:
            raise Unavailable(f"failed to load '{name}': {failed[0].reason}")

    def _is_moving(self, name: str) -> bool:
        """Whether a model has yet to settle. Its files may be changing; what is unloaded may be wanted again."""
        units = [unit for unit in self._desired if unit.model == name]
        if not units:
            return any(unit.model == name for unit in self._snapshot.found) and self._control.wants(name)
        return any(unit not in self.served or self.served[unit].state in _MOVING for unit in units)

    async def unload(self, name: str) -> None:
        """Serve the model no more, until `load`: no error where it is not served. Raises NotFound, Unsupported."""
        self._control.check()
        if not any(unit.model == name for unit in (*self.served, *self._snapshot.found)):
            raise unknown_model(name)
        self._control.unload(name)
        self._act()

    async def _look(self, name: str = "") -> bool:
        """See what the repository asks for, and act. `name`: somebody asks for this model, so it is not seen twice.

        Whatever goes wrong with the repository, what runs goes on running, and the answer is False. Unless it is
        followed, only what is asked for by name is looked at again, and what its files no longer let come back.
        """
        async with self._looking:
            followed, asked = self._control.kind == "poll", {name} - {""}
            if not followed:
                asked |= {unit.model for unit, served in self.served.items() if served.outdated}
            if followed or asked or not self._has_acted:
                configs = await self._scanner.scan()
                if configs is None:
                    return False
                found = {self._unit(config): config for config in configs}
                if not self._has_acted:
                    self._control.first_look(unit.model for unit in found)
                before = self._snapshot if self._has_acted else None
                self._snapshot = next_snapshot(before, found, self.served, asked, only_asked=not followed)
            self._act()
            return True

    def _scan(self) -> list[ModelConfig]:
        """What the repository asks for, each model with the runtime that is to be. Raises RepositoryError."""
        configs = self._options.scan(self._options.repository, self._runtimes)
        return [with_runtime(config, self._builder.available) for config in configs]

    def _is_serving(self) -> bool:
        return any(not served.unloading for served in self.served.values())

    def _unit(self, config: ModelConfig) -> Unit:
        loads = self._loads.get(config.name, 0)
        return Unit(config.name, config.version, f"{config.fingerprint}.{loads}" if loads else config.fingerprint)

    def _act(self) -> None:
        wanted = self._snapshot.wanted(self._control.wants)
        self._desired = wanted.loadable()
        # A unit whose worker is being restarted still answers: its requests wait for it.
        states = {unit: State.READY if each.admits else each.state for unit, each in self.served.items()}
        for action in next_actions(self._desired, states, wanted.changing()):
            self._do(action)
        self._has_acted = True
        self._changed()

    def _do(self, action: Action) -> None:
        unit = action.unit
        if action.verb == "load":
            served = self.served[unit] = Served(unit, self._desired[unit], self._changed, self._wake.set)
            self._warn(served.config)
            if served.failed:
                served.fail(served.reason)
            self._tasks[unit] = asyncio.create_task(self._live(served))
        else:
            log.info("%s version %s is unloaded", unit.model, unit.version)
            served = self.served[unit]
            served.unloading = True  # here and not in the task: whoever asked for it must not see it READY again
            self._tasks[unit] = asyncio.create_task(self._retire(served, self._tasks[unit]))

    def _warn(self, config: ModelConfig) -> None:
        """Once for a model, and again when its files change: not for each version, nor at each `load`."""
        if config.warning and self._warned.get(config.name) != config.configured:
            self._warned[config.name] = config.configured
            log.warning("%s: %s", config.name, config.warning)

    async def _live(self, served: Served) -> None:
        """Environment, then all instances."""
        artifact, toml = served.config.artifact, served.config.toml
        if artifact is None:
            return
        try:
            wanted = self._options.accelerator
            devices.placement(toml.device, wanted, wanted, 0)  # before anything is built
            environment = await self._builder.environment(artifact.runtime)
            places = served.places = await self._places(served, environment)
            if served.unloading:
                return
            launches = [partial(self._launch, served, environment, place) for place in places * toml.instances]
            for launch in launches:
                launch()  # what cannot be is told before the first worker starts
            async with asyncio.TaskGroup() as group:
                for launch in launches:
                    group.create_task(served.keep(launch, self._options.run_dir))
        except EnvironmentUnavailable as error:
            served.fail(str(error))
        except Exception:
            log.exception("%s version %s could not be started", *served.unit[:2])
            served.fail("it could not be started; the gateway's log says why")

    async def _places(self, served: Served, environment: Environment) -> tuple[str, ...]:
        device = served.config.toml.device
        cards = await asyncio.to_thread(devices.available_cards) if device == ("auto",) else 0
        places = devices.placement(device, self._options.accelerator, environment.accelerator, cards)
        if device == ("auto",):
            log.info("%s version %s: device = 'auto' is %s here", *served.unit[:2], places[0])
        return places

    def _launch(self, served: Served, environment: Environment, place: str) -> Launch:
        instances = sum(each.toml.workers for each in self._desired.values() if each.artifact)
        most, share = self._options.max_response_bytes, self._options.audit_share
        return plan_launch(
            served.config, environment, place, instances, most, served.batching_off, served.may_be_tried, share
        )

    async def _retire(self, served: Served, living: "asyncio.Task[None]") -> None:
        """Out of the table, then stop: fronts answer what they have, close, and the workers end."""
        self._changed()
        served.stop()
        if not served.workers:
            living.cancel()
        _, slow = await asyncio.wait([living], timeout=self._options.grace_s)
        if slow:
            log.warning("%s version %s: a front did not let go in time; its worker is killed", *served.unit[:2])
            served.kill()
        await asyncio.gather(living, return_exceptions=True)
        key = served.unit[:2]
        self.restarts[key] = self.restarts.get(key, 0) + served.restarts
        self.audits[key] = added(self.audits.get(key, (0, 0)), served.audits)
        self.served.pop(served.unit, None)
        self._tasks.pop(served.unit, None)
        self._changed()
        self._wake.set()

    async def _watch_hung(self) -> None:
        while True:
            await asyncio.sleep(_HANG_CHECK_S)
            for served in self.served.values():
                for worker in list(served.workers):
                    worker.kill_if_hung()

    def _entry(self, served: Served) -> Entry:
        artifact = served.config.artifact
        return served.entry(self._builder.progress(artifact.runtime.name) if artifact else "")

    def _changed(self) -> None:
        """Publish the table if it differs, and let whoever waits for a state look again."""
        if self._closing:
            return
        chosen: dict[tuple[str, str], Entry] = {}
        for unit, served in sorted(self.served.items()):
            if served.unloading:
                continue
            entry, key = self._entry(served), (unit.model, unit.version)
            # Two contents of one version: the one that answers, and when both do, the one that is wanted.
            if key not in chosen or (entry.status.admits and (unit in self._desired or not chosen[key].status.admits)):
                chosen[key] = entry
        table = Table(tuple(chosen.values()), self._ready())
        if table != self._table:
            self._table = table
            self._publish(table)
            self._wake.set()
        self._pulse.set()
        self._pulse = asyncio.Event()

    def _ready(self) -> bool:
        """Settled once, a gateway stays ready: a model that is loaded later must not take the others off the air."""
        if not self._has_acted:
            return False
        current = [served for served in self.served.values() if not served.unloading]
        if not self._has_settled and all(served.state not in _MOVING for served in current):
            self._has_settled = True
            ready = sum(served.state is State.READY for served in current)
            log.info("settled: %d of %d model versions are READY", ready, len(current))
        if self._scanner.trouble and current and not any(served.admits for served in current):
            return False  # what is left cannot answer, and nothing new can come
        if self._options.strict_readiness:
            return self._has_settled and all(served.admits for served in current)
        return self._has_settled
