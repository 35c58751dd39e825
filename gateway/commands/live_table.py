"""The live table of `modelport serve` on a terminal: the state of every model, and a command to try."""

import asyncio
import logging

from rich.console import Console
from rich.live import Live
from rich.logging import RichHandler

from gateway.commands.connection import KEY_VARIABLE
from gateway.commands.console import Row, screen, state_word
from gateway.domain.types import ModelStatus
from gateway.supervisor.supervisor import Supervisor
from runtimes.contract import kind_of

_REFRESH_S = 0.5
# A longer command is hard to read, and wraps in most terminals.
_MAX_HINT_LENGTH = 150
# The variable from which modelport's own commands take the key.
_WITH_KEY = f'curl -H "X-API-Key: ${KEY_VARIABLE}"'
# Up to _FEW values are written out; more are produced by a shell command. No dimension repeats more than _MANY times.
_FEW, _MANY = 8, 1000


class LiveTable:
    """A table below the log. All terminal output goes through its console, so that log lines stay above the table."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    def log_handler(self) -> logging.Handler:
        return RichHandler(console=self._console, show_path=False, log_time_format="%X", markup=False)

    async def run(self, supervisor: Supervisor, url: str) -> None:
        """Run the supervisor with the table below its log. url: of REST, for the command to try."""
        with Live(screen([], []), console=self._console, auto_refresh=False) as live:
            refreshing = asyncio.create_task(_refresh(supervisor, live, url))
            try:
                await supervisor.run()
            finally:
                refreshing.cancel()


async def _refresh(supervisor: Supervisor, live: Live, url: str) -> None:
    while True:
        lines = [*hints(supervisor, url, live.console.width), *notes(supervisor)]
        live.update(screen(rows(supervisor), lines), refresh=True)
        await asyncio.sleep(_REFRESH_S)


def rows(supervisor: Supervisor) -> list[Row]:
    found = []
    for key, version in sorted(supervisor.manager.versions.items()):
        artifact = version.config.artifact
        runtime = artifact.runtime.name if artifact else "pipeline" if version.config.steps else "-"
        building = supervisor.builder.progress(runtime)
        status = supervisor.manager.status(version)
        detail = status.reason
        if elapsed := supervisor.builder.elapsed_s(runtime):
            detail = f"{detail}, {elapsed:.0f} s"
        found.append(Row(key.model, key.version or "-", runtime, state_word(status.state, bool(building)), detail))
    return found


def hints(supervisor: Supervisor, url: str, width: int) -> list[str]:
    """Return a heading and a command to try for the first model that is ready."""
    for version in supervisor.manager.versions.values():
        status = supervisor.manager.status(version)
        if status.state == "READY":
            client = _WITH_KEY if supervisor.identities.requires_keys else "curl"
            return ["Try it:", curl(status, url, min(width, _MAX_HINT_LENGTH), client)]
    return ["no model is ready yet"]


def notes(supervisor: Supervisor) -> list[str]:
    """Return what the operator should know about who may do what."""
    return [supervisor.identities.note] if supervisor.identities.note else []


def curl(status: ModelStatus, url: str, longest: int = _MAX_HINT_LENGTH, client: str = "curl") -> str:
    """Return a curl command that the model accepts; without known shapes, one for its metadata.

    It has at most `longest` characters, because a line break by the terminal would break the command.
    """
    signature = status.signature()
    specs = signature.inputs if signature else ()
    if any(spec.shape is None or kind_of(spec.datatype) in ("", "bytes", "bool") for spec in specs):
        specs = ()
    inputs = ", ".join(f'"{spec.name}": {_example(spec.shape or ())}' for spec in specs)
    command = f"{client} {url}/predict/{status.name} -d '{{\"inputs\": {{{inputs}}}}}'"
    if not specs or len(command) > longest:
        return f"{client} {url}/v2/models/{status.name}"
    return command


def _example(shape: tuple[int, ...]) -> str:
    if not shape:
        return "1"
    size = abs(shape[0])
    if len(shape) == 1 and size > _FEW:
        return f"['$(yes 1 | head -{size} | paste -sd, -)']"  # the shell writes the numbers
    return "[" + ", ".join([_example(shape[1:])] * min(size, _MANY)) + "]"
