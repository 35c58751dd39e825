"""What an export works with: the environments of its tools, and the jobs that run in them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from gateway.config import Settings
from gateway.environments.environment import Environment, Locator, build
from gateway.environments.errors import EnvironmentUnavailable
from gateway.environments.runtime import Runtime, converters, discover
from gateway.export.errors import CannotExport
from gateway.export.jobs import Jobs


class Environments:
    """The environments of runtimes and converters by name, each built when it is first needed."""

    def __init__(self, home: Path, settings: Settings, on_progress: Callable[[str], None]) -> None:
        external = {name: each.python for name, each in settings.runtimes.items() if each.python}
        self._locator = Locator(home, "cpu", external, settings.require_locks)
        self._on_progress = on_progress
        self.known: Mapping[str, Runtime] = {**discover(), **converters()}

    def exportable_platforms(self) -> list[str]:
        formats = [each for runtime in self.known.values() for each in runtime.formats if each.export_format]
        return list(dict.fromkeys(each.platform for each in formats))

    async def get(self, name: str) -> Environment:
        """Return the environment, built if necessary. Raises CannotExport."""
        return await self.of(self.known[name])

    async def of(self, runtime: Runtime) -> Environment:
        """Return the runtime's environment, which may have extras, built if necessary. Raises CannotExport."""
        name = runtime.name
        try:
            environment = self._locator.locate(runtime)
            if not environment.ready:
                size = runtime.download_mb.get("cpu", 0)
                self._on_progress(f"building the environment {name}, once: about {size:.0f} MB to download")
                await build(environment, lambda line: self._on_progress(f"  {name}: {line}"))
        except EnvironmentUnavailable as error:
            raise CannotExport(f"the environment {name} is not available: {error}", error.detail) from None
        return environment

    def is_available(self, runtime: Runtime) -> bool:
        """Whether this machine can provide the runtime's environment, built or not."""
        try:
            self._locator.check(runtime)
        except EnvironmentUnavailable:
            return False
        return True


class Workspace(NamedTuple):
    environments: Environments
    jobs: Jobs
