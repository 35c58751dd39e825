"""What `modelport serve` serves: one folder, several places, or the models of a models.config."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from gateway.config import Settings, SettingsError, split_names
from gateway.contents.errors import StoreError
from gateway.environments.runtime import Runtime
from gateway.remote.fetch import cache_folder, shared_cache
from gateway.remote.location import BadLocation, is_remote
from gateway.remote.mirrors import Mirrors
from gateway.remote.repositories import Repositories, scan_mirrored_model
from gateway.repository.model_config import ModelConfig
from gateway.repository.model_toml import ModelToml
from gateway.repository.scan import Scan, is_repository, models_in, scan
from gateway.repository.scan_cache import ScanCache

log = logging.getLogger("gateway")


def _no_mirrors() -> Mirrors:
    return Mirrors({}, shared_cache, 1.0)


@dataclass(frozen=True)
class Served:
    """path: what `scan` is called with. folder_of: model → the folder of its repository; None if it is in none."""

    path: Path
    scan: Scan = scan
    mirrors: Mirrors = field(default_factory=_no_mirrors)
    folder_of: Callable[[str], Path | None] = lambda _: None


def one_folder(path: Path) -> Served:
    """A repository, or a single artifact, on this machine."""
    repository = path.absolute() if path.is_dir() else None
    return Served(path, partial(scan, cache=ScanCache()), folder_of=lambda _: repository)


def open_places(places: Sequence[str], settings: Settings, runtimes: Mapping[str, Runtime]) -> Served:
    """Return what these places have: paths and URLs, or a single models.config. Raises SettingsError.

    The files of remote places are downloaded from `Mirrors.start` on.
    """
    if not settings.models_config and len(places) == 1 and not is_remote(places[0]):
        return _with_name(one_folder(Path(places[0]).absolute()), settings, runtimes)
    lazy = settings.repository_control == "explicit" and "*" not in split_names(settings.load_model)
    mirrors = Mirrors(
        runtimes,
        lambda: shared_cache(settings.model_cache_bytes, settings.model_cache),
        settings.remote_poll_s,
        lazy,
    )
    if settings.model_name and (settings.models_config or len(places) > 1):
        _warn_of_name("models_config names its models" if settings.models_config else "there are several repositories")
    if settings.models_config:
        return Served(Path(places[0]).absolute(), _models_config(mirrors, runtimes), mirrors)
    try:
        repositories = Repositories(places, mirrors, settings.model_name if len(places) == 1 else "")
    except (BadLocation, StoreError) as error:
        raise SettingsError(str(error)) from None
    local = [place for place in places if not is_remote(place)]
    path = Path(local[0]).absolute() if local else cache_folder(settings.model_cache)
    return Served(path, repositories, mirrors, repositories.folder_of)


def _with_name(served: Served, settings: Settings, runtimes: Mapping[str, Runtime]) -> Served:
    """Return what is served at one path, under the name that the settings have for a single model."""
    if settings.sagemaker_multi_model:
        return replace(served, scan=_no_models)
    if not settings.model_name:
        return served
    if served.path.is_dir() and is_repository(served.path, runtimes) and models_in(served.path):
        _warn_of_name(f"{served.path} is a repository, whose folders name the models")
    return replace(served, scan=partial(scan, model_name=settings.model_name, cache=ScanCache()))


def _warn_of_name(reason: str) -> None:
    log.warning("model_name is not used, because %s", reason)


def _no_models(path: Path, runtimes: Mapping[str, Runtime]) -> list[ModelConfig]:
    """Return the models at the start if SageMaker loads all of them."""
    return []


def _models_config(mirrors: Mirrors, runtimes: Mapping[str, Runtime]) -> Scan:
    from gateway.repository.models_config import ModelsConfig  # imports protobuf, which nothing else here needs

    named: set[tuple[str, str]] = set()

    def scan_remote(url: str, name: str, overrides: ModelToml) -> list[ModelConfig]:
        named.add((url, name))
        try:
            mirror = mirrors.get(url, name, overrides)
        except (BadLocation, StoreError) as error:
            return [ModelConfig(name, "", str(error), problem=f"its base_path cannot be used: {error}")]
        return scan_mirrored_model(mirror, name, overrides, runtimes)

    scan_file = ModelsConfig(scan_remote)

    def scan_all(path: Path, runtimes: Mapping[str, Runtime]) -> list[ModelConfig]:
        named.clear()
        configs = scan_file(path, runtimes)
        mirrors.keep_only(named)
        return configs

    return scan_all
