"""What should be served: the versions in the repository, of the models that are selected, with what load requests put
in place of them.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping

from gateway.environments.runtime import Runtime
from gateway.lifecycle.options import ManagerOptions
from gateway.lifecycle.overrides import Overrides
from gateway.lifecycle.policy import VersionKey
from gateway.lifecycle.selection import ModelSelection, steps_below
from gateway.lifecycle.snapshot import RepositorySnapshot, next_snapshot
from gateway.lifecycle.version import Version
from gateway.repository.model_config import ModelConfig, with_runtime
from gateway.repository.scanner import Scanner


class DesiredState:
    """`scan` reads the repository; `resolve` then determines what should be served.

    versions     the versions that should be served, whose files have stopped changing
    changing     models of which nothing may be unloaded: their files change, or are being loaded for a request
    has_scanned  whether a scan has succeeded
    is_complete  whether a scan has found everything
    """

    def __init__(
        self,
        options: ManagerOptions,
        runtimes: Mapping[str, Runtime],
        available: Callable[[Runtime], bool],
        actual: Mapping[VersionKey, Version],
        on_trouble: Callable[[], None],
    ) -> None:
        """actual: the versions that are served. on_trouble: called when a scan fails for a new reason."""
        self.versions: Mapping[VersionKey, ModelConfig] = {}
        self.changing: Collection[str] = ()
        self.is_complete = False
        self.selection = ModelSelection(options.control, options.load_model)
        self.overrides = Overrides(runtimes)
        self._options = options
        self._runtimes = runtimes
        self._available = available
        self._actual = actual
        self._scanner = Scanner(options.repository, self._scan, self._is_serving, on_trouble)
        self._snapshot = RepositorySnapshot()
        self.has_scanned = False
        self._reloads: dict[str, int] = {}  # model → number of forced reloads, which is part of the fingerprint

    @property
    def found(self) -> Mapping[VersionKey, ModelConfig]:
        """The versions that the repository, and load requests, have: selected or not, changing or not."""
        return self._snapshot.found

    @property
    def can_scan(self) -> bool:
        """Whether the last scan succeeded."""
        return not self._scanner.trouble

    def exists(self, name: str) -> bool:
        return any(key.model == name for key in self._snapshot.found)

    def keys(self, name: str) -> list[VersionKey]:
        """Return the keys of a model's versions that should be served."""
        return [key for key in self.versions if key.model == name]

    def steps_below(self, names: Collection[str]) -> set[str]:
        """Return the models that these pipelines run, directly or through other pipelines."""
        return steps_below(names, _steps(self._snapshot.found))

    def force_reload(self, name: str) -> None:
        """Have the model's next scan find another version, even if its files seem unchanged."""
        self._reloads[name] = self._reloads.get(name, 0) + 1

    def forget(self, name: str) -> None:
        """Drop what was kept for a model that does not exist."""
        self.selection.forget(name)
        self._reloads.pop(name, None)

    async def scan(self, name: str = "") -> bool:
        """Read the repository, if it is to be read now; return False if it cannot be. `resolve` it then.

        A model that is requested by `name` is loaded after this one scan. If the scan fails, nothing is unloaded.
        Unless the mode is "poll", only the requested model and outdated ones are updated; outdated models could not
        be loaded because their files had changed.
        """
        polling, requested = self.selection.mode == "poll", {name} - {""}
        if not polling:
            requested |= {key.model for key, version in self._actual.items() if version.outdated}
        if not polling and not requested and self.has_scanned:
            return True
        is_complete = self._options.is_complete()  # before the scan: what arrives meanwhile may be missed
        configs = await self._scanner.scan()
        if configs is None:
            return False
        configs = await asyncio.to_thread(self._overridden, configs)
        found = {self._key(config): config for config in configs}
        if not self.has_scanned:
            self.has_scanned = True
            self.selection.on_first_scan(key.model for key in found)
        if requested:  # the steps of a pipeline are loaded with it, unless they are served
            served = {key.model for key, version in self._actual.items() if not version.unloading}
            requested |= steps_below(requested, _steps(found)) - served
        previous = self._snapshot if self.is_complete else None
        self._snapshot = next_snapshot(previous, found, self._actual, requested, only_requested=not polling)
        self.is_complete = self.is_complete or is_complete
        return True

    def resolve(self) -> None:
        """Determine `versions` and `changing` from the last scan, the selection and what is being loaded."""
        self.selection.on_pipelines(_steps(self._snapshot.found))
        selected = self._snapshot.selected(self.selection.is_selected)
        self.versions = selected.loadable()
        # What an override replaces stays until all of the override has loaded.
        self.changing = selected.changing() | self.overrides.loading

    async def sweep(self) -> None:
        """Delete the temporary files of load requests that nothing uses any more."""
        await self.overrides.sweep(version.config.folder for version in self._actual.values())

    def _scan(self) -> list[ModelConfig]:
        """Return the versions in the repository, each with its runtime on this machine. Raises RepositoryError."""
        configs = self._options.scan(self._options.repository, self._runtimes)
        return [with_runtime(config, self._available) for config in configs]

    def _overridden(self, configs: list[ModelConfig]) -> list[ModelConfig]:
        """Return the versions with what load requests have replaced."""
        return [with_runtime(config, self._available) for config in self.overrides.apply(configs)]

    def _is_serving(self) -> bool:
        """Return whether any model of the repository is served."""
        return any(not version.unloading and not version.config.is_foreign for version in self._actual.values())

    def _key(self, config: ModelConfig) -> VersionKey:
        reloads = self._reloads.get(config.name, 0)
        # A problem may go without a change of the files: those of a disk that was full while an archive was unpacked.
        fingerprint = config.fingerprint + config.problem
        fingerprint = f"{fingerprint}.{reloads}" if reloads else fingerprint
        return VersionKey(config.name, config.version, fingerprint)


def _steps(found: Mapping[VersionKey, ModelConfig]) -> dict[str, set[str]]:
    """Return the models that each pipeline runs, in any of its versions."""
    steps: dict[str, set[str]] = {}
    for key, config in found.items():
        if config.steps:
            steps.setdefault(key.model, set()).update(step.model for step in config.steps)
    return steps
