"""The options of a manager."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.config import ModelLoading, RepositoryControl
from gateway.domain import default_limits as default
from gateway.lifecycle.needs_file import NeedsFile
from gateway.lifecycle.starter import StarterOptions
from gateway.repository.scan import Scan, scan


@dataclass(frozen=True)
class ManagerOptions:
    """workers: what all of them have in common. scan: called with `repository`.

    load          when models are loaded whose model.toml does not say so
    memory_limit  the bytes that all processes may take, for which models on demand are unloaded; 0: any
    needs         where it is kept what models need, for the next start; None: nowhere
    is_complete   whether the scan finds everything; False while a remote repository has not been read yet
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
