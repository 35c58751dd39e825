"""`modelport serve`: the supervisor with a face."""

import asyncio
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.config import Settings, SettingsError, parse_address
from gateway.environments.runtime import discover
from gateway.process.file_limit import raise_open_files
from gateway.repository.scan import RepositoryError, Scan, scan
from gateway.supervisor.supervisor import Supervisor

if TYPE_CHECKING:
    from gateway.commands.live_table import Face

log = logging.getLogger("gateway")


def serve(repository: Path, settings: Settings, only: frozenset[str]) -> int:
    """Until a signal ends it; the exit code. `repository`: models.config, with that setting. Raises SettingsError."""
    face = _face()
    _log_to(face)
    raise_open_files()  # fronts get it too: connections are theirs
    runtimes = discover()
    if unknown := only - set(runtimes):
        raise SettingsError(f"--only: there is no runtime '{min(unknown)}'; there are {', '.join(runtimes)}")
    look: Scan = scan
    if settings.models_config:
        from gateway.repository.models_config import ModelsConfig  # it needs protobuf, which others do without

        look = ModelsConfig()
    try:
        repository = repository.absolute()
        look(repository, runtimes)
        supervisor = Supervisor(repository, settings, runtimes, only, look)
    except RepositoryError as error:
        raise SettingsError(str(error)) from None
    except OSError as error:  # a folder that may not be entered, no room on the disk, and so on
        raise SettingsError(f"{error.filename or repository}: {error.strerror or error}") from None
    asyncio.run(_serve(supervisor, face))
    return 0


def _face() -> "Face | None":
    """None where nobody looks: a service starts without what only a terminal needs."""
    if not sys.stderr.isatty():
        return None
    from gateway.commands.live_table import Face

    return Face()


def _log_to(face: "Face | None") -> None:
    if face is not None:
        handler = face.log_handler()
        layout = "%(name)s: %(message)s"
    else:
        handler = logging.StreamHandler()
        layout = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=layout, handlers=[handler])


async def _serve(supervisor: Supervisor, face: "Face | None") -> None:
    supervisor.handle_signals()
    ports = supervisor.ports()
    http = parse_address(supervisor.settings.http).url_host + f":{ports['http']}"
    grpc = parse_address(supervisor.settings.grpc).url_host + f":{ports['grpc']}"
    metrics = http
    if "metrics" in ports:
        metrics = parse_address(supervisor.settings.metrics).url_host + f":{ports['metrics']}"
    log.info("REST on http://%s, gRPC on %s, metrics on http://%s/metrics", http, grpc, metrics)
    if face is None:
        await supervisor.run(lambda: log.info("serving"))
    else:
        await face.run(supervisor, http)
