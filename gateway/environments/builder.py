"""Builds the environments that models wait for, one after the other, the smallest download first."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.environments import environment as environments
from gateway.environments.environment import Environment, Locator
from gateway.environments.errors import EnvironmentUnavailable
from gateway.environments.runtime import Runtime

log = logging.getLogger("environments")


@dataclass(frozen=True)
class Progress:
    """What is being done for a runtime's environment, and since when (time.monotonic() seconds)."""

    what: str
    since: float


class Builder:
    """`external` names interpreters that already have a runtime's framework; `only` limits what is built."""

    def __init__(
        self,
        home: Path,
        accelerator: str,
        external: Mapping[str, Path],
        only: frozenset[str],
        on_progress: Callable[[], None],
    ) -> None:
        self._locator = Locator(home, accelerator, external)
        self._only = only
        self._on_progress = on_progress
        self._waiting: dict[str, tuple[Environment, asyncio.Future[Environment]]] = {}
        self._building: dict[str, Progress] = {}
        self._task: asyncio.Task[None] | None = None
        self._locating = 0
        self._located = asyncio.Event()
        self._available: dict[str, bool] = {}

    def progress(self, runtime: str) -> str:
        """What keeps a model of this runtime waiting; "" when nothing is built for it."""
        if runtime in self._building:
            return f"building the {runtime} environment: {self._building[runtime].what}"
        return f"waiting for the {runtime} environment to be built" if runtime in self._waiting else ""

    def elapsed_s(self, runtime: str) -> float:
        """How long the runtime's environment has been under construction; 0 when it is not."""
        return time.monotonic() - self._building[runtime].since if runtime in self._building else 0.0

    async def environment(self, runtime: Runtime) -> Environment:
        """The runtime's environment, built if need be. Raises EnvironmentUnavailable."""
        self._check_only(runtime)
        self._locating += 1
        try:
            found = await asyncio.to_thread(self._locator.locate, runtime)
        finally:
            self._locating -= 1
            self._located.set()
        if found.ready:
            return found
        if runtime.name not in self._waiting:
            self._waiting[runtime.name] = (found, asyncio.get_running_loop().create_future())
        _, future = self._waiting[runtime.name]
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._build_all())
        return await asyncio.shield(future)

    def available(self, runtime: Runtime) -> bool:
        """Whether this machine can have it, built or not: what stands in for it is used if not. Any thread's.

        The answer is kept: a model's runtime does not change while the gateway runs.
        """
        if runtime.name not in self._available:
            try:
                self._check_only(runtime)
                self._locator.check(runtime)
                self._available[runtime.name] = True
            except EnvironmentUnavailable as error:
                self._available[runtime.name] = False
                log.info("the runtime %s cannot be had here: %s", runtime.name, error)
        return self._available[runtime.name]

    def _check_only(self, runtime: Runtime) -> None:
        if self._only and runtime.name not in self._only:
            raise EnvironmentUnavailable(
                f"the runtime {runtime.name} is left out: only {', '.join(sorted(self._only))} was asked for"
            )

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _build_all(self) -> None:
        while self._waiting:
            # All that ask at the same time are looked at before the smallest is chosen.
            while self._locating:
                self._located.clear()
                await self._located.wait()
            name = min(self._waiting, key=lambda each: self._size_mb(self._waiting[each][0].runtime))
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

        def told(what: str) -> None:
            self._building[name] = Progress(what, since)
            self._on_progress()

        size = f"about {self._size_mb(environment.runtime):.0f} MB to download"
        log.info("%s: building its environment, once: %s", name, size)
        told(size)
        await environments.build(environment, told)
        log.info("%s: its environment is ready after %.0f s", name, time.monotonic() - since)


def _settle(future: "asyncio.Future[Environment]", error: Exception) -> None:
    future.set_exception(error)
    future.exception()  # a model that was unloaded meanwhile does not come for it
