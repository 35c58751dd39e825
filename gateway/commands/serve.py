"""`modelport serve`: runs the supervisor, with a live table if standard error is a terminal."""

import asyncio
import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.config import Settings, SettingsError, parse_address
from gateway.environments.runtime import discover
from gateway.process.file_limit import raise_open_files
from gateway.repository.archives import leaving_packed
from gateway.repository.errors import RepositoryError
from gateway.supervisor.fronts import NoFrontStarted
from gateway.supervisor.log_output import LogOutput
from gateway.supervisor.served import open_places
from gateway.supervisor.supervisor import Supervisor

if TYPE_CHECKING:
    from gateway.commands.live_table import LiveTable

log = logging.getLogger("gateway")


def serve(places: Sequence[str], settings: Settings, only: frozenset[str], reason: str = "") -> int:
    """Serve until a signal arrives. Return the exit code. Raises SettingsError.

    places  paths and URLs of repositories or artifacts; the models.config file if that setting is used
    reason  why these were chosen, if the command line does not name them
    """
    live_table = _live_table(settings)
    log_output = LogOutput(settings.log, None if live_table is None else live_table.log_handler())
    log_output.install()
    raise_open_files()  # fronts inherit the limit, and need it for their connections
    runtimes = discover()
    if unknown := only - set(runtimes):
        raise SettingsError(f"--only: there is no runtime '{min(unknown)}'; there are {', '.join(runtimes)}")
    if reason:
        log.info("serving %s: %s", places[0], reason)
    try:
        # Of a repository, archives are unpacked when the ports are open: whoever asks whether the server is live must
        # not end it meanwhile. A single one is needed to say whether it can be served at all.
        with nullcontext() if Path(places[0]).is_file() else leaving_packed():
            served = open_places(places, settings, runtimes)
            served.scan(served.path, runtimes)
        supervisor = Supervisor(served, settings, runtimes, only, log_output)
    except RepositoryError as error:
        raise SettingsError(str(error)) from None
    except OSError as error:  # no permission for a folder, no space on the disk, and so on
        raise SettingsError(f"{error.filename or places[0]}: {error.strerror or error}") from None
    try:
        asyncio.run(_serve(supervisor, live_table))
    except NoFrontStarted as error:
        log.error("%s", error)
        return 1
    return 0


def _live_table(settings: Settings) -> "LiveTable | None":
    """Return None without a terminal, so that a service does not import what only a terminal needs."""
    if settings.log != "text" or not sys.stderr.isatty():
        return None
    from gateway.commands.live_table import LiveTable

    return LiveTable()


async def _serve(supervisor: Supervisor, live_table: "LiveTable | None") -> None:
    supervisor.handle_signals()
    ports = supervisor.ports.numbers()
    http = parse_address(supervisor.settings.http).url_host + f":{ports['http']}"
    grpc = parse_address(supervisor.settings.grpc).url_host + f":{ports['grpc']}"
    metrics = http
    if "metrics" in ports:
        metrics = parse_address(supervisor.settings.metrics).url_host + f":{ports['metrics']}"
    scheme, security = ("https", " (TLS)") if supervisor.settings.tls_cert else ("http", "")
    url = f"{scheme}://{http}"
    log.info("REST on %s, gRPC on %s%s, metrics on %s://%s/metrics", url, grpc, security, scheme, metrics)
    if supervisor.identities.note:
        log.warning("%s", supervisor.identities.note)
    if live_table is None:
        await supervisor.run(lambda: log.info("serving"))
    else:
        await live_table.run(supervisor, url)
