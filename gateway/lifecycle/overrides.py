"""What load requests have brought: configurations and files that replace those of the repository."""

import asyncio
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import NamedTuple

from gateway.environments.runtime import Runtime
from gateway.errors import Unavailable, shorten
from gateway.repository.errors import RepositoryError
from gateway.repository.model_config import ModelConfig
from gateway.repository.model_folder import ModelFolder, Requested, scan_model
from gateway.repository.scan import scan_one


class Override(NamedTuple):
    """What replaces a model's files or configuration until it is loaded again without that, or unloaded.

    configuration  Triton's, in JSON; None: that of the folder
    folder         in place of the model's own; None: the model's own
    is_temporary   whether the folder is deleted when no version uses it any more
    """

    configuration: str | None = None
    folder: Path | None = None
    is_temporary: bool = False


class Overrides:
    """loading: the models that are being loaded with something."""

    def __init__(self, runtimes: Mapping[str, Runtime]) -> None:
        self._runtimes = runtimes
        self._numbers = count(1)
        self._current: dict[str, tuple[int, Override]] = {}
        self._temporary: set[Path] = set()
        self.loading: set[str] = set()

    def own(self, override: Override | None) -> None:
        """Take over a temporary folder: `sweep` deletes it when nothing uses it."""
        if override is not None and override.is_temporary and override.folder is not None:
            self._temporary.add(override.folder)

    @contextmanager
    def putting(self, name: str, override: Override | None) -> Iterator[None]:
        """Replace what a model has, while it is loaded with it; by nothing if it is None. An error takes this back.

        Raises Unavailable if the model is being loaded with something else, or was in the meantime.
        """
        if override is None:
            self.drop(name)
            yield
            return
        if name in self.loading:
            raise Unavailable(f"model '{shorten(name)}' is being loaded with other files; try again when it has loaded")
        previous = self._current.get(name)
        own = self._current[name] = next(self._numbers), override
        self.loading.add(name)
        try:
            yield
            if self._current.get(name) is not own:
                raise Unavailable(f"model '{shorten(name)}' was loaded without these files while it was being loaded")
        except BaseException:
            if self._current.get(name) is own:
                del self._current[name]
                if previous is not None:
                    self._current[name] = previous
            raise
        finally:
            self.loading.discard(name)

    def drop(self, name: str) -> bool:
        """Let the repository decide about a model again. Return whether something had replaced it."""
        return self._current.pop(name, None) is not None

    def places(self) -> dict[str, str]:
        """Return the models that were loaded from a place outside the repository: name → path."""
        return {
            name: str(each.folder)
            for name, (_, each) in self._current.items()
            if each.folder is not None and not each.is_temporary
        }

    def apply(self, configs: list[ModelConfig]) -> list[ModelConfig]:
        """Return the versions of a scan with those of overridden models replaced. Reads files: call it in a thread."""
        overridden = dict(self._current)
        if not overridden:
            return configs
        found = [config for config in configs if config.name not in overridden]
        for name, (number, override) in overridden.items():
            found += self._scan(name, number, override, [config for config in configs if config.name == name])
        return found

    def _scan(self, name: str, number: int, override: Override, own: list[ModelConfig]) -> list[ModelConfig]:
        configuration, folder = override.configuration, override.folder
        if configuration is None and folder is not None:
            try:
                found = scan_one(folder, self._runtimes, name)
            except OSError:
                found = [ModelConfig(name, "", str(number), problem="its files cannot be read")]
            except RepositoryError as error:
                found = [ModelConfig(name, "", str(number), problem=str(error))]
            return [_numbered(config, number) for config in found]
        requested = Requested(number, configuration or "", has_files=folder is not None)
        if folder is not None:
            model = ModelFolder(name, folder, requested=requested)
            return [replace(config, is_foreign=True) for config in scan_model(model, self._runtimes)]
        if not own:
            return []
        place = next((config.folder for config in own if config.folder is not None), None)
        if place is None:
            problem = "only the configuration of a model with a folder of its own can be replaced"
            return [ModelConfig(name, "", str(number), problem=problem)]
        return scan_model(ModelFolder(name, place, requested=requested), self._runtimes)

    async def sweep(self, used: Iterable[Path | None]) -> None:
        """Delete the temporary folders that nothing uses any more. `used` has those of versions that still run."""
        current = {each.folder for _, each in self._current.values()}
        unused = self._temporary - current - set(used)
        self._temporary -= unused
        for folder in unused:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _numbered(config: ModelConfig, number: int) -> ModelConfig:
    """Return the version with a fingerprint of its own, so that each request loads it again."""
    return replace(config, fingerprint=f"{config.fingerprint}-{number}", files=(), is_foreign=True)
