"""Builds the environments that models wait for, one at a time, the smallest download first."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from gateway.environments import environment as environments
from gateway.environments.environment import Environment, Locator
from gateway.environments.errors import EnvironmentUnavailable
from gateway.environments.runtime import Runtime

log = logging.getLogger("environments")


class BuildState(Enum):
    """The state of an environment that a model needs."""

    WAITING = "WAITING"
    BUILDING = "BUILDING"
    READY = "READY"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Progress:
    """The current step of building an environment. since: when building began (time.monotonic() seconds)."""

    step: str
    since: float


class Builder:
    """Locates environments, and builds those that are missing.

    external       runtime → an interpreter that already has its framework
    only           the runtimes to use; empty: all
    on_progress    called whenever progress() may have changed
    require_locks  whether to build only from lock files

    states    runtime → the state of its environment, for those that models have needed so far
    build_s   runtime → how long its newest build took, for those that were built
    """

    def __init__(
        self,
        home: Path,
        accelerator: str,
        external: Mapping[str, Path],
        only: frozenset[str],
        on_progress: Callable[[], None],
        require_locks: bool = False,
    ) -> None:
        self._locator = Locator(home, accelerator, external, require_locks)
        self.states: dict[str, BuildState] = {}
        self.build_s: dict[str, float] = {}
        self._only = only
        self._on_progress = on_progress
        self._known: dict[str, Environment] = {}  # those that were ready
        self._waiting: dict[str, tuple[Environment, asyncio.Future[Environment]]] = {}
        self._building: dict[str, Progress] = {}
        self._task: asyncio.Task[None] | None = None
        self._locating = 0
        self._located = asyncio.Event()
        self._available: dict[str, bool] = {}

    def progress(self, runtime: str) -> str:
        """Return why a model of this runtime waits; "" if its environment is not being built."""
        if runtime in self._building:
            return f"building the {runtime} environment: {self._building[runtime].step}"
        return f"waiting for the {runtime} environment to be built" if runtime in self._waiting else ""

    def elapsed_s(self, runtime: str) -> float:
        """Return for how long the runtime's environment has been under construction; 0 if it is not."""
        return time.monotonic() - self._building[runtime].since if runtime in self._building else 0.0

    def builds(self) -> list[dict[str, Any]]:
        """Return the environments that models wait for: {runtime, step, elapsed_s}. One that waits has no step."""
        return [
            {
                "runtime": name,
                "step": self._building[name].step if name in self._building else "",
                "elapsed_s": round(self.elapsed_s(name), 1),
            }
            for name in self._waiting
        ]

    async def environment(self, runtime: Runtime) -> Environment:
        """Return the runtime's environment, built if necessary. Raises EnvironmentUnavailable."""
        self._check_only(runtime)
        try:
            environment = await self._locate_or_build(runtime)
        except EnvironmentUnavailable:
            self.states[runtime.name] = BuildState.FAILED
            raise
        self.states[runtime.name] = BuildState.READY
        return environment

    async def _locate_or_build(self, runtime: Runtime) -> Environment:
        known = self._known.get(runtime.name)
        if known is not None and known.runtime is runtime and known.python.exists():
            return known
        self._locating += 1
        try:
            environment = await asyncio.to_thread(self._locator.locate, runtime)
        finally:
            self._locating -= 1
            self._located.set()
        if environment.ready:
            self._known[runtime.name] = environment
            return environment
        if runtime.name not in self._waiting:
            self._waiting[runtime.name] = (environment, asyncio.get_running_loop().create_future())
            self.states[runtime.name] = BuildState.WAITING
        _, future = self._waiting[runtime.name]
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._build_all())
        return await asyncio.shield(future)

    def available(self, runtime: Runtime) -> bool:
        """Whether this machine can provide the runtime, built or not. If not, its fallback serves. Thread-safe.

        The result is cached, so that a model's runtime does not change while the gateway runs.
        """
        if runtime.name not in self._available:
            try:
                self._check_only(runtime)
                self._locator.check(runtime)
                self._available[runtime.name] = True
            except EnvironmentUnavailable as error:
                self._available[runtime.name] = False
                log.info("the runtime %s is not available here: %s", runtime.name, error)
        return self._available[runtime.name]

    def _check_only(self, runtime: Runtime) -> None:
        if self._only and runtime.installed_name not in self._only:
            raise EnvironmentUnavailable(
                f"the runtime {runtime.installed_name} is disabled: --only allows {', '.join(sorted(self._only))}"
            )

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _build_all(self) -> None:
        while self._waiting:
            # Locate everything that was requested at the same time before choosing the smallest.
            while self._locating:
                self._located.clear()
                await self._located.wait()
            # One of unknown size comes last.
            name = min(self._waiting, key=lambda each: self._size_mb(self._waiting[each][0].runtime) or math.inf)
            environment, future = self._waiting[name]
            try:
                await self._build(environment)
            except EnvironmentUnavailable as error:
                log.warning("%s: %s", name, error)
                for line in error.detail.splitlines():
                    log.warning("%s: %s", name, line)
                _settle(future, error)
            except Exception:
                log.exception("building the %s environment failed", name)
                _settle(
                    future, EnvironmentUnavailable("its environment could not be built; the gateway's log says why")
                )
            else:
                future.set_result(environment)
            finally:
                self._waiting.pop(name, None)
                self._building.pop(name, None)
                self._on_progress()

    def _size_mb(self, runtime: Runtime) -> float:
        return runtime.download_mb.get(runtime.accelerator(self._locator.accelerator), 0)

    async def _build(self, environment: Environment) -> None:
        name, since = environment.runtime.name, time.monotonic()

        def set_step(step: str) -> None:
            self._building[name] = Progress(step, since)
            self.states[name] = BuildState.BUILDING
            self._on_progress()

        size_mb = self._size_mb(environment.runtime)
        size = f"about {size_mb:.0f} MB to download" if size_mb else "a download of unknown size"
        log.info(
            "%s: building its environment (only once; %s; %s)",
            name,
            size,
            "locked" if environment.locked else "not locked",
        )
        set_step(size)
        await environments.build(environment, set_step)
        self.build_s[name] = time.monotonic() - since
        log.info("%s: its environment is ready after %.0f s", name, self.build_s[name])


def _settle(future: "asyncio.Future[Environment]", error: Exception) -> None:
    future.set_exception(error)
    future.exception()  # mark it as retrieved: a model that was unloaded meanwhile no longer awaits it
