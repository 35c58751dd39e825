"""`modelport serve`: the supervisor with a face."""

import asyncio
import logging
import sys
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.logging import RichHandler

from gateway.config import Settings, SettingsError, parse_address
from gateway.console import Row, screen, state_word
from gateway.engine.types import ModelStatus
from gateway.environments.runtime import discover
from gateway.repository.scan import RepositoryError, scan
from gateway.supervisor import Supervisor

log = logging.getLogger("gateway")

_REFRESH_S = 0.5
_LONGEST_HINT = 150
_FEW, _MANY = 8, 1000


def serve(repository: Path, settings: Settings, only: frozenset[str]) -> int:
    """Until a signal ends it; the exit code. Raises SettingsError."""
    console = Console(stderr=True)
    _log_to(console)
    runtimes = discover()
    if unknown := only - set(runtimes):
        raise SettingsError(f"--only: there is no runtime '{min(unknown)}'; there are {', '.join(runtimes)}")
    try:
        scan(repository, runtimes)
    except RepositoryError as error:
        print(f"modelport: {error}", file=sys.stderr)
        return 2
    supervisor = Supervisor(repository.absolute(), settings, runtimes, only)
    asyncio.run(_serve(supervisor, console))
    return 0


def _log_to(console: Console) -> None:
    if console.is_terminal:
        handler: logging.Handler = RichHandler(console=console, show_path=False, log_time_format="%X", markup=False)
        layout = "%(name)s: %(message)s"
    else:
        handler = logging.StreamHandler()
        layout = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=layout, handlers=[handler])


async def _serve(supervisor: Supervisor, console: Console) -> None:
    supervisor.handle_signals()
    ports = supervisor.ports()
    http = parse_address(supervisor.settings.http).url_host + f":{ports['http']}"
    grpc = parse_address(supervisor.settings.grpc).url_host + f":{ports['grpc']}"
    metrics = http
    if "metrics" in ports:
        metrics = parse_address(supervisor.settings.metrics).url_host + f":{ports['metrics']}"
    log.info("REST on http://%s, gRPC on %s, metrics on http://%s/metrics", http, grpc, metrics)
    if not console.is_terminal:
        await supervisor.run(lambda: log.info("serving"))
        return
    with Live(screen([], []), console=console, auto_refresh=False) as live:
        face = asyncio.create_task(_refresh(supervisor, live, http))
        try:
            await supervisor.run()
        finally:
            face.cancel()


async def _refresh(supervisor: Supervisor, live: Live, http: str) -> None:
    while True:
        live.update(screen(rows(supervisor), hints(supervisor, http)), refresh=True)
        await asyncio.sleep(_REFRESH_S)


def rows(supervisor: Supervisor) -> list[Row]:
    made = []
    for unit, served in sorted(supervisor.manager.served.items()):
        artifact = served.config.artifact
        runtime = artifact.runtime.name if artifact else "-"
        building = supervisor.builder.progress(runtime)
        status = supervisor.manager.status(served)
        detail = status.reason
        if elapsed := supervisor.builder.elapsed_s(runtime):
            detail = f"{detail}, {elapsed:.0f} s"
        made.append(Row(unit.model, unit.version or "-", runtime, state_word(status.state, bool(building)), detail))
    return made


def hints(supervisor: Supervisor, http: str) -> list[str]:
    """A line to try, for the first model that is ready."""
    for served in supervisor.manager.served.values():
        status = supervisor.manager.status(served)
        if status.state == "READY":
            return ["try:  " + curl(status, http)]
    return ["no model is ready yet"]


def curl(status: ModelStatus, http: str) -> str:
    """A command that asks the model something it will take; without known shapes, for its metadata.

    It stays short, since a terminal that breaks the line breaks the command.
    """
    signature = status.signature()
    specs = signature.inputs if signature else ()
    if any(spec.shape is None or spec.datatype in ("", "BYTES", "BOOL") for spec in specs):
        specs = ()
    inputs = ", ".join(f'"{spec.name}": {_example(spec.shape or ())}' for spec in specs)
    command = f"curl http://{http}/predict/{status.name} -d '{{\"inputs\": {{{inputs}}}}}'"
    if not specs or len(command) > _LONGEST_HINT:
        return f"curl http://{http}/v2/models/{status.name}"
    return command


def _example(shape: tuple[int, ...]) -> str:
    if not shape:
        return "1"
    size = abs(shape[0])
    if len(shape) == 1 and size > _FEW:
        return f"['$(yes 1 | head -{size} | paste -sd, -)']"  # the shell writes the numbers
    return "[" + ", ".join([_example(shape[1:])] * min(size, _MANY)) + "]"
